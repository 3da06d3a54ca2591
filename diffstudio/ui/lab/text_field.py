"""TextField: a text argument of a verb, such as a prompt."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtWidgets import QLineEdit, QVBoxLayout

from diffstudio.ui.lab.arguments import taken
from diffstudio.ui.lab.fields import Field
from diffstudio.ui.widgets.helpers import describe, label, limit_length, takes_text_only

_LONGEST = 4_000  # characters


class TextField(Field):
    """A line of text, behind a flag or, as a positional argument, without one. With `missing` it must not be empty.

    `dashed` is the flag of a positional argument for texts that begin with `-`, which the command takes for a flag.

    `check` gives a sentence for a text that cannot be used, and nothing for others.
    """

    def __init__(
        self,
        text: str,
        flag: str,
        missing: str = "",
        *,
        tooltip: str,
        placeholder: str = "",
        dashed: str = "",
        check: Callable[[str], str] = lambda text: "",
    ) -> None:
        super().__init__()
        self._flag, self._missing, self._dashed, self._check = flag, missing, dashed, check
        self.line = QLineEdit()
        takes_text_only(self.line)
        limit_length(self.line, _LONGEST)
        self.line.setPlaceholderText(placeholder)
        describe(self.line, text, tooltip)
        name = label(text)
        name.setBuddy(self.line)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(name)
        column.addWidget(self.line)
        describe(self, text, tooltip)
        self.setFocusProxy(self.line)
        self.line.textChanged.connect(lambda _: self.changed.emit())

    def value(self) -> str:
        return self.line.text()

    def arguments(self) -> list[str]:
        text = self.value()
        if self._flag:
            return [f"{self._flag}={text}"] if text.strip() else []
        if self._dashed and text.startswith("-"):
            return [f"{self._dashed}={text}"]
        return [text] if text else []

    def problem(self) -> str:
        text = self.value().strip()
        return self._check(text) if text else self._missing

    def fill(self, rest: list[str]) -> None:
        flag = self._flag or self._dashed
        found = taken(rest, flag) if flag else None
        if found is None and not self._flag and rest:
            found = rest.pop()
        self.line.setText(found or "")

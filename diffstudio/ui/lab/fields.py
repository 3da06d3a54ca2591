"""The fields of the Lab's forms. Each stands for one argument of the command line.

`arguments()` are those that the field adds to the command; `problem()` says why the job cannot be started yet.
`fill(rest)` shows the arguments of an earlier job and removes them from `rest`; fields with flags are filled first.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.studio.library.references import ModelRenamed
from diffstudio.ui.lab.arguments import taken
from diffstudio.ui.widgets.helpers import describe, label
from diffstudio.ui.widgets.images.drag_and_drop import DroppedItem
from diffstudio.ui.widgets.inputs.check_box import CheckBox
from diffstudio.ui.widgets.inputs.chip_row import ChipRow
from diffstudio.ui.widgets.inputs.combo_box import LabelledComboBox
from diffstudio.ui.widgets.inputs.sliders import LabelledSlider


class Field(QWidget):
    """One argument of a verb."""

    changed = Signal()

    @abstractmethod
    def arguments(self) -> list[str]: ...

    def problem(self) -> str:
        """A sentence about what is missing; empty if nothing is."""
        return ""

    @abstractmethod
    def fill(self, rest: list[str]) -> None: ...

    def drop_text(self, items: Sequence[DroppedItem]) -> str:
        """The effect of dropping these items on the field; empty if it accepts none of them."""
        return ""

    def take(self, items: Sequence[DroppedItem]) -> None:
        """Use dropped items."""

    def offer(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Set the checkpoints that can be chosen."""

    def follow_renamed(self, change: ModelRenamed) -> None:
        """Keep a model chosen that was renamed."""


class NumberField(Field):
    """A number with or without a flag; at its smallest value the flag is left out, and `automatic` is shown."""

    def __init__(
        self,
        text: str,
        flag: str,
        minimum: float,
        maximum: float,
        *,
        tooltip: str,
        automatic: str = "",
        value: float | None = None,
        step: float = 1,
        decimals: int = 0,
        suffix: str = "",
        always: bool = False,
    ) -> None:
        """`always` writes the flag for every value, because the command requires it."""
        super().__init__()
        self._flag, self._automatic, self._always = flag, automatic, always
        self._first = minimum if value is None else value
        self._minimum, self._decimals = minimum, decimals
        self.slider = LabelledSlider(
            text,
            minimum,
            maximum,
            self._first,
            step=step,
            decimals=decimals,
            suffix=suffix,
            tooltip=tooltip,
            zero=automatic,
        )
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.slider)
        self.slider.value_changed.connect(lambda _: self.changed.emit())

    def value(self) -> float:
        return self.slider.value()

    def arguments(self) -> list[str]:
        value = self.slider.value()
        if not self._flag:
            return [str(value)]
        left_out = value == (self._minimum if self._automatic else self._first)
        return [] if left_out and not self._always else [self._flag, f"{value:g}" if self._decimals else str(value)]

    def fill(self, rest: list[str]) -> None:
        if self._flag:
            found = taken(rest, self._flag)
        else:
            found = rest.pop() if rest and rest[-1].isdecimal() else None
        try:
            self.slider.set_value(float(found) if found is not None else self._first)
        except ValueError:
            self.slider.set_value(self._first)
        self.changed.emit()


class ChoiceField(Field):
    """A drop-down with a flag; its first choice leaves the flag out."""

    def __init__(self, text: str, flag: str, choices: Sequence[tuple[Any, str]], *, tooltip: str) -> None:
        super().__init__()
        self.flag, self._choices = flag, list(choices)
        self.combo = LabelledComboBox(text, choices, tooltip)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.combo)
        self.combo.value_changed.connect(lambda _: self.changed.emit())

    def values(self) -> list[Any]:
        """All that can be chosen."""
        return [value for value, _ in self._choices]

    def arguments(self) -> list[str]:
        value = self.combo.value()
        return [] if value == self._choices[0][0] else [self.flag, str(value)]

    def fill(self, rest: list[str]) -> None:
        found = taken(rest, self.flag)
        if found is not None and found not in self.values():
            self._choices.append((found, found))  # a path, or a choice of another version
            self.combo.set_choices(self._choices)
        self.combo.set_value(self._choices[0][0] if found is None else found)


class SeveralField(Field):
    """Any of several names, separated by commas after a flag; if all are chosen the flag is left out."""

    def __init__(self, text: str, flag: str, choices: Sequence[tuple[str, str]], *, tooltip: str, none: str) -> None:
        super().__init__()
        self._text, self.flag, self._choices, self._none = text, flag, list(choices), none
        self._all = tuple(value for value, _ in choices)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(4)
        self._column.addWidget(label(text))
        describe(self, text, tooltip)
        self.chips = self._chip_row(self._all)

    def values(self) -> list[str]:
        """All that can be chosen."""
        return [value for value, _ in self._choices]

    def value(self) -> tuple[str, ...]:
        chosen: tuple[str, ...] = self.chips.value()
        return chosen

    def arguments(self) -> list[str]:
        chosen = self.value()
        return [] if chosen == self._all else [self.flag, ",".join(chosen) or self._none]

    def fill(self, rest: list[str]) -> None:
        found = taken(rest, self.flag)
        names = self._all if found is None else tuple(one for one in found.split(",") if one not in ("", self._none))
        self._choices += [(name, name) for name in names if name not in dict(self._choices)]
        self._column.removeWidget(self.chips)
        self.chips.hide()
        self.chips.deleteLater()
        self.chips = self._chip_row(names)
        self.changed.emit()

    def _chip_row(self, chosen: Sequence[str]) -> ChipRow:
        chips = ChipRow(self._choices, exclusive=False, name=self._text)
        chips.set_value(chosen)
        chips.value_changed.connect(lambda _: self.changed.emit())
        self._column.addWidget(chips)
        return chips


class SwitchField(Field):
    """A flag without a value."""

    def __init__(self, text: str, flag: str, *, tooltip: str) -> None:
        super().__init__()
        self._flag = flag
        self.box = CheckBox(text, tooltip)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.box)
        self.box.toggled.connect(lambda _: self.changed.emit())

    def arguments(self) -> list[str]:
        return [self._flag] if self.box.isChecked() else []

    def fill(self, rest: list[str]) -> None:
        self.box.setChecked(self._flag in rest)
        if self._flag in rest:
            rest.remove(self._flag)


def only_if(source: Field, used: Callable[[], bool], fields: Sequence[Field]) -> None:
    """Enable fields only while `used()` is true, which may change with `source`: otherwise they have no effect."""

    def update() -> None:
        for field in fields:
            field.setEnabled(used())

    source.changed.connect(update)
    update()

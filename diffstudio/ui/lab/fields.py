"""The fields of the Lab's forms. Each stands for one argument of the command line.

`arguments()` are those that the field adds to the command; `problem()` says why the job cannot be started yet.
`fill(rest)` shows the arguments of an earlier job and removes them from `rest`; fields with flags are filled first.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.ui.shell.desktop_environment import pictures_folder
from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.dialogs import choose_folder
from diffstudio.ui.widgets.helpers import ElidedLabel, describe, label
from diffstudio.ui.widgets.images.drag_and_drop import DroppedItem, DroppedKind
from diffstudio.ui.widgets.inputs import CheckBox, ChipRow, ComboBox, LabelledComboBox, LabelledSlider

_ADD_FOLDER = "Add a folder of generated images"


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


class FolderField(Field):
    """A folder of images, chosen in a dialog or dropped. Without a flag it is the last positional argument."""

    kinds: tuple[DroppedKind, ...] = (DroppedKind.FOLDER,)  # that can be dropped

    def __init__(self, text: str, missing: str, *, tooltip: str, flag: str = "", optional: bool = False) -> None:
        super().__init__()
        self._text, self._missing, self._flag, self._optional = text, missing, flag, optional
        self._folder: Path | None = None
        self._shown = ElidedLabel("", "dim", mode=Qt.TextElideMode.ElideMiddle)
        self.button = SecondaryButton("Choose…", "folder-open", tooltip, name=f"{text}: choose a folder")
        name = label(text)
        name.setBuddy(self.button)
        row = self.row = QHBoxLayout()
        row.setSpacing(8)
        row.addWidget(self._shown, 1)
        row.addWidget(self.button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(name)
        column.addLayout(row)
        describe(self, text, tooltip)
        self.setFocusProxy(self.button)
        self.button.clicked.connect(self.choose)
        self._show()

    def folder(self) -> Path | None:
        return self._folder

    def set_folder(self, folder: Path | None) -> None:
        self._folder = folder
        self._show()
        self.changed.emit()

    def choose(self) -> None:
        parent = str(self._folder.parent) if self._folder is not None else pictures_folder()
        choose_folder(self, self._text, parent, self.set_folder)

    def arguments(self) -> list[str]:
        if self._folder is None:
            return []
        return [self._flag, str(self._folder)] if self._flag else [str(self._folder)]

    def problem(self) -> str:
        return "" if self._folder is not None or self._optional else self._missing

    def fill(self, rest: list[str]) -> None:
        found = taken(rest, self._flag) if self._flag else (rest.pop() if rest else None)
        self.set_folder(Path(found) if found is not None else None)

    def drop_text(self, items: Sequence[DroppedItem]) -> str:
        found = next((item for item in items if item.kind in self.kinds), None)
        return f"Drop to use {found.name} as: {self._text.lower()}" if found is not None else ""

    def take(self, items: Sequence[DroppedItem]) -> None:
        self.set_folder(next((item.path for item in items if item.kind in self.kinds), self._folder))

    def _show(self) -> None:
        self._shown.setText(str(self._folder) if self._folder is not None else "None chosen")
        self.button.setAccessibleDescription(self._shown.text())


class SubjectsField(Field):
    """Checkpoints and folders of images, each in its own row: the positional arguments before the folder."""

    def __init__(
        self,
        text: str,
        missing: str,
        *,
        tooltip: str,
        folders: bool = True,
        most: int = 50,
        flag: str = "",
        optional: bool = False,
        none: str = "No checkpoint was trained here yet",
    ) -> None:
        """With a `flag`, which takes several values, the field may be empty; so it may when it is `optional`.

        `none` is shown when there is no checkpoint to choose.
        """
        super().__init__()
        self._optional = optional or bool(flag)
        self._missing, self._takes_folders, self._most, self._flag = missing, folders, most, flag
        self._none = none
        self._subjects: list[tuple[str, str]] = []  # argument, name
        self._offered: list[tuple[str, str]] = []
        verb = "Choose" if most == 1 else "Add"  # a checkpoint replaces the only one that is allowed
        self._first = f"{verb} a checkpoint…"
        self.combo = ComboBox(f"{text}: {verb.lower()} a checkpoint", (), f"{verb} a checkpoint that was trained here")
        self.folder_button = SecondaryButton("Folder…", "folder-open", _ADD_FOLDER)
        self.folder_button.setVisible(folders)
        self._rows = QVBoxLayout()
        self._rows.setSpacing(4)
        adding = QHBoxLayout()
        adding.setSpacing(8)
        adding.addWidget(self.combo, 1)
        adding.addWidget(self.folder_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(label(text))
        column.addLayout(self._rows)
        column.addLayout(adding)
        describe(self, text, tooltip)
        self.setFocusProxy(self.combo)
        self.combo.chosen.connect(self._chosen)
        self.folder_button.clicked.connect(lambda: choose_folder(self, _ADD_FOLDER, pictures_folder(), self.add_path))
        self.offer([])

    def subjects(self) -> list[str]:
        return [argument for argument, _ in self._subjects]

    def add_path(self, path: Path) -> None:
        self.add(str(path), path.name if path.is_dir() or path.stem != "latest" else path.parent.parent.name)

    def add(self, argument: str, name: str) -> None:
        """Add a subject that is not in the list yet; if only one is allowed, it replaces the previous one."""
        if argument not in self.subjects():
            kept = self._subjects if self._most > 1 else []
            self._show([*kept, (argument, name)][-self._most :])

    def remove(self, argument: str) -> None:
        self._show([one for one in self._subjects if one[0] != argument])
        self.combo.setFocus()

    def offer(self, checkpoints: Sequence[Checkpoint]) -> None:
        self._offered = [(str(one.path), one.name) for one in checkpoints]
        first = self._first if self._offered else self._none
        self.combo.set_choices([(None, first), *self._offered])
        self.combo.set_unavailable("" if self._offered else self._none)

    def arguments(self) -> list[str]:
        return [self._flag, *self.subjects()] if self._flag and self._subjects else self.subjects()

    def problem(self) -> str:
        return "" if self._subjects or self._optional else self._missing

    def fill(self, rest: list[str]) -> None:
        names = dict(self._offered)
        found = _pop_values(rest, self._flag) if self._flag else rest[:]
        self._show([(one, names.get(one) or Path(one).name or one) for one in found])
        if not self._flag:
            rest.clear()

    def drop_text(self, items: Sequence[DroppedItem]) -> str:
        usable = [item for item in items if self._usable(item)]
        if not usable:
            return ""
        return f"Drop to add {usable[0].name}" if len(usable) == 1 else f"Drop to add {len(usable):,} items"

    def take(self, items: Sequence[DroppedItem]) -> None:
        for item in items:
            if self._usable(item) and item.path is not None:
                self.add_path(item.path)

    def _usable(self, item: DroppedItem) -> bool:
        return item.kind is DroppedKind.MODEL or (self._takes_folders and item.kind is DroppedKind.FOLDER)

    def _chosen(self, argument: str | None) -> None:
        if argument is not None:
            self.add(argument, dict(self._offered)[argument])
            self.combo.set_value(None)

    def _show(self, subjects: list[tuple[str, str]]) -> None:
        self._subjects = subjects
        while (item := self._rows.takeAt(0)) is not None:
            if (row := item.widget()) is not None:
                row.hide()
                row.deleteLater()
        for argument, name in subjects:
            self._rows.addWidget(self._row(argument, name))
        self.changed.emit()

    def _row(self, argument: str, name: str) -> QWidget:
        row = QWidget()
        shown = ElidedLabel(name, mode=Qt.TextElideMode.ElideMiddle)
        remove = SecondaryButton("", "x", f"Remove {name}")
        remove.setFixedSize(QSize(22, 22))
        remove.clicked.connect(lambda: self.remove(argument))
        line = QHBoxLayout(row)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(shown, 1)
        line.addWidget(remove)
        return row


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


class ChoiceField(Field):
    """A drop-down with a flag; its first choice leaves the flag out."""

    def __init__(self, text: str, flag: str, choices: Sequence[tuple[Any, str]], *, tooltip: str) -> None:
        super().__init__()
        self._flag, self._choices = flag, list(choices)
        self.combo = LabelledComboBox(text, choices, tooltip)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.combo)
        self.combo.value_changed.connect(lambda _: self.changed.emit())

    def arguments(self) -> list[str]:
        value = self.combo.value()
        return [] if value == self._choices[0][0] else [self._flag, str(value)]

    def fill(self, rest: list[str]) -> None:
        found = taken(rest, self._flag)
        if found is not None and found not in [value for value, _ in self._choices]:
            self._choices.append((found, found))  # a path, or a choice of another version
            self.combo.set_choices(self._choices)
        self.combo.set_value(self._choices[0][0] if found is None else found)


class SeveralField(Field):
    """Any of several names, separated by commas after a flag; if all are chosen the flag is left out."""

    def __init__(self, text: str, flag: str, choices: Sequence[tuple[str, str]], *, tooltip: str, none: str) -> None:
        super().__init__()
        self._text, self._flag, self._choices, self._none = text, flag, list(choices), none
        self._all = tuple(value for value, _ in choices)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(4)
        self._column.addWidget(label(text))
        describe(self, text, tooltip)
        self.chips = self._chip_row(self._all)

    def value(self) -> tuple[str, ...]:
        chosen: tuple[str, ...] = self.chips.value()
        return chosen

    def arguments(self) -> list[str]:
        chosen = self.value()
        return [] if chosen == self._all else [self._flag, ",".join(chosen) or self._none]

    def fill(self, rest: list[str]) -> None:
        found = taken(rest, self._flag)
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
        self.box.clicked.connect(lambda _: self.changed.emit())

    def arguments(self) -> list[str]:
        return [self._flag] if self.box.isChecked() else []

    def fill(self, rest: list[str]) -> None:
        self.box.setChecked(self._flag in rest)
        if self._flag in rest:
            rest.remove(self._flag)


def _pop_values(rest: list[str], flag: str) -> list[str]:
    """The values after a flag up to the next flag; they are removed from `rest` with the flag."""
    if flag not in rest:
        return []
    first = rest.index(flag)
    last = next((place for place in range(first + 1, len(rest)) if rest[place].startswith("--")), len(rest))
    found = rest[first + 1 : last]
    del rest[first:last]
    return found


def taken(rest: list[str], flag: str) -> str | None:
    """The value after a flag, removed from `rest` with the flag; None without the flag."""
    for place, argument in enumerate(rest):
        if argument == flag and place + 1 < len(rest):
            value = rest[place + 1]
            del rest[place : place + 2]
            return value
        if argument.startswith(f"{flag}="):
            del rest[place]
            return argument[len(flag) + 1 :]
    return None

"""A field for the checkpoints and folders of images that a job of the Lab is about."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.studio.library.references import ModelRenamed, names_model
from diffstudio.ui.lab.arguments import taken_values
from diffstudio.ui.lab.fields import Field
from diffstudio.ui.shell.desktop_environment import pictures_folder
from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.dialogs import choose_folder
from diffstudio.ui.widgets.helpers import ElidedLabel, describe, label
from diffstudio.ui.widgets.images.drag_and_drop import DroppedItem, DroppedKind
from diffstudio.ui.widgets.inputs.combo_box import ComboBox

_ADD_FOLDER = "Add a folder of generated images"


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
        self._gone: list[str] = []  # of the names in `_subjects`
        self._offered: list[tuple[str, str]] = []
        self._known: set[str] = set()  # all that was ever offered
        verb = "Choose" if most == 1 else "Add"  # a checkpoint replaces the only one that is allowed
        self._first = f"{verb} a checkpoint…"
        self.combo = ComboBox(
            f"{text}: {verb.lower()} a checkpoint", (), f"{verb} a checkpoint that was trained here", acts=True
        )
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
        self._known.update(path for path, _ in self._offered)
        first = self._first if self._offered else self._none
        self.combo.set_choices([(None, first), *self._offered])
        self.combo.set_unavailable("" if self._offered else self._none)
        if self._find_gone() != self._gone:
            self._show(self._subjects)

    def follow_renamed(self, change: ModelRenamed) -> None:
        new = (str(change.new_path), change.new_name)
        subjects = [new if names_model(one[0], change.name, change.path) else one for one in self._subjects]
        if subjects != self._subjects:
            self._show(subjects)

    def arguments(self) -> list[str]:
        return [self._flag, *self.subjects()] if self._flag and self._subjects else self.subjects()

    def problem(self) -> str:
        if self._gone:
            return f"{self._gone[0]} is not there any more: remove it, or choose another one"
        return "" if self._subjects or self._optional else self._missing

    def fill(self, rest: list[str]) -> None:
        names = dict(self._offered)
        found = taken_values(rest, self._flag) if self._flag else rest[:]
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

    def _find_gone(self) -> list[str]:
        """The names of the chosen checkpoints that were moved or deleted. The job itself looks for folders of images."""
        offered = dict(self._offered)
        files = [(path, name) for path, name in self._subjects if path in self._known or Path(path).suffix]
        gone = [(path, name) for path, name in files if path not in offered and Path(path).is_absolute()]
        return [name for path, name in gone if not os.path.lexists(path)]

    def _show(self, subjects: list[tuple[str, str]]) -> None:
        self._subjects = subjects
        self._gone = self._find_gone()
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

"""A field for a folder of images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout

from diffstudio import paths
from diffstudio.ui.lab.arguments import taken
from diffstudio.ui.lab.fields import Field
from diffstudio.ui.shell.desktop_environment import pictures_folder
from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.dialogs import choose_folder
from diffstudio.ui.widgets.helpers import ElidedLabel, describe, label
from diffstudio.ui.widgets.images.drag_and_drop import DroppedItem, DroppedKind


class FolderField(Field):
    """A folder of images, chosen in a dialog or dropped. Without a flag it is the last positional argument."""

    kinds: tuple[DroppedKind, ...] = (DroppedKind.FOLDER,)  # that can be dropped

    def __init__(self, text: str, missing: str, *, tooltip: str, flag: str = "", optional: bool = False) -> None:
        super().__init__()
        self._text, self._missing, self._flag, self._optional = text, missing, flag, optional
        self._folder: Path | None = None
        self._is_empty = False
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
        self._folder, self._is_empty = folder, folder is not None and _is_empty(folder)
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
        if self._folder is not None:
            return f"{self._folder.name} is an empty folder" if self._is_empty else ""
        return "" if self._optional else self._missing

    def fill(self, rest: list[str]) -> None:
        found = taken(rest, self._flag) if self._flag else (rest.pop() if rest else None)
        self.set_folder(Path(found) if found is not None else None)

    def drop_text(self, items: Sequence[DroppedItem]) -> str:
        found = next((item for item in items if item.kind in self.kinds), None)
        return f"Drop to use {found.name or 'this image'} as: {self._text.lower()}" if found is not None else ""

    def take(self, items: Sequence[DroppedItem]) -> None:
        self.set_folder(next((item.path for item in items if item.kind in self.kinds), self._folder))

    def _show(self) -> None:
        self._shown.setText(paths.short(self._folder) if self._folder is not None else "None chosen")
        self.button.setAccessibleDescription(self._shown.text())


def _is_empty(folder: Path) -> bool:
    """Whether nothing is in a folder; False if it cannot be read, which the job says."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except OSError:
        return False

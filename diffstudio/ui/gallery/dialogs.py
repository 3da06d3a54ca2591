"""The gallery's questions and its menu. Each is opened, never waited for: the answer calls back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from PySide6.QtCore import Qt
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QFileDialog, QMenu, QMessageBox, QWidget

from diffstudio.ui import assets

_Dialog = TypeVar("_Dialog", QFileDialog, QMessageBox)
_FILTERS = {".png": "PNG (*.png)", ".jpg": "JPEG (*.jpg)", ".webp": "WebP (*.webp)"}


def ask_where_to_save(parent: QWidget, path: Path, save: Callable[[Path], object]) -> QFileDialog:
    """Where a copy of the picture is to go, and as what kind of file: its own first."""
    own = {".jpeg": ".jpg"}.get(path.suffix.lower(), path.suffix.lower())
    kinds = sorted(_FILTERS, key=lambda ending: ending != own)
    dialog = QFileDialog(parent, "Save a copy")
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
    dialog.setNameFilters([_FILTERS[ending] for ending in kinds])
    dialog.setDefaultSuffix(kinds[0].removeprefix("."))
    dialog.selectFile(str(Path.home() / path.name))

    def follow(chosen: str) -> None:
        ending = next(ending for ending, text in _FILTERS.items() if text == chosen)
        dialog.setDefaultSuffix(ending.removeprefix("."))
        dialog.selectFile(path.stem + ending)

    dialog.filterSelected.connect(follow)
    dialog.fileSelected.connect(lambda name: save(Path(name)))
    return _opened(dialog)


def ask_about_trash(parent: QWidget, count: int, bring_back: Callable[[], object],
                    empty: Callable[[], object]) -> QMessageBox:
    are = "picture is" if count == 1 else "pictures are"
    box = QMessageBox(QMessageBox.Icon.NoIcon, "Trash", f"{count:,} {are} in the gallery's trash.", parent=parent)
    box.setInformativeText("Bring them back into the gallery, or move them on to the system's trash.")
    back = box.addButton("Bring back", QMessageBox.ButtonRole.ActionRole)
    on = box.addButton("Empty trash", QMessageBox.ButtonRole.DestructiveRole)
    cancel = box.addButton(QMessageBox.StandardButton.Cancel)
    box.setDefaultButton(cancel)
    box.setEscapeButton(cancel)
    back.clicked.connect(bring_back)
    on.clicked.connect(empty)
    return _opened(box)


def _opened(dialog: _Dialog) -> _Dialog:
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.open()
    return dialog


def menu(parent: QWidget, entries: Sequence[tuple[str, str, Callable[[], None]]]) -> QMenu:
    """A menu of (text, icon, what to do)."""
    result = QMenu(parent)
    result.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    for text, icon, act in entries:
        action = QAction(assets.icon(icon, "dim"), text, result)
        action.triggered.connect(act)
        result.addAction(action)
    return result

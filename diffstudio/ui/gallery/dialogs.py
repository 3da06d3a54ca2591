"""The gallery's questions and its menu. Each is opened, never waited for: the answer calls back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import Qt
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QMenu, QMessageBox, QWidget

from diffstudio.ui.widgets import icons


def ask_about_trash(
    parent: QWidget, count: int, bring_back: Callable[[], object], empty: Callable[[], object]
) -> QMessageBox:
    are = "image is" if count == 1 else "images are"
    box = QMessageBox(QMessageBox.Icon.NoIcon, "Trash", f"{count:,} {are} in the gallery's trash.", parent=parent)
    box.setInformativeText("Restore them to the gallery, or move them to the system's trash.")
    back = box.addButton("Restore", QMessageBox.ButtonRole.ActionRole)
    on = box.addButton("Empty trash", QMessageBox.ButtonRole.DestructiveRole)
    cancel = box.addButton(QMessageBox.StandardButton.Cancel)
    box.setDefaultButton(cancel)
    box.setEscapeButton(cancel)
    back.clicked.connect(bring_back)
    on.clicked.connect(empty)
    box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    box.open()
    return box


def menu(parent: QWidget, entries: Sequence[tuple[str, str, Callable[[], None]]]) -> QMenu:
    """A menu of (text, icon, what to do)."""
    result = QMenu(parent)
    result.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    for text, icon, act in entries:
        action = QAction(icons.icon(icon, "dim"), text, result)
        action.triggered.connect(act)
        result.addAction(action)
    return result

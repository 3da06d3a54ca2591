"""Builds the context menu of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import Qt
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QMenu, QWidget

from diffstudio.ui.widgets import icons


def build_menu(parent: QWidget, entries: Sequence[tuple[str, str, Callable[[], None]]]) -> QMenu:
    """A menu of (text, icon, action), deleted when it closes."""
    result = QMenu(parent)
    result.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    for text, icon, act in entries:
        action = QAction(icons.icon(icon, "dim"), text, result)
        action.triggered.connect(act)
        result.addAction(action)
    return result

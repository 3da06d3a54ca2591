"""Events that an input leaves to the room: the wheel without the focus, undo without typing."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QEvent
from PySide6.QtGui import QKeyEvent, QKeySequence, QWheelEvent
from PySide6.QtWidgets import QLineEdit, QWidget


def change_if_focused(control: QWidget, change: Callable[[QWheelEvent], None], event: QWheelEvent) -> None:
    """Let the wheel change a control that has the focus; otherwise it scrolls the column."""
    if control.hasFocus():
        change(event)
    else:
        event.ignore()


def leaves_undo_to_the_room(text: QLineEdit, event: QEvent) -> bool:
    """Whether this is the shortcut of undo or redo, in a field with no typing to undo: then it changes the settings."""
    if event.type() is not QEvent.Type.ShortcutOverride or not isinstance(event, QKeyEvent):
        return False
    undo, redo = QKeySequence.StandardKey.Undo, QKeySequence.StandardKey.Redo
    mine = (event.matches(undo) and text.isUndoAvailable()) or (event.matches(redo) and text.isRedoAvailable())
    if mine or not (event.matches(undo) or event.matches(redo)):
        return False
    event.ignore()
    return True

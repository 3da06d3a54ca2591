"""Events that all inputs treat alike: Enter, the wheel without the focus, undo without typing."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QEvent, Qt
from PySide6.QtGui import QKeyEvent, QKeySequence, QWheelEvent
from PySide6.QtWidgets import QAbstractButton, QDialog, QLineEdit, QWidget

_ENTER = (Qt.Key.Key_Return, Qt.Key.Key_Enter)
PRESSING = (*_ENTER, Qt.Key.Key_Space)  # what presses a card as it presses a button


def activates(control: QWidget, event: QKeyEvent) -> bool:
    """Whether this is Enter, which activates a control as Space does. In a dialog it is left to the main button."""
    plain = not event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier
    return event.key() in _ENTER and plain and not isinstance(control.window(), QDialog)


def click_on_enter(button: QAbstractButton, event: QKeyEvent) -> bool:
    """Press a button that has the focus if the key is Enter, once for as long as it is held; whether it was."""
    if not activates(button, event):
        return False
    if not event.isAutoRepeat():
        button.click()
    return True


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

"""Enter activates the control that has the focus, as Space does."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QAbstractButton, QDialog, QWidget

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

"""Number fields."""

from __future__ import annotations

from PySide6.QtCore import QEvent, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QDoubleSpinBox, QSpinBox

from diffstudio.ui.widgets.inputs.events import change_if_focused, leaves_undo_to_the_room


class DecimalField(QDoubleSpinBox):
    """A number field that the mouse wheel changes only when it has the focus."""

    def __init__(self) -> None:
        super().__init__()
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def event(self, event: QEvent) -> bool:
        if leaves_undo_to_the_room(self.lineEdit(), event):
            return False
        return super().event(event)

    def wheelEvent(self, event: QWheelEvent) -> None:
        change_if_focused(self, super().wheelEvent, event)


class IntegerField(QSpinBox):
    """A field for whole numbers that the mouse wheel changes only when it has the focus."""

    def __init__(self) -> None:
        super().__init__()
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def event(self, event: QEvent) -> bool:
        if leaves_undo_to_the_room(self.lineEdit(), event):
            return False
        return super().event(event)

    def wheelEvent(self, event: QWheelEvent) -> None:
        change_if_focused(self, super().wheelEvent, event)

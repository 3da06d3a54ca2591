"""A window that fills the screen with the canvas, until Escape, F11 or a double click."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QCloseEvent, QHideEvent, QScreen
from PySide6.QtWidgets import QVBoxLayout, QWidget

from diffstudio.ui.generate.canvas.canvas import Canvas
from diffstudio.ui.widgets import shortcuts


class FullScreen(QWidget):
    """Takes the canvas out of its place and puts it back, so that it goes on showing what happens."""

    left = Signal()  # the canvas is back in its place

    def __init__(self, canvas: Canvas, place: QVBoxLayout, parent: QWidget) -> None:
        super().__init__(parent, Qt.WindowType.Window)
        self.setObjectName("background")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setWindowTitle("diffstudio")
        self._canvas, self._place = canvas, place
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        self._column = column
        shortcuts.bind(shortcuts.FULL_SCREEN, self, self.leave)

    def is_on(self) -> bool:
        return self._canvas.window() is self

    def toggle(self) -> None:
        """Fill the screen with the canvas, or put it back."""
        if self.is_on():
            self.leave()
        elif not self._canvas.image().isNull():
            self._column.addWidget(self._canvas)
            self._canvas.show_full_screen(True)
            self._canvas.show()
            if (screen := self._place_screen()) is not None:
                self.setGeometry(screen.geometry())  # where no window manager does it
            self.showFullScreen()
            self.activateWindow()
            self._canvas.setFocus()

    def _place_screen(self) -> QScreen | None:
        """The screen that the program's window is on."""
        parent = self.parentWidget()
        return parent.screen() if parent is not None else None

    def leave(self) -> None:
        if self.is_on():
            self._place.addWidget(self._canvas)
            self._canvas.show_full_screen(False)
            self._canvas.show()
            self.hide()
            self.left.emit()
            self._canvas.window().activateWindow()
            self._canvas.setFocus()

    def closeEvent(self, event: QCloseEvent) -> None:
        self.leave()
        super().closeEvent(event)

    def hideEvent(self, event: QHideEvent) -> None:
        self.leave()
        super().hideEvent(event)

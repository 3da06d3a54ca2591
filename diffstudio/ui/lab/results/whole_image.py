"""WholeImage: an image as large as fits into a square, with sharp pixels when enlarged, and the menu of every image."""

from __future__ import annotations

from PySide6.QtCore import QRectF, Qt, Signal
from PySide6.QtGui import QContextMenuEvent, QImage, QKeyEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QWidget

from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.activation import PRESSING
from diffstudio.ui.widgets.helpers import describe
from diffstudio.ui.widgets.images.drag_source import DragSource, whole
from diffstudio.ui.widgets.images.image_menu import ImageTarget
from diffstudio.ui.widgets.images.image_painting import fitted, mark, outline_on_light


class WholeImage(QWidget):
    menu_requested = Signal(object, object)  # ImageTarget, QPoint

    def __init__(self, side: int, name: str) -> None:
        """`side` in px, before the size of text is applied."""
        super().__init__()
        self.target = ImageTarget()
        self.setFixedSize(theme.scaled(side), theme.scaled(side))
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        describe(self, name, " ")
        DragSource(self, lambda _: whole(self.target))

    def show_target(self, target: ImageTarget) -> None:
        self.target = target
        self.update()

    def image(self) -> QImage:
        return self.target.image

    def paintEvent(self, event: QPaintEvent) -> None:
        painter, image = QPainter(self), self.target.image
        if not image.isNull():
            where = fitted(image.size(), QRectF(self.rect()))
            smaller = where.width() < image.width()
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, smaller)
            painter.drawImage(where, image)
            outline_on_light(painter, where, 0)
        if self.hasFocus():
            mark(painter, QRectF(self.rect()))

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        keyboard = event.reason() == QContextMenuEvent.Reason.Keyboard
        place = self.mapToGlobal(self.rect().center()) if keyboard else event.globalPos()
        self.menu_requested.emit(self.target, place)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in PRESSING and whole(self.target) is not None:
            self.menu_requested.emit(self.target, self.mapToGlobal(self.rect().center()))
        else:
            super().keyPressEvent(event)

"""A thumbnail: the centre of an image in a rounded square."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QRectF, Qt, Signal
from PySide6.QtGui import QImage, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPixmap
from PySide6.QtWidgets import QLabel

from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.activation import PRESSING
from diffstudio.ui.widgets.helpers import describe
from diffstudio.ui.widgets.images.image_painting import mark, rounded
from diffstudio.ui.widgets.images.image_reading import numpy_to_qimage, read_image


class Thumbnail(QLabel):
    """An image in a rounded square. `clickable` lets it be clicked or activated with Enter or Space."""

    clicked = Signal()

    def __init__(
        self, size: int, radius: int = 6, *, name: str = "Image", tooltip: str = "", clickable: bool = False
    ) -> None:
        super().__init__()
        self._side, self._radius, self._image, self._scaled = size, radius, QImage(), QImage()
        self._chosen, self._clickable = False, clickable
        self.setFixedSize(size, size)
        self.setTextFormat(Qt.TextFormat.PlainText)  # it never has one
        describe(self, name, tooltip)
        if clickable:
            self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            self.setCursor(Qt.CursorShape.PointingHandCursor)

    def set_image(self, image: QImage | QPixmap | Path | NDArray[np.uint8] | None) -> None:
        """Show the centre square of an image. None, or a file that cannot be read, shows an empty square."""
        match image:
            case None:
                self._image = QImage()
            case Path():
                self._image = read_image(image, 2 * self._side)
            case QPixmap():
                self._image = image.toImage()
            case QImage():
                self._image = image
            case _:
                self._image = numpy_to_qimage(image)
        self._scaled = QImage()
        self.update()

    def image(self) -> QImage:
        return self._image

    def set_side(self, side: int) -> None:
        if side != self._side:
            self._side, self._scaled = side, QImage()
            self.setFixedSize(side, side)

    def set_chosen(self, chosen: bool) -> None:
        self._chosen = chosen
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        rect = QRectF(self.rect())
        if self._image.isNull():
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(theme.colour("line"))
            painter.drawRoundedRect(rect, self._radius, self._radius)
        else:
            if self._scaled.isNull():
                self._scaled = _square(self._image, round(self._side * self.devicePixelRatioF()))
            rounded(painter, self._scaled, rect, self._radius)
        if self._chosen or self.hasFocus():
            mark(painter, rect, self._radius, focused=self.hasFocus())

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        inside = self.rect().contains(event.position().toPoint())
        if self._clickable and inside and event.button() == Qt.MouseButton.LeftButton:
            self.clicked.emit()
        else:
            super().mouseReleaseEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if self._clickable and event.key() in PRESSING:
            self.clicked.emit()
        else:
            super().keyPressEvent(event)


def _square(image: QImage, side: int) -> QImage:
    """The centre square of an image, `side` px."""
    scaled = image.scaled(
        side, side, Qt.AspectRatioMode.KeepAspectRatioByExpanding, Qt.TransformationMode.SmoothTransformation
    )
    return scaled.copy((scaled.width() - side) // 2, (scaled.height() - side) // 2, side, side)

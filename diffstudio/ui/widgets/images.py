"""Images on the screen: conversion, reading, drawing and thumbnails."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import QImage, QKeyEvent, QMouseEvent, QPainter, QPainterPath, QPaintEvent, QPen, QPixmap
from PySide6.QtWidgets import QLabel

from diffstudio.errors import ImageProblem
from diffstudio.imaging.formats import IMAGE_SUFFIXES
from diffstudio.imaging.limits import NOT_AN_IMAGE
from diffstudio.imaging.reader import read_image as read_any_image
from diffstudio.imaging.reader import read_image_bytes, read_size
from diffstudio.imaging.thumbnail import read_thumbnail
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.helpers import describe

_LONGEST_HEADER_THUMBNAIL = 1 << 20  # characters of base64
_HEADER_THUMBNAIL_SIDE = 1024  # px; a larger one is reduced

IMAGE_FILE_FILTER = f"Images ({' '.join(f'*{suffix}' for suffix in sorted(IMAGE_SUFFIXES))})"  # of a QFileDialog


def numpy_to_qimage(pixels: NDArray[np.uint8]) -> QImage:
    """[H,W,3] RGB, [H,W,4] RGBA or [H,W] grey, uint8 -> an image that owns its pixels (Qt only borrows a buffer)."""
    pixels = np.ascontiguousarray(pixels, dtype=np.uint8)
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    formats = {1: QImage.Format.Format_Grayscale8, 3: QImage.Format.Format_RGB888, 4: QImage.Format.Format_RGBA8888}
    return QImage(pixels.data, width, height, width * channels, formats[channels]).copy()


def read_image(path: Path, largest: int | None = None) -> QImage:
    """Read an image file, scaled down so that no side is over `largest` px; a null image if it cannot be read.

    It is read as for generating and training, so that the same files open, with the same colours.
    """
    try:
        return _as_qimage(read_thumbnail(path, largest) if largest else read_any_image(path)[0])
    except ImageProblem:
        return QImage()


def _as_qimage(image: Image.Image) -> QImage:
    """An RGB or RGBA image in the format that Qt paints fastest."""
    channels = len(image.mode)
    stored, painted = {
        3: (QImage.Format.Format_RGB888, QImage.Format.Format_RGB32),
        4: (QImage.Format.Format_RGBA8888, QImage.Format.Format_ARGB32_Premultiplied),
    }[channels]
    pixels = image.tobytes()  # borrowed until the conversion has made a copy
    return QImage(pixels, image.width, image.height, channels * image.width, stored).convertToFormat(painted)


def header_thumbnail(checkpoint: Checkpoint) -> QImage:
    """The thumbnail in a checkpoint's header; a null image if it is missing or cannot be read."""
    text = checkpoint.metadata.get("diffstudio.thumbnail") or checkpoint.metadata.get("modelspec.thumbnail", "")
    if not text or len(text) > _LONGEST_HEADER_THUMBNAIL:
        return QImage()
    try:
        data = base64.b64decode(text.strip('"').rpartition(",")[2], validate=False)  # or a data URL
        return _as_qimage(read_image_bytes(data, checkpoint.name, at_least=_HEADER_THUMBNAIL_SIDE))
    except (binascii.Error, ValueError, ImageProblem):
        return QImage()


def image_size(path: Path) -> QSize:
    """Width and height in px of an image file after EXIF rotation, from its header; 1 × 1 if it cannot be read."""
    try:
        return QSize(*read_size(path))
    except ImageProblem:
        return QSize(1, 1)


def unreadable_reason(path: Path) -> str:
    """Why `read_image` failed, as a clause; empty when the file is not an image."""
    try:
        read_any_image(path)
    except ImageProblem as problem:
        return "" if problem.why == NOT_AN_IMAGE else problem.why
    return ""


def rounded(painter: QPainter, image: QImage | QPixmap, rect: QRectF, radius: float = theme.RADIUS) -> None:
    """Draw the whole image into `rect` with smooth interpolation and rounded corners."""
    painter.save()
    painter.setRenderHints(QPainter.RenderHint.Antialiasing | QPainter.RenderHint.SmoothPixmapTransform)
    path = QPainterPath()
    path.addRoundedRect(rect, radius, radius)
    painter.setClipPath(path)
    if isinstance(image, QImage):
        painter.drawImage(rect, image)
    else:
        painter.drawPixmap(rect, image, QRectF(image.rect()))
    painter.setClipping(False)
    outline_on_light(painter, rect, radius)
    painter.restore()


def outline_on_light(painter: QPainter, rect: QRectF, radius: float) -> None:
    """In the light theme, draw the outline that a white image needs there."""
    if theme.name() == "light":
        painter.setPen(QPen(theme.colour("line"), 1))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRoundedRect(rect.adjusted(0.5, 0.5, -0.5, -0.5), radius, radius)


def unreadable(path: Path) -> str:
    """The sentence for an image that `read_image` could not read, with the reason."""
    return f"{path.name} cannot be read: {unreadable_reason(path) or NOT_AN_IMAGE}."


def read_or_reason(path: Path, largest: int) -> tuple[QImage, str]:
    """As `read_image`, with the sentence of `unreadable` beside a null image. Slow: not for the window's thread."""
    image = read_image(path, largest)
    return image, unreadable(path) if image.isNull() else ""


def fitted(size: QSize, room: QRectF) -> QRectF:
    """The largest rectangle with the aspect ratio of `size`, centred in `room`, on whole pixels."""
    scale = min(room.width() / max(1, size.width()), room.height() / max(1, size.height()))
    width, height = round(size.width() * scale), round(size.height() * scale)
    left, top = room.x() + (room.width() - width) / 2, room.y() + (room.height() - height) / 2
    return QRectF(round(left), round(top), width, height)


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
            painter.setPen(QPen(theme.colour("accent"), 2))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(rect.adjusted(1, 1, -1, -1), self._radius, self._radius)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        inside = self.rect().contains(event.position().toPoint())
        if self._clickable and inside and event.button() == Qt.MouseButton.LeftButton:
            self.clicked.emit()
        else:
            super().mouseReleaseEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if self._clickable and event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space):
            self.clicked.emit()
        else:
            super().keyPressEvent(event)


def _square(image: QImage, side: int) -> QImage:
    """The centre square of an image, `side` px."""
    scaled = image.scaled(
        side, side, Qt.AspectRatioMode.KeepAspectRatioByExpanding, Qt.TransformationMode.SmoothTransformation
    )
    return scaled.copy((scaled.width() - side) // 2, (scaled.height() - side) // 2, side, side)

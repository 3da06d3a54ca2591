"""The painted inpaint mask: brush strokes, and undo and redo of every change. No widgets."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from PySide6.QtCore import QPointF, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QImage, QPainter, QRadialGradient

from diffstudio.ui.widgets import theme

MAX_UNDO_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Brush:
    """A round brush: its diameter in px of the image, and how much of the radius fades out, 0 to 1."""

    diameter: int
    softness: float
    erases: bool = False


@dataclass(slots=True)
class _Change:
    """A region of the mask before an edit, for undo."""

    where: QRect
    before: QImage


class MaskLayer:
    """`image` is in one colour, and its alpha channel is the mask: it is drawn over the image as it is."""

    def __init__(self, size: QSize, mask: QImage | None = None) -> None:
        """`mask` is greyscale, white where masked; it is stretched to `size`."""
        self.image = QImage(size, QImage.Format.Format_ARGB32_Premultiplied)
        self.image.fill(Qt.GlobalColor.transparent)
        if mask is not None and not mask.isNull():
            self.image = coloured(mask.scaled(size))
        self._undo: list[_Change] = []
        self._redo: list[_Change] = []
        self._before_stroke: QImage | None = None
        self._stroke_end: QPointF | None = None
        self._touched = QRect()

    def greyscale(self) -> QImage:
        """The mask in greyscale, white where masked."""
        alpha = self.image.convertToFormat(QImage.Format.Format_Alpha8)
        grey = QImage(
            alpha.constBits(), alpha.width(), alpha.height(), alpha.bytesPerLine(), QImage.Format.Format_Grayscale8
        )
        return grey.copy()

    def is_blank(self) -> bool:
        mask = self.greyscale()
        blank = QImage(mask.size(), mask.format())
        blank.fill(0)
        return mask == blank

    # Strokes

    def is_painting(self) -> bool:
        return self._before_stroke is not None

    def begin_stroke(self, point: QPointF, brush: Brush) -> QRect:
        self._before_stroke, self._touched, self._stroke_end = self.image.copy(), QRect(), None
        return self.stroke_to(point, brush)

    def stroke_to(self, point: QPointF, brush: Brush) -> QRect:
        """Paint from the end of the stroke to `point`; returns the region that was painted."""
        start, radius = self._stroke_end or point, brush.diameter / 2
        distance = math.hypot(point.x() - start.x(), point.y() - start.y())
        dabs = max(1, math.ceil(distance / max(1.0, brush.diameter / 8)))
        painter = QPainter(self.image)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        if brush.erases:
            painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_DestinationOut)
        touched = QRectF()
        for index in range(1, dabs + 1):
            centre = start + (point - start) * (index / dabs)
            painter.setBrush(_gradient(centre, radius, brush.softness))
            painter.drawEllipse(centre, radius, radius)
            touched = touched.united(QRectF(centre.x() - radius, centre.y() - radius, 2 * radius, 2 * radius))
        painter.end()
        self._stroke_end = point
        region = touched.toAlignedRect().adjusted(-1, -1, 1, 1).intersected(self.image.rect())
        self._touched = self._touched.united(region)
        return region

    def end_stroke(self) -> bool:
        """End the stroke, if there is one; True if it changed the mask."""
        before, self._before_stroke, self._stroke_end = self._before_stroke, None, None
        if before is None or self._touched.isEmpty():
            return False
        self._record(_Change(self._touched, before.copy(self._touched)))
        return True

    # Changes of the whole mask

    def invert(self) -> None:
        def inverted() -> QImage:
            mask = self.greyscale()
            mask.invertPixels()
            return coloured(mask)

        self._replace(inverted)

    def clear(self) -> None:
        self._replace(lambda: self._filled(Qt.GlobalColor.transparent))

    def fill(self) -> None:
        self._replace(lambda: self._filled(mask_colour()))

    def _filled(self, colour: QColor | Qt.GlobalColor) -> QImage:
        filled = QImage(self.image.size(), self.image.format())
        filled.fill(colour)
        return filled

    def _replace(self, make: Callable[[], QImage]) -> None:
        before = self.image
        self.image = make()
        self._record(_Change(before.rect(), before))

    # Undo and redo

    def can_undo(self) -> bool:
        return bool(self._undo)

    def can_redo(self) -> bool:
        return bool(self._redo)

    def undo(self) -> bool:
        """False if there is nothing to undo."""
        return self._restore(self._undo, self._redo)

    def redo(self) -> bool:
        """False if there is nothing to redo."""
        return self._restore(self._redo, self._undo)

    def undo_count(self) -> int:
        return len(self._undo)

    def _record(self, change: _Change) -> None:
        self._undo.append(change)
        self._redo.clear()
        while len(self._undo) > 1 and sum(each.before.sizeInBytes() for each in self._undo) > MAX_UNDO_BYTES:
            del self._undo[0]

    def _restore(self, source: list[_Change], opposite: list[_Change]) -> bool:
        if not source:
            return False
        change = source.pop()
        opposite.append(_Change(change.where, self.image.copy(change.where)))
        painter = QPainter(self.image)
        painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_Source)
        painter.drawImage(change.where.topLeft(), change.before)
        painter.end()
        return True


def mask_colour() -> QColor:
    """The colour in which the mask is shown."""
    return QColor(theme.colour("bad"))


def _gradient(centre: QPointF, radius: float, softness: float) -> QRadialGradient:
    gradient = QRadialGradient(centre, radius)
    solid, clear = mask_colour(), mask_colour()
    clear.setAlpha(0)
    gradient.setColorAt(0, solid)
    gradient.setColorAt(max(0.0, min(0.999, 1 - softness)), solid)
    gradient.setColorAt(1, clear if softness > 0 else solid)
    return gradient


def coloured(mask: QImage) -> QImage:
    """An image in one colour whose alpha channel is the greyscale mask."""
    image = QImage(mask.size(), QImage.Format.Format_ARGB32_Premultiplied)
    image.fill(mask_colour())
    grey = mask.convertToFormat(QImage.Format.Format_Grayscale8)
    alpha = QImage(
        grey.constBits(), grey.width(), grey.height(), grey.bytesPerLine(), QImage.Format.Format_Alpha8
    ).copy()
    painter = QPainter(image)
    painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_DestinationIn)
    painter.drawImage(0, 0, alpha)
    painter.end()
    return image

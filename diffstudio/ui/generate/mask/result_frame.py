"""The frame of what is generated, drawn over an init image: what is cropped is dimmed, what is padded is white."""

from __future__ import annotations

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QColor, QPainter, QPainterPath, QPen

from diffstudio.ui.widgets import theme

_CROPPED = QColor(0, 0, 0, 150)  # over what is cropped, in both themes


def paint_padding(painter: QPainter, canvas: QRectF, frame: QRectF) -> None:
    """Below the image: the part of the frame that reaches beyond the canvas. Both in px of the screen."""
    if not canvas.adjusted(-0.5, -0.5, 0.5, 0.5).contains(frame):
        painter.fillRect(frame, QColor("white"))


def paint_frame(painter: QPainter, canvas: QRectF, frame: QRectF) -> None:
    """Above the image: the frame, and a shade over what of the canvas is outside of it."""
    outside, inside = QPainterPath(), QPainterPath()
    outside.addRect(canvas)
    inside.addRect(frame)
    painter.fillPath(outside.subtracted(inside), _CROPPED)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.setPen(QPen(theme.colour("accent"), 2))
    painter.drawRect(frame.adjusted(1, 1, -1, -1))

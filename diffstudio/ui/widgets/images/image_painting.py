"""Images painted: fitted into a rectangle, with rounded corners and an outline."""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QImage, QPainter, QPainterPath, QPen, QPixmap

from diffstudio.ui.widgets import theme

_FOCUS_LINES = (("accent", 2.0, 1.0), ("background", 1.5, 2.75), ("text", 1.5, 4.25))  # role, width, inset in px


def rounded(
    painter: QPainter, image: QImage | QPixmap, rect: QRectF, radius: float = theme.RADIUS, *, sharp: bool = False
) -> None:
    """Draw the whole image into `rect` with rounded corners, inside the clip of the painter; `sharp` shows its pixels."""
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, not sharp)
    path = QPainterPath()
    path.addRoundedRect(rect, radius, radius)
    painter.setClipPath(path, Qt.ClipOperation.IntersectClip)
    if isinstance(image, QImage):
        painter.drawImage(rect, image)
    else:
        painter.drawPixmap(rect, image, QRectF(image.rect()))
    painter.restore()
    outline_on_light(painter, rect, radius)


def outline_on_light(painter: QPainter, rect: QRectF, radius: float) -> None:
    """In the light theme, draw the outline that a white image needs there."""
    if theme.name() == "light":
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(theme.colour("line"), 1))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRoundedRect(rect.adjusted(0.5, 0.5, -0.5, -0.5), radius, radius)
        painter.restore()


def mark(painter: QPainter, rect: QRectF, radius: float = 0, *, focused: bool = True) -> None:
    """Frame an image that is chosen. Where the focus is, a light and a dark line are added, seen on any image."""
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    for role, width, inset in _FOCUS_LINES if focused else _FOCUS_LINES[:1]:
        painter.setPen(QPen(theme.colour(role), width))
        inner = max(0.0, radius - inset)
        painter.drawRoundedRect(rect.adjusted(inset, inset, -inset, -inset), inner, inner)
    painter.restore()


def fitted(size: QSize, room: QRectF) -> QRectF:
    """The largest rectangle with the aspect ratio of `size`, centred in `room`, on whole pixels."""
    scale = min(room.width() / max(1, size.width()), room.height() / max(1, size.height()))
    width, height = round(size.width() * scale), round(size.height() * scale)
    left, top = room.x() + (room.width() - width) / 2, room.y() + (room.height() - height) / 2
    return QRectF(round(left), round(top), width, height)

"""The colours of groups in the current theme."""

from __future__ import annotations

from PySide6.QtCore import QPointF, Qt
from PySide6.QtGui import QColor, QIcon, QPainter, QPixmap, QPolygonF

from diffstudio.studio.evaluations.plots.scatter import DARK_COLOURS, LIGHT_COLOURS, Group, outline, shape_of
from diffstudio.ui.widgets import theme

_SIDE = 14  # px of an icon


def colour_of(group: Group) -> str:
    colours = LIGHT_COLOURS if theme.name() == "light" else DARK_COLOURS
    return colours[group.colour % len(colours)]


def mark_icon(group: Group) -> QIcon:
    """The mark of a group as the icon of its entry in the legend."""
    ratio = 2
    pixmap = QPixmap(_SIDE * ratio, _SIDE * ratio)
    pixmap.setDevicePixelRatio(ratio)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(colour_of(group)))
    painter.translate(_SIDE / 2, _SIDE / 2)
    corners = outline(shape_of(group), 4.5)
    if corners:
        painter.drawPolygon(QPolygonF([QPointF(x, y) for x, y in corners]))
    else:
        painter.drawEllipse(QPointF(0, 0), 4.5, 4.5)
    painter.end()
    return QIcon(pixmap)

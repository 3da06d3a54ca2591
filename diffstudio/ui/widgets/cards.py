"""The rounded card on which a row of a list is painted."""

from __future__ import annotations

from PySide6.QtCore import QRect, QRectF, Qt
from PySide6.QtGui import QPainter, QPen
from PySide6.QtWidgets import QStyle, QStyleOptionViewItem

from diffstudio.ui.widgets import theme


def paint_card(painter: QPainter, option: QStyleOptionViewItem, gap: int) -> QRect:
    """Paint the background of a row, `gap` px above the next one, and clip to the row; returns the card's rectangle."""
    card: QRect = option.rect.adjusted(0, 0, 0, -gap)
    painter.setRenderHints(QPainter.RenderHint.Antialiasing | QPainter.RenderHint.SmoothPixmapTransform)
    painter.setClipRect(option.rect)
    chosen = bool(option.state & QStyle.StateFlag.State_Selected)
    hovered = bool(option.state & QStyle.StateFlag.State_MouseOver)
    painter.setPen(QPen(theme.colour("accent"), 1) if chosen else Qt.PenStyle.NoPen)
    painter.setBrush(theme.colour("hover" if hovered and not chosen else "raised"))
    painter.drawRoundedRect(QRectF(card).adjusted(0.5, 0.5, -0.5, -0.5), theme.RADIUS, theme.RADIUS)
    return card

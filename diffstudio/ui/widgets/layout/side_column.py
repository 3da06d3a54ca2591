"""The frame and the scroll area of the columns left and right."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QVBoxLayout, QWidget

from diffstudio.ui.widgets.helpers import SCROLL_BAR_WIDTH, scroll_area


def side_column(inside: QWidget, side: str) -> QWidget:
    """`inside` on a panel background, with a border on the inner side: `side` is left or right."""
    panel = QWidget()
    panel.setObjectName("panel")
    panel.setProperty("side", side)
    panel.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
    layout = QVBoxLayout(panel)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addWidget(inside)
    return panel


def scrolled_column(owner: QWidget) -> QVBoxLayout:
    """Add a scroll area to a side column and return the layout inside it."""
    inner = QWidget()
    inner.setObjectName("contents")
    area = scroll_area(inner)
    outer = QVBoxLayout(owner)
    outer.setContentsMargins(0, 0, 0, 0)
    outer.setSpacing(0)
    outer.addWidget(area, 1)
    column = QVBoxLayout(inner)
    column.setContentsMargins(16, 16, 16 - SCROLL_BAR_WIDTH, 8)
    column.setSpacing(12)
    return column

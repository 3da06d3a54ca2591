"""A check box."""

from __future__ import annotations

from PySide6.QtGui import QKeyEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QCheckBox, QStyle, QStyleOptionButton

from diffstudio.ui.widgets import icons
from diffstudio.ui.widgets.activation import click_on_enter
from diffstudio.ui.widgets.helpers import describe


class CheckBox(QCheckBox):
    """A check box. The style sheet draws the box, this class the tick."""

    def __init__(self, text: str, tooltip: str = "") -> None:
        super().__init__(text)
        describe(self, text, tooltip)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if not click_on_enter(self, event):
            super().keyPressEvent(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if self.isChecked():
            option = QStyleOptionButton()
            self.initStyleOption(option)
            box = self.style().subElementRect(QStyle.SubElement.SE_CheckBoxIndicator, option, self)
            icons.icon("check-bold", "on_strong").paint(QPainter(self), box.adjusted(2, 2, -2, -2))

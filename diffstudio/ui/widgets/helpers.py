"""Helpers for every control: accessible names, style-sheet properties, labels and elided text."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QFontMetrics, QPainter, QPaintEvent
from PySide6.QtWidgets import QAbstractScrollArea, QFrame, QLabel, QScrollArea, QSizePolicy, QWidget

from diffstudio.ui.widgets import theme


def describe(widget: QWidget, name: str, tooltip: str = "") -> None:
    """Set the accessible name and the tooltip of a widget; the tooltip defaults to the name."""
    widget.setAccessibleName(name)
    widget.setToolTip(tooltip or name)


def set_style_property(widget: QWidget, property_name: str, value: Any) -> None:
    """Set a property that the style sheet selects by, and apply the style sheet again."""
    if widget.property(property_name) == value:
        return
    widget.setProperty(property_name, value)
    widget.style().unpolish(widget)
    widget.style().polish(widget)
    widget.update()


def label(
    text: str = "", tone: str = "", *, pixels: int = theme.FONT_PIXELS, bold: bool = False, wrap: bool = False
) -> QLabel:
    """A plain-text label in the tone dim, faint, good, warn, bad or accent; empty for normal text."""
    result = QLabel(text)
    result.setTextFormat(Qt.TextFormat.PlainText)
    result.setProperty("tone", tone)
    result.setFont(theme.font(pixels, bold=bold))
    result.setWordWrap(wrap)
    return result


SCROLL_BAR_WIDTH = 8  # px, as in the style sheet


def reserve_scroll_bar(area: QAbstractScrollArea) -> None:
    """Keep the space of the vertical scroll bar, so that the contents do not move when it appears."""
    area.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOn)
    bar = area.verticalScrollBar()
    bar.setEnabled(bar.maximum() > bar.minimum())  # the style sheet draws nothing while it is disabled
    bar.rangeChanged.connect(lambda least, most: bar.setEnabled(most > least))


def scroll_area(contents: QWidget) -> QScrollArea:
    """A vertical scroll area, skipped by Tab: only its contents take the focus.

    The scroll bar always takes SCROLL_BAR_WIDTH at the right, which the margin of the contents makes up for.
    """
    area = QScrollArea()
    reserve_scroll_bar(area)
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    area.setWidget(contents)
    return area


class ElidedLabel(QLabel):
    """One line, elided when it does not fit; the tooltip then shows the whole text."""

    def __init__(
        self,
        text: str = "",
        tone: str = "",
        *,
        pixels: int = theme.FONT_PIXELS,
        bold: bool = False,
        mode: Qt.TextElideMode = Qt.TextElideMode.ElideRight,
    ) -> None:
        super().__init__()
        self._mode = mode
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setProperty("tone", tone)
        self.setFont(theme.font(pixels, bold=bold))
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setText(text)

    def setText(self, text: str) -> None:
        super().setText(" ".join(text.split()))
        self.updateGeometry()

    def minimumSizeHint(self) -> QSize:
        return QSize(24, super().minimumSizeHint().height())

    def sizeHint(self) -> QSize:
        metrics = QFontMetrics(self.font())
        return QSize(min(metrics.horizontalAdvance(self.text()), 4000) + 2, metrics.height() + 2)

    def shown_text(self) -> str:
        return QFontMetrics(self.font()).elidedText(self.text(), self._mode, self.contentsRect().width())

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setPen(self.palette().color(self.foregroundRole()))
        shown = self.shown_text()
        if (tip := self.text() if shown != self.text() else "") != self.toolTip():
            self.setToolTip(tip)
        painter.drawText(self.contentsRect(), int(self.alignment() | Qt.AlignmentFlag.AlignVCenter), shown)

"""Helpers for every control: accessible names, style-sheet properties, plain text, labels and elided text.

Qt takes a text that contains a tag for HTML, in labels, tooltips and message boxes alike, and opens the files that it
names. Prompts, names and messages come from outside, so every label and tooltip is made by a function of this module,
and every message box by one of `dialogs`.
"""

from __future__ import annotations

import html
from typing import Any

from PySide6 import QtGui
from PySide6.QtCore import QEvent, QObject, QPoint, QSize, Qt
from PySide6.QtGui import QAction, QDragMoveEvent, QFontMetrics, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import (
    QAbstractScrollArea,
    QApplication,
    QFrame,
    QLabel,
    QLineEdit,
    QListWidgetItem,
    QPlainTextEdit,
    QScrollArea,
    QSizePolicy,
    QStackedWidget,
    QToolTip,
    QWidget,
)

from diffstudio.ui.widgets import theme


def describe(widget: QWidget, name: str, tooltip: str = "") -> None:
    """Set the accessible name and the tooltip of a widget; the tooltip defaults to the name."""
    widget.setAccessibleName(name)
    set_tooltip(widget, tooltip or name)


def plain_tooltip(text: str) -> str:
    """What a tooltip must be set to, so that it shows exactly these characters: itself, unless Qt takes it for HTML."""
    if not QtGui.Qt.mightBeRichText(text):
        return text
    return f'<qt><p style="white-space:pre-wrap">{html.escape(text)}</p></qt>'


def set_tooltip(target: QWidget | QAction | QListWidgetItem, text: str) -> None:
    """Set the tooltip of a widget, an action or an item of a list; an empty text for none."""
    target.setToolTip(plain_tooltip(text))


def show_tooltip(at: QPoint, text: str, widget: QWidget) -> None:
    """Show a tooltip now, at a point of the screen; an empty text hides it."""
    QToolTip.showText(at, plain_tooltip(text), widget)


def limit_length(field: QLineEdit, longest: int) -> None:
    """Take at most so many characters, and say so where more are typed or pasted."""
    field.setMaxLength(longest)
    field.inputRejected.connect(
        lambda: show_tooltip(
            field.mapToGlobal(QPoint(0, field.height())), f"At most {longest:,} characters fit here.", field
        )
    )


def plain_button_text(text: str) -> str:
    """What the text of a button or a menu entry must be set to: Qt takes a single & for the mark of a shortcut."""
    return text.replace("&", "&&")


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
    """A plain-text label in the tone dim, good, warn, bad or accent; empty for normal text."""
    result = QLabel(text)
    result.setTextFormat(Qt.TextFormat.PlainText)
    result.setProperty("tone", tone)
    result.setFont(theme.font(pixels, bold=bold))
    result.setWordWrap(wrap)
    return result


def leave_focus(part: QWidget, to: QWidget | None) -> None:
    """Move the focus to `to` if it is in `part`, which is about to be hidden or disabled: Qt would give it to whatever
    control is next in the window, perhaps of another room.
    """
    focus = QApplication.focusWidget()
    if to is not None and focus is not None and (focus is part or part.isAncestorOf(focus)):
        to.setFocus()


def show_page(stack: QStackedWidget, page: QWidget) -> None:
    """Show a page of a stack; the focus goes to it from the page before, or to its focus proxy."""
    before, focus = stack.currentWidget(), QApplication.focusWidget()
    had_focus = before is not None and focus is not None and (focus is before or before.isAncestorOf(focus))
    stack.setCurrentWidget(page)
    if had_focus and before is not page:
        page.setFocus()


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
        self._fit_tooltip()

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
        self._fit_tooltip()
        flags = int(self.alignment() | Qt.AlignmentFlag.AlignVCenter)
        painter.drawText(self.contentsRect(), flags, self.shown_text())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit_tooltip()

    def _fit_tooltip(self) -> None:
        tip = plain_tooltip(self.text()) if self.shown_text() != self.text() else ""
        if tip != self.toolTip():
            set_tooltip(self, self.text() if tip else "")


class PartsLabel(ElidedLabel):
    """A summary such as `12 M · 64 px · 23.8 MB`: parts that do not fit are left out as a whole."""

    def shown_text(self) -> str:
        return fitting_parts(self.text(), QFontMetrics(self.font()), self.contentsRect().width())


def fitting_parts(text: str, metrics: QFontMetrics, width: int) -> str:
    """As many of the parts of `12 M · 64 px · 23.8 MB` as fit, whole; the first one is elided if even it is too long."""
    parts = text.split(" · ")
    while len(parts) > 1 and metrics.horizontalAdvance(" · ".join(parts)) > width:
        parts.pop()
    return metrics.elidedText(" · ".join(parts), Qt.TextElideMode.ElideRight, width)


class _TextOnly(QObject):
    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        match event.type():
            case QEvent.Type.DragEnter | QEvent.Type.DragMove if isinstance(event, QDragMoveEvent):
                if event.mimeData().hasUrls() or event.mimeData().hasImage():
                    event.ignore()
                    return True
        return False


def takes_text_only(field: QLineEdit | QPlainTextEdit) -> None:
    """Leave dragged files and images to the panel or window around a text field, which would insert their addresses."""
    widget = field.viewport() if isinstance(field, QPlainTextEdit) else field
    widget.installEventFilter(_TextOnly(widget))

"""Read-only, selectable text that wraps anywhere, even inside a path, and is as tall as its lines."""

from __future__ import annotations

import math

from PySide6.QtCore import QEvent, QSize, Qt
from PySide6.QtGui import QResizeEvent, QTextOption, QWheelEvent
from PySide6.QtWidgets import QFrame, QGridLayout, QSizePolicy, QTextEdit, QWidget

from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.helpers import label


class WrappingText(QTextEdit):
    """Plain text in one of the tones of `helpers.label`."""

    _tone = ""  # until it is built: Qt sends change events before

    def __init__(self, text: str = "", tone: str = "text", *, pixels: int = theme.SMALL_PIXELS) -> None:
        super().__init__()
        self._tone = tone
        self.setReadOnly(True)
        self.setAcceptRichText(False)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFont(theme.font(pixels))
        self.setTabChangesFocus(True)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMinimumWidth(40)
        self.document().setDocumentMargin(0)
        self._apply_theme()
        self.set_text(text)

    def set_text(self, text: str) -> None:
        self.setPlainText(text)
        self._fit_height()

    def text(self) -> str:
        return self.toPlainText()

    def fit_text(self) -> None:
        self._fit_height()

    def minimumSizeHint(self) -> QSize:
        return QSize(40, self.height())

    def sizeHint(self) -> QSize:
        return QSize(120, self.height())

    def wheelEvent(self, event: QWheelEvent) -> None:
        event.ignore()  # it never scrolls itself: its parent does

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit_height()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange and self._tone:
            self._apply_theme()

    def _fit_height(self) -> None:
        self.document().setTextWidth(max(1, self.viewport().width()))
        height = math.ceil(self.document().size().height())
        if height != self.height():
            self.setFixedHeight(height)

    def _apply_theme(self) -> None:
        sheet = f"background: transparent; border: none; padding: 0; color: {theme.colour(self._tone).name()};"
        if sheet != self.styleSheet():
            self.setStyleSheet(sheet)


class FactsTable(QWidget):
    """Names, in a column of at least `name_width` px, and values."""

    def __init__(self, name_width: int = 76) -> None:
        super().__init__()
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(12)
        self._grid.setVerticalSpacing(8)
        self._name_width = name_width
        self.fit_text()
        self._grid.setColumnStretch(1, 1)
        self._shown: list[tuple[str, str]] = []

    def fit_text(self) -> None:
        self._grid.setColumnMinimumWidth(0, theme.scaled(self._name_width))

    def show_facts(self, facts: list[tuple[str, str]]) -> None:
        """Show those that have a value."""
        shown = [(name, value) for name, value in facts if value]
        if shown == self._shown:
            return
        self._shown = shown
        while (item := self._grid.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.hide()
                widget.deleteLater()
        for row, (name, value) in enumerate(shown):
            right = WrappingText(value)
            right.setAccessibleName(name)
            self._grid.addWidget(label(name, "dim", pixels=theme.SMALL_PIXELS), row, 0, Qt.AlignmentFlag.AlignTop)
            self._grid.addWidget(right, row, 1, Qt.AlignmentFlag.AlignTop)

    def facts(self) -> list[tuple[str, str]]:
        return list(self._shown)

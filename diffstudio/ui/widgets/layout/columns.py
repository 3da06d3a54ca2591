"""Columns side by side with handles between them; widths that the user sets are kept over a restart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QSplitter, QSplitterHandle, QWidget

from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.helpers import describe
from diffstudio.ui.widgets.layout.window_state import read_window_state, save_widths

_WIDE = 1180  # px of all columns at a text size of 100%: from here on they have their wide widths
_KEY_STEP = 16  # px that an arrow key moves a handle
_LARGEST_SHARE = 0.4  # of all columns, that a side column takes by itself


@dataclass(frozen=True, slots=True)
class Column:
    """A column. A side column has widths in px at a text size of 100%; the one without takes the rest, and at least
    `least` as long as the others can give way.
    """

    widget: QWidget
    name: str = ""  # in the accessible name of its handle
    least: int = 0
    narrow: int = 0  # by itself, in a narrow window
    wide: int = 0  # and in a wide one
    most: int = 640

    def usual(self, total: int) -> int:
        pixels = theme.scaled(self.wide if total >= theme.scaled(_WIDE) else self.narrow)
        return max(self.least, min(pixels, self.most, int(total * _LARGEST_SHARE)))


class Columns(QSplitter):
    """Side columns have their usual widths until the user drags a handle, or moves it with the arrow keys.

    A double click on a handle brings the usual width back. `name` is the key under which the widths are kept.
    """

    def __init__(self, name: str, columns: Sequence[Column]) -> None:
        super().__init__(Qt.Orientation.Horizontal)
        self._name, self._columns = name, tuple(columns)
        self._set_by_hand = dict(read_window_state().state.widths.get(name, {}))
        self.setChildrenCollapsible(False)
        self.setHandleWidth(5)
        for index, column in enumerate(columns):
            self.addWidget(column.widget)
            self.setStretchFactor(index, 0 if column.wide else 1)
            if column.wide:
                column.widget.setMinimumWidth(column.least)
                column.widget.setMaximumWidth(column.most)
        for index in range(1, len(columns)):
            side = self._side_of(index)
            describe(self.handle(index), f"Width of {columns[side].name}", _HANDLE_TIP)
        self.splitterMoved.connect(self._moved)

    def createHandle(self) -> QSplitterHandle:
        return _Handle(self.orientation(), self)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.fit_text()

    def fit_text(self) -> None:
        """Give every column its width: the user's, or the usual one."""
        total = self.width() - self.handleWidth() * (len(self._columns) - 1)
        widths = [self._width(column, total) if column.wide else 0 for column in self._columns]
        middle = widths.index(0)
        least = max(self._columns[middle].least, self._columns[middle].widget.minimumSizeHint().width())
        while sum(widths) + least > total and any(
            width > column.least for width, column in zip(widths, self._columns, strict=True) if column.wide
        ):  # too narrow for all: the widest side gives way
            index = max(
                (i for i, one in enumerate(self._columns) if one.wide and widths[i] > one.least),
                key=lambda i: widths[i],
            )
            widths[index] = max(self._columns[index].least, widths[index] - 8)
        widths[middle] = max(1, total - sum(widths))
        self.setSizes(widths)

    def reset(self, handle: int) -> None:
        """The usual width of the side column at a handle."""
        self._set_by_hand.pop(self._columns[self._side_of(handle)].name, None)
        save_widths(self._name, self._set_by_hand)
        self.fit_text()

    def nudge(self, handle: int, pixels: int) -> None:
        """Move a handle, as by dragging."""
        self.moveSplitter(sum(self.sizes()[:handle]) + self.handleWidth() * (handle - 1) + pixels, handle)

    def _width(self, column: Column, total: int) -> int:
        return min(self._set_by_hand.get(column.name, column.usual(total)), column.most)

    def _side_of(self, handle: int) -> int:
        """The side column that a handle resizes: the one to its left, or else to its right."""
        return handle - 1 if self._columns[handle - 1].wide else handle

    def _moved(self, position: int, handle: int) -> None:
        side = self._side_of(handle)
        self._set_by_hand[self._columns[side].name] = self.sizes()[side]
        save_widths(self._name, self._set_by_hand)


_HANDLE_TIP = "Drag or use the arrow keys to resize; double-click to reset"


class _Handle(QSplitterHandle):
    """Takes the focus, so that the keyboard can move it."""

    def __init__(self, orientation: Qt.Orientation, columns: Columns) -> None:
        super().__init__(orientation, columns)
        self._columns = columns
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)

    def _index(self) -> int:
        return next(index for index in range(self._columns.count()) if self._columns.handle(index) is self)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        step = {Qt.Key.Key_Left: -_KEY_STEP, Qt.Key.Key_Right: _KEY_STEP}.get(Qt.Key(event.key()))
        if step is not None:
            self._columns.nudge(self._index(), step)
        elif event.key() == Qt.Key.Key_Home:
            self._columns.reset(self._index())
        else:
            super().keyPressEvent(event)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        self._columns.reset(self._index())

    def paintEvent(self, event: QPaintEvent) -> None:
        if self.hasFocus() or self.underMouse():
            QPainter(self).fillRect(self.rect(), theme.colour("accent"))

"""The samples of all steps of a run: a row for each sheet, a column for each prompt."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from PySide6.QtCore import QEvent, QPoint, QRect, QRectF, Qt, Signal
from PySide6.QtGui import (
    QContextMenuEvent,
    QFontMetrics,
    QHelpEvent,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QResizeEvent,
)
from PySide6.QtWidgets import QAbstractScrollArea

from diffstudio.training.run.events import RunSamples, channel_sheet
from diffstudio.training.run.run_folder import RunFolder
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.activation import PRESSING
from diffstudio.ui.widgets.helpers import describe, set_tooltip, show_tooltip
from diffstudio.ui.widgets.images.drag_source import DragSource
from diffstudio.ui.widgets.images.image_menu import ImageTarget
from diffstudio.ui.widgets.images.image_painting import mark, rounded
from diffstudio.ui.widgets.images.image_reading import read_image

GAP = 6  # px between samples
SMALLEST, LARGEST = 48, 80  # px of a sample at 100%
MAX_SHEETS = 256  # kept in memory, each at the size it is shown
_RADIUS = 6
_STEPS = {  # what a key adds to row and column
    Qt.Key.Key_Left: (0, -1),
    Qt.Key.Key_Right: (0, 1),
    Qt.Key.Key_Up: (-1, 0),
    Qt.Key.Key_Down: (1, 0),
}


class Row(NamedTuple):
    """One sheet of the EMA weights or of the raw weights."""

    sheet: RunSamples
    weights: str  # as the row names them
    path: Path

    def samples(self) -> int:
        return sample_count(self.sheet)


def sample_count(sheet: RunSamples) -> int:
    """The number of samples; the last row of a sheet may be incomplete."""
    tiles = sheet.columns * sheet.rows
    return min(tiles, len(sheet.prompts)) if sheet.prompts else tiles


def sample_of(image: QImage, sheet: RunSamples, index: int) -> QImage:
    """The pixels of one sample of a sheet that was read into `image`."""
    columns, rows = max(1, sheet.columns), max(1, sheet.rows)
    width, height = image.width() / columns, image.height() / rows
    row, column = divmod(index, columns)
    return image.copy(round(column * width), round(row * height), round(width), round(height))


class SampleWall(QAbstractScrollArea):
    """A scrolling grid of samples; images can be dragged out and have the usual image menu, arrow keys choose one.

    Sheets are read when they are scrolled into view. Scrolled to the bottom, it follows the newest sheet.
    """

    menu_requested = Signal(object, object)  # ImageTarget, QPoint

    def __init__(self, tasks: Tasks) -> None:
        super().__init__()
        self._tasks = tasks
        self._run: RunFolder | None = None
        self._rows: list[Row] = []
        self._small: OrderedDict[Path, QImage] = OrderedDict()  # sheets at the size they are shown
        self._read_for = 0  # px of a sample in them
        self._reading: asyncio.Task[None] | None = None
        self._chosen = (0, 0)  # row and column of the image that keys act on
        DragSource(self.viewport(), self.target_at)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.viewport().setMouseTracking(False)
        describe(self, "Samples of all steps", "One row for each step. Arrow keys choose an image (Enter: its actions)")
        set_tooltip(self.viewport(), "")

    def show_sheets(
        self, run: RunFolder, sheets: Sequence[RunSamples], weights: Sequence[tuple[str, str]], channel: int = 0
    ) -> None:
        """Show the sheets of a run, oldest first.

        `weights`: the fields of `RunSamples` to show (`ema`, `raw`), with labels if both are shown.
        `channel`: the channel of array samples to show, counted from 1; 0 for all.
        """
        bar = self.verticalScrollBar()
        follows = run != self._run or bar.value() == bar.maximum()
        if run != self._run:
            self._small.clear()
        self._run = run
        self._rows = [
            Row(sheet, name, channel_sheet(run.path / (sheet.ema if which == "ema" else sheet.raw), channel))
            for sheet in sheets
            for which, name in weights
        ]
        self._arrange()
        if follows:
            bar.setValue(bar.maximum())
            self._choose(len(self._rows) - 1, self._chosen[1])
        self.viewport().update()

    def rows(self) -> Sequence[Row]:
        return self._rows

    def chosen(self) -> ImageTarget | None:
        """The image that keys act on, at full size."""
        return self._target(*self._chosen)

    def target_at(self, point: QPoint) -> ImageTarget | None:
        """The image at a point, at full size."""
        at = self._at(point)
        return self._target(*at) if at is not None else None

    # Geometry

    def _columns(self) -> int:
        return max((row.samples() for row in self._rows), default=0)

    def _left(self) -> int:
        """The width of the names of the rows, px."""
        metrics = QFontMetrics(theme.font(theme.TINY_PIXELS))
        texts = [f"{row.sheet.step:,}" for row in self._rows[-1:]] + [row.weights for row in self._rows[:2]] + ["step"]
        return max(map(metrics.horizontalAdvance, texts)) + 12

    def _top(self) -> int:
        """The height of the prompts above, px."""
        has_prompts = any(any(row.sheet.prompts) for row in self._rows[-2:])
        return QFontMetrics(theme.font(theme.TINY_PIXELS)).height() + 6 if has_prompts else 0

    def side(self) -> int:
        """The side of one sample in px, so that all columns fit if they are not too small then."""
        columns = max(1, self._columns())
        room = (self.viewport().width() - self._left()) // columns - GAP
        return min(max(room, theme.scaled(SMALLEST)), theme.scaled(LARGEST))

    def cell(self, row: int, column: int) -> QRect:
        """Where a sample is drawn, in the viewport."""
        side, bars = self.side(), (self.horizontalScrollBar(), self.verticalScrollBar())
        left = self._left() + column * (side + GAP) - bars[0].value()
        return QRect(left, self._top() + row * (side + GAP) - bars[1].value(), side, side)

    def _visible_rows(self) -> range:
        pitch, first = self.side() + GAP, self.verticalScrollBar().value()
        last = first + max(0, self.viewport().height() - self._top())
        return range(first // pitch, min(len(self._rows), last // pitch + 1))

    def _at(self, point: QPoint) -> tuple[int, int] | None:
        if point.y() < self._top() or point.x() < self._left():
            return None
        for row in self._visible_rows():
            for column in range(self._rows[row].samples()):
                if self.cell(row, column).contains(point):
                    return row, column
        return None

    def _arrange(self) -> None:
        side, view = self.side(), self.viewport().size()
        wide, high = self._columns() * (side + GAP), len(self._rows) * (side + GAP)
        for bar, whole, page in (
            (self.horizontalScrollBar(), wide, view.width() - self._left()),
            (self.verticalScrollBar(), high, view.height() - self._top()),
        ):
            bar.setRange(0, max(0, whole - GAP - page))
            bar.setPageStep(max(1, page))
            bar.setSingleStep(side + GAP)

    def resizeEvent(self, event: QResizeEvent) -> None:
        bar = self.verticalScrollBar()
        follows = bar.value() == bar.maximum()
        super().resizeEvent(event)
        self._arrange()
        if follows:
            bar.setValue(bar.maximum())

    def fit_text(self) -> None:
        self._arrange()
        self.viewport().update()

    # Painting

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self.viewport())
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(theme.font(theme.TINY_PIXELS))
        left, top, view = self._left(), self._top(), self.viewport().rect()
        painter.setClipRect(view.adjusted(left, top, 0, 0))
        for row in self._visible_rows():
            self._paint_row(painter, row)
        painter.setClipRect(view.adjusted(0, top, 0, 0))
        painter.setPen(theme.colour("dim"))
        for row in self._visible_rows():
            named = f"{self._rows[row].sheet.step:,}"
            text = f"{named}\n{self._rows[row].weights}" if self._rows[row].weights else named
            rect = QRect(0, self.cell(row, 0).y(), left - 8, self.side())
            painter.drawText(rect, int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter), text)
        painter.setClipRect(view)
        if top and self._visible_rows():
            self._paint_prompts(painter, left, top)
        self._read_visible()

    def _paint_row(self, painter: QPainter, row: int) -> None:
        one = self._rows[row]
        image = self._small.get(one.path, QImage())
        for column in range(one.samples()):
            rect = QRectF(self.cell(row, column))
            if image.isNull():
                painter.setPen(Qt.PenStyle.NoPen)
                painter.setBrush(theme.colour("raised"))
                painter.drawRoundedRect(rect, _RADIUS, _RADIUS)
            else:
                rounded(painter, sample_of(image, one.sheet, column), rect, _RADIUS)
            if (row, column) == self._chosen and self.hasFocus():
                mark(painter, rect, _RADIUS)

    def _paint_prompts(self, painter: QPainter, left: int, top: int) -> None:
        """The prompts of the first row in view."""
        prompts = self._rows[self._visible_rows()[0]].sheet.prompts
        metrics = painter.fontMetrics()
        painter.drawText(QRect(0, 0, left - 8, top), int(Qt.AlignmentFlag.AlignRight), "step")
        painter.setClipRect(self.viewport().rect().adjusted(left, 0, 0, 0))
        for column, prompt in enumerate(prompts):
            rect = QRect(self.cell(0, column).x(), 0, self.side(), top)
            text = metrics.elidedText(prompt or "no prompt", Qt.TextElideMode.ElideRight, rect.width())
            painter.drawText(rect, int(Qt.AlignmentFlag.AlignLeft), text)

    # Reading

    def _read_visible(self) -> None:
        side = round(self.side() * self.devicePixelRatioF())
        if side > self._read_for:  # the window is larger now
            self._read_for = side
            self._small.clear()
        busy = self._reading is not None and not self._reading.done()
        wanted = [self._rows[row] for row in self._visible_rows() if self._rows[row].path not in self._small]
        if wanted and not busy:
            self._reading = self._tasks.start(self._read(wanted, side))

    async def _read(self, rows: Sequence[Row], side: int) -> None:
        def read() -> Iterator[tuple[Path, QImage]]:
            for row in rows:
                yield row.path, read_image(row.path, side * max(row.sheet.columns, row.sheet.rows))

        run = self._run
        found = await self._tasks.to_thread(lambda: dict(read()))
        if run == self._run and side == self._read_for:
            self._small |= found
            while len(self._small) > MAX_SHEETS:
                self._small.popitem(last=False)
        self._reading = None
        self.viewport().update()

    def _target(self, row: int, column: int) -> ImageTarget | None:
        """A sample at full size; it has no file of its own."""
        if not (0 <= row < len(self._rows) and 0 <= column < self._rows[row].samples()):
            return None
        one = self._rows[row]
        image = read_image(one.path)
        if image.isNull():
            return None
        return ImageTarget(image=sample_of(image, one.sheet, column), prompt=self._prompt(row, column))

    def _prompt(self, row: int, column: int) -> str:
        prompts = self._rows[row].sheet.prompts
        return prompts[column] if column < len(prompts) else ""

    def _text(self, row: int, column: int) -> str:
        one = self._rows[row]
        parts = (self._prompt(row, column) or "no prompt", f"step {one.sheet.step:,}", one.weights)
        return " · ".join(part for part in parts if part)

    # Input

    def _choose(self, row: int, column: int) -> None:
        row = min(max(row, 0), max(0, len(self._rows) - 1))
        self._chosen = (row, min(max(column, 0), max(0, self._columns() - 1)))
        if self._rows:
            self.setAccessibleDescription(self._text(*self._chosen))
        self.viewport().update()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        key = Qt.Key(event.key())
        if self._rows and (step := _STEPS.get(key)) is not None:
            self._choose(*(at + by for at, by in zip(self._chosen, step, strict=True)))
            self._show_chosen()
        elif self._rows and key in (Qt.Key.Key_Home, Qt.Key.Key_End):
            self._choose(*((0, 0) if key == Qt.Key.Key_Home else (len(self._rows) - 1, self._columns() - 1)))
            self._show_chosen()
        elif self._rows and key in PRESSING:
            self._show_chosen()
            self._open_menu(self._chosen, self._middle_of_chosen())
        else:
            super().keyPressEvent(event)

    def _show_chosen(self) -> None:
        """Scroll the chosen image into view."""
        cell, view = self.cell(*self._chosen), self.viewport().rect().adjusted(self._left(), self._top(), 0, 0)
        for bar, before, after in (
            (self.horizontalScrollBar(), view.left() - cell.left(), cell.right() - view.right()),
            (self.verticalScrollBar(), view.top() - cell.top(), cell.bottom() - view.bottom()),
        ):
            bar.setValue(bar.value() - max(0, before) + (max(0, after) if before <= 0 else 0))

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if (at := self._at(event.position().toPoint())) is not None:
            self._choose(*at)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        if event.reason() == QContextMenuEvent.Reason.Keyboard:
            at: tuple[int, int] | None = self._chosen
            where = self._middle_of_chosen()
        else:
            at, where = self._at(event.pos()), event.globalPos()
        self._open_menu(at, where)

    def _middle_of_chosen(self) -> QPoint:
        return self.viewport().mapToGlobal(self.cell(*self._chosen).center())

    def _open_menu(self, at: tuple[int, int] | None, where: QPoint) -> None:
        if at is not None and (target := self._target(*at)) is not None:
            self.menu_requested.emit(target, where)

    def viewportEvent(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ToolTip and isinstance(event, QHelpEvent):
            at = self._at(event.pos())
            show_tooltip(event.globalPos(), self._text(*at) if at is not None else "", self)
            return True
        return super().viewportEvent(event)

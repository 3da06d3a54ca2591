"""The sample sheets of a run over time, one or all: from the EMA weights, the raw weights, or both side by side."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import QEvent, QPoint, QRectF, QSize, Qt, Signal
from PySide6.QtGui import (
    QContextMenuEvent,
    QHelpEvent,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QResizeEvent,
)
from PySide6.QtWidgets import QBoxLayout, QHBoxLayout, QSizePolicy, QSlider, QVBoxLayout, QWidget

from diffstudio.plurals import count_of
from diffstudio.training.run.events import RunSamples, channel_sheet
from diffstudio.training.run.run_folder import RunFolder
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.train.run.sample_wall import SampleWall, sample_count, sample_of
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.activation import PRESSING
from diffstudio.ui.widgets.controls import Chip, SectionLabel
from diffstudio.ui.widgets.helpers import describe, label, show_tooltip
from diffstudio.ui.widgets.images.channel_combo_box import ChannelComboBox
from diffstudio.ui.widgets.images.drag_source import DragSource
from diffstudio.ui.widgets.images.image_menu import ImageTarget
from diffstudio.ui.widgets.images.image_painting import mark, rounded
from diffstudio.ui.widgets.images.image_reading import read_image
from diffstudio.ui.widgets.images.roving_focus import cell_after_key
from diffstudio.ui.widgets.inputs.chip_row import ChipRow

MAX_DECODED_SHEETS = 64  # decoded, so that scrubbing back and forth is smooth
MAX_TILE = 176  # px on the screen
MIN_WIDTH, MIN_HEIGHT = 160, 176  # px
GAP = 8  # px between tiles
EMA, RAW, BOTH = "ema", "raw", "both"


class SampleGrid(QWidget):
    """The samples of one sheet, rearranged to fill the widget: drag one out, right-click for its menu.

    The arrow keys, Home and End choose a sample, whose menu Enter, Space or the Menu key open.
    """

    menu_requested = Signal(object, object)  # ImageTarget, QPoint

    def __init__(self, name: str) -> None:
        super().__init__()
        self._sheet, self._image, self._chosen = _NO_SHEET, QImage(), 0
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        DragSource(self, self.target_at)
        describe(self, name, f"{name}: drag one out, or right-click it; the arrow keys choose one")
        self.setMinimumSize(120, 96)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def sizeHint(self) -> QSize:
        return QSize(640, 96)

    def show_sheet(self, sheet: RunSamples | None, image: QImage) -> None:
        self._sheet, self._image = sheet or _NO_SHEET, image
        self._choose(self._chosen)

    def image(self) -> QImage:
        return self._image

    def count(self) -> int:
        """The number of samples."""
        if self._image.isNull():
            return 0
        return sample_count(self._sheet)

    def tiles(self) -> list[QRectF]:
        """Where each sample is drawn."""
        count = self.count()
        if count == 0:
            return []
        columns, side = fit_tiles(count, self.width(), self.height(), self._sheet.columns)
        pitch = side + GAP
        return [QRectF((index % columns) * pitch, (index // columns) * pitch, side, side) for index in range(count)]

    def sample(self, index: int) -> QImage:
        """The pixels of one sample."""
        return sample_of(self._image, self._sheet, index)

    def target_at(self, point: QPoint) -> ImageTarget | None:
        """The sample at a point, which is in no file of its own."""
        for index, rect in enumerate(self.tiles()):
            if rect.contains(point):
                return ImageTarget(image=self.sample(index), prompt=self.prompt_at(point))
        return None

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        for index, rect in enumerate(self.tiles()):
            rounded(painter, self.sample(index), rect, 6)
            if index == self._chosen and self.hasFocus():
                mark(painter, rect, 6)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        place = event.pos()
        if event.reason() == QContextMenuEvent.Reason.Keyboard and self.count():
            place = self.tiles()[self._chosen].center().toPoint()
        self._open_menu(place)

    def _open_menu(self, place: QPoint) -> None:
        if (target := self.target_at(place)) is not None:
            self.menu_requested.emit(target, self.mapToGlobal(place))

    def mousePressEvent(self, event: QMouseEvent) -> None:
        place = event.position()
        self._choose(next((index for index, rect in enumerate(self.tiles()) if rect.contains(place)), self._chosen))
        super().mousePressEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        tiles = self.tiles()
        if not tiles:
            super().keyPressEvent(event)
        elif event.key() in PRESSING:
            self._open_menu(tiles[self._chosen].center().toPoint())
        elif (to := cell_after_key(event.key(), tiles, self._chosen)) is not None:
            self._choose(to)
        else:
            super().keyPressEvent(event)

    def chosen(self) -> int:
        """The index of the sample that keys act on."""
        return self._chosen

    def _choose(self, index: int) -> None:
        count = self.count()
        self._chosen = min(max(index, 0), max(0, count - 1))
        about = f"{count_of(count, 'sample')} at step {self._sheet.step:,}"
        if self._chosen < len(self._sheet.prompts):
            about += f"; chosen: {self._sheet.prompts[self._chosen] or 'no prompt'}"
        self.setAccessibleDescription(about if count else "")
        self.update()

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ToolTip and isinstance(event, QHelpEvent):
            prompt = self.prompt_at(event.pos())
            show_tooltip(event.globalPos(), prompt, self)
            return True
        return super().event(event)

    def prompt_at(self, point: QPoint) -> str:
        for index, rect in enumerate(self.tiles()):
            if rect.contains(point) and index < len(self._sheet.prompts):
                return self._sheet.prompts[index] or "no prompt"
        return ""


_HEADING_WIDTH = 190  # px
_NO_SHEET = RunSamples(step=0, ema="", raw="", columns=1, rows=1, size=1, prompts=())


def fit_tiles(count: int, width: int, height: int, preferred: int) -> tuple[int, int]:
    """The number of columns and the side in px with which `count` square tiles fill width x height best.

    An incomplete last row costs a fifth of the side; a tie goes to the `preferred` number of columns.
    """

    def side(columns: int) -> int:
        rows = math.ceil(count / columns)
        return min((width - GAP * (columns - 1)) // columns, (height - GAP * (rows - 1)) // rows, MAX_TILE)

    def score(columns: int) -> tuple[float, bool]:
        return side(columns) * (1.0 if count % columns == 0 else 0.8), columns == preferred

    best = max(range(1, count + 1), key=score)
    return best, max(1, side(best))


class SampleSheetsView(QWidget):
    """Follows the newest sheet while the slider is at its right end.

    *All steps* shows all sheets, one below the other.
    """

    menu_requested = Signal(object, object)  # ImageTarget, QPoint

    def __init__(self, tasks: Tasks) -> None:
        super().__init__()
        self._tasks = tasks
        self._run: RunFolder | None = None
        self._sheets: tuple[RunSamples, ...] = ()
        self._decoded: OrderedDict[Path, QImage] = OrderedDict()
        self._reading: asyncio.Task[None] | None = None
        describe(self, "Samples over time")
        self.chips = ChipRow(
            [(EMA, "EMA"), (RAW, "Raw"), (BOTH, "Side by side")],
            name="Weights",
            tooltips=(
                "EMA: the moving average of the weights, which the checkpoint keeps",
                "The weights at that step",
                "EMA on the left, raw on the right",
            ),
        )
        self.channels = ChannelComboBox("the samples")
        self.ema, self.raw = (SampleGrid("Samples of the EMA weights"), SampleGrid("Samples of the raw weights"))
        self._headings = (
            label("EMA", "dim", pixels=theme.SMALL_PIXELS),
            label("Raw", "dim", pixels=theme.SMALL_PIXELS),
        )
        self._grids, self._columns = QWidget(), (QWidget(), QWidget())
        self._placeholder = label("The first samples come with the first checkpoint", "dim", wrap=True)
        self._placeholder.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        describe(self.slider, "Time of the samples", "Earlier samples; the right end follows the newest")
        self.wall = SampleWall(tasks)
        self.all_steps = Chip("All steps", tooltip="Show the samples of all steps, one row for each")
        self._first_step = label("", "dim", pixels=theme.SMALL_PIXELS)
        self._current_step = label("", "dim", pixels=theme.SMALL_PIXELS)
        self._lay_out()
        for grid in (self.ema, self.raw):
            grid.menu_requested.connect(self.menu_requested)
        self.wall.menu_requested.connect(self.menu_requested)
        self.all_steps.toggled.connect(self._arrange)
        self.chips.value_changed.connect(self._arrange)
        self.channels.chosen.connect(self._show_current)
        self.channels.chosen.connect(self._show_wall)
        self.slider.valueChanged.connect(self._show_current)
        self._arrange()

    def _lay_out(self) -> None:
        header = self._header = QBoxLayout(QBoxLayout.Direction.LeftToRight)
        header.setSpacing(12)
        header.addWidget(SectionLabel("Samples over time"), 1)
        self.chips.setFixedWidth(self._chips_width())
        header.addWidget(self.channels)
        header.addWidget(self.chips)
        grids = QHBoxLayout(self._grids)  # a widget: a layout without visible parts would keep its share of the height
        grids.setContentsMargins(0, 0, 0, 0)
        grids.setSpacing(20)
        for name, grid, part in zip(self._headings, (self.ema, self.raw), self._columns, strict=True):
            inside = QVBoxLayout(part)
            inside.setContentsMargins(0, 0, 0, 0)
            inside.setSpacing(4)
            inside.addWidget(name)
            inside.addWidget(grid, 1)
            grids.addWidget(part, 1)
        times = QHBoxLayout()
        times.setSpacing(12)
        times.addWidget(self._first_step)
        times.addWidget(self.slider, 1)
        times.addWidget(self._current_step)
        times.addWidget(self.all_steps, 0, Qt.AlignmentFlag.AlignRight)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addLayout(header)
        column.addWidget(self._placeholder, 1)
        column.addWidget(self._grids, 1)
        column.addWidget(self.wall, 1)
        column.addLayout(times)

    def _chips_width(self) -> int:
        """All chips in one row, px."""
        return sum(self.chips.chip(which).sizeHint().width() for which in (EMA, RAW, BOTH)) + 2 * 6

    def minimumSizeHint(self) -> QSize:
        return QSize(
            MIN_WIDTH, max(MIN_HEIGHT, super().minimumSizeHint().height())
        )  # resizeEvent moves the chips below the heading when narrow

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        picker = 0 if self.channels.isHidden() else self.channels.sizeHint().width() + self._header.spacing()
        side_by_side = self.width() >= self._chips_width() + picker + _HEADING_WIDTH
        self.chips.setFixedWidth(min(self._chips_width(), self.width()))  # below that they wrap
        self._header.setDirection(
            QBoxLayout.Direction.LeftToRight if side_by_side else QBoxLayout.Direction.TopToBottom
        )
        self._header.setSpacing(12 if side_by_side else 6)

    def show_samples(self, run: RunFolder | None, sheets: tuple[RunSamples, ...]) -> None:
        """Show the sheets of a run, oldest first."""
        run_changed = run != self._run
        following = run_changed or self.slider.value() == self.slider.maximum()
        shown = self.current()
        self._run, self._sheets = run, sheets
        if run_changed:
            self._decoded.clear()
        self.slider.blockSignals(True)
        self.slider.setRange(0, max(0, len(sheets) - 1))
        if following:
            self.slider.setValue(self.slider.maximum())
        self.slider.blockSignals(False)
        self._arrange()
        if run_changed or self.current() != shown:
            self._show_current()

    def current(self) -> RunSamples | None:
        """The sheet at the slider's position."""
        return self._sheets[self.slider.value()] if 0 <= self.slider.value() < len(self._sheets) else None

    def _arrange(self, *_: object) -> None:
        some, which = bool(self._sheets), self.chips.value()
        self.channels.offer(self._sheets[-1].channels if some else 0)
        self._placeholder.setVisible(not some)
        self.chips.setVisible(some)
        wall = len(self._sheets) > 1 and self.all_steps.isChecked()
        self._grids.setVisible(some and not wall)
        self._columns[0].setVisible(which in (EMA, BOTH))
        self._columns[1].setVisible(which in (RAW, BOTH))
        for name in self._headings:
            name.setVisible(some and which == BOTH)
        self._current_step.setVisible(len(self._sheets) > 1)
        self.all_steps.setVisible(len(self._sheets) > 1)
        for part in (self.slider, self._first_step):
            part.setVisible(len(self._sheets) > 1 and not wall)
        self.wall.setVisible(wall)
        self._show_step()
        self._show_wall()

    def _show_wall(self, *_: object) -> None:
        if self._run is not None and not self.wall.isHidden():
            weights = {EMA: [(EMA, "")], RAW: [(RAW, "")], BOTH: [(EMA, "EMA"), (RAW, "raw")]}
            channel = self.channels.value() or 0
            self.wall.show_sheets(self._run, self._sheets, weights[self.chips.value()], channel)

    def _show_step(self) -> None:
        current = self.current()
        if current is None:
            return
        newest = self.slider.value() == self.slider.maximum()
        self._first_step.setText(f"step {self._sheets[0].step:,}")
        shown = f"step {current.step:,}" + (" · newest" if newest else f" of {self._sheets[-1].step:,}")
        self._current_step.setText(shown if self.wall.isHidden() else count_of(len(self._sheets), "step"))
        self.slider.setAccessibleDescription(self._current_step.text())

    def _show_current(self, *_: object) -> None:
        self._show_step()
        sheet, run = self.current(), self._run
        if sheet is None or run is None:
            for grid in (self.ema, self.raw):
                grid.show_sheet(None, QImage())
            return
        channel = min(self.channels.value() or 0, sheet.channels)
        paths = tuple(channel_sheet(run.path / one, channel) for one in (sheet.ema, sheet.raw))
        if all(path in self._decoded for path in paths):
            for path, grid in zip(paths, (self.ema, self.raw), strict=True):
                self._decoded.move_to_end(path)
                grid.show_sheet(sheet, self._decoded[path])
            return
        if self._reading is not None:
            self._reading.cancel()  # while scrubbing, only the newest position counts
        self._reading = self._tasks.start(self._read(run, sheet, paths))

    async def _read(self, run: RunFolder, sheet: RunSamples, paths: Sequence[Path]) -> None:
        self._decoded |= await self._tasks.to_thread(lambda: {path: read_image(path) for path in paths})
        while len(self._decoded) > 2 * MAX_DECODED_SHEETS:
            self._decoded.popitem(last=False)
        if run == self._run and sheet == self.current():
            self._show_current()

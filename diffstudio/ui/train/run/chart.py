"""The charts of a run, one at a time: losses, losses by noise level, gradient norm, learning rate, throughput.

pyqtgraph takes a third of a second to import, so it is imported in a thread when the chart is first shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PySide6.QtCore import QEvent, QPointF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QResizeEvent, QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QMenu, QSizePolicy, QStackedLayout, QVBoxLayout, QWidget

from diffstudio.studio.number_text import formatted
from diffstudio.studio.runs.history import HistoryView
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.train.run.chart_lines import MOST_OTHERS, Chart, ChartKind, Line, OtherRun, chart_of
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.helpers import ElidedLabel, describe, label
from diffstudio.ui.widgets.inputs.combo_box import ComboBox
from diffstudio.ui.widgets.layout.flow_layout import FlowLayout

MIN_HEIGHT = 190  # px
_NARROW = 380  # px: there the drop-down needs the room of the text beside it
_COMPARE = "Compare runs"
_EMPTY = np.empty(0)
_SMALLEST = 1e-9  # what a logarithmic axis shows for 0
_COMING = {
    ChartKind.NOISE_LEVELS: "Losses by noise level appear with the first measurement on held-out images",
    ChartKind.DRAWN_LEVELS: "Only for runs with adaptive noise levels, after the first tenth",
    ChartKind.DIVERSITY: "The diversity of samples appears with the first verdict",
}


class RunChart(QWidget):
    """Draws the history once pyqtgraph is imported; `show_history` may be called before that."""

    ready = Signal()
    comparison_changed = Signal(object)  # list[Path] of the runs to lay over this one

    _plot: _Plot | None = None  # of the class: Qt calls changeEvent while __init__ runs

    def __init__(self, tasks: Tasks) -> None:
        super().__init__()
        self._tasks = tasks
        self._history: HistoryView | None = None
        self._others: tuple[OtherRun, ...] = ()
        self._offered: tuple[tuple[Path, str], ...] = ()  # runs that can be laid over this one
        self._compared: list[Path] = []
        self._chart = Chart()
        self._build_started = False
        describe(self, "Chart of the run", " ")
        self.kind = ComboBox("Chart", [(kind, str(kind)) for kind in ChartKind], "What the chart shows")
        self.kind.setMinimumContentsLength(5)
        self.kind.setMaximumWidth(theme.scaled(180))
        self.compare = SecondaryButton(_COMPARE, "chart-line-up", "Plot other runs in the same chart")
        self.compare.hide()
        self.menu = QMenu(self)
        self._readout = ElidedLabel("", "dim", pixels=theme.SMALL_PIXELS)
        self._readout.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self._legend_row, self._legend = QWidget(), FlowLayout(spacing=12, row_spacing=2)
        self._legend_row.setLayout(self._legend)
        self._entries: list[_LegendEntry] = []
        self._placeholder = label("", "dim", wrap=True)
        self._placeholder.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._header = QHBoxLayout()
        self._header.setSpacing(8)
        for part, stretch in ((self.kind, 2), (self.compare, 0), (self._readout, 3)):
            self._header.addWidget(part, stretch)
        self._area = QStackedLayout()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(self._header)
        column.addWidget(self._legend_row)
        column.addLayout(self._area, 1)
        self._area.addWidget(self._placeholder)  # the first one is shown at once, so that it needs a parent before
        self.setMinimumHeight(MIN_HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.kind.chosen.connect(lambda _: self._draw())
        self.compare.clicked.connect(self._open_menu)

    def sizeHint(self) -> QSize:
        return QSize(600, MIN_HEIGHT)

    def show_history(self, history: HistoryView | None, others: Sequence[OtherRun] = ()) -> None:
        self._history, self._others = history, tuple(others)
        self._draw()

    def offer_runs(self, runs: Sequence[tuple[Path, str]]) -> None:
        """The runs, with their names, that can be laid over this one; those that are gone are no longer compared."""
        self._offered = tuple(runs)
        self.compare.setVisible(bool(runs))
        known = {path for path, _ in runs}
        if any(path not in known for path in self._compared):
            self._compare([path for path in self._compared if path in known])

    def compared(self) -> list[Path]:
        """The runs that are laid over this one."""
        return list(self._compared)

    def chart(self) -> Chart:
        return self._chart

    def _compare(self, paths: Sequence[Path]) -> None:
        self._compared = list(paths)
        self.comparison_changed.emit(self.compared())

    def _open_menu(self) -> None:
        self.menu.clear()
        for path, name in self._offered:
            action = self.menu.addAction(name.replace("&", "&&")[:60])
            action.setCheckable(True)
            action.setChecked(path in self._compared)
            action.setEnabled(path in self._compared or len(self._compared) < MOST_OTHERS)
            action.toggled.connect(lambda on, path=path: self._toggle(path, on))
        self.menu.popup(self.compare.mapToGlobal(self.compare.rect().bottomLeft()))

    def _toggle(self, path: Path, on: bool) -> None:
        others = [each for each in self._compared if each != path]
        self._compare([*others, path] if on else others)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if not self._build_started:
            self._build_started = True
            self._tasks.start(self._build())

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange and self._plot is not None:
            self._plot.apply_theme()
            self._draw()

    async def _build(self) -> None:
        self._plot = _Plot(await self._tasks.to_thread(_import_pyqtgraph))
        self._plot.widget.scene().sigMouseMoved.connect(self._show_values_at)
        self._area.addWidget(self._plot.widget)
        self._draw()
        self.ready.emit()

    def _draw(self) -> None:
        kind: ChartKind = self.kind.value()
        self._chart = chart_of(kind, self._history, self._others) if self._history is not None else Chart()
        empty = self._chart.is_empty()
        coming = _COMING.get(kind, "The curve starts after a few steps")
        self._placeholder.setText(coming if empty else "Preparing the chart…")
        if self._plot is not None:
            self._plot.draw(self._chart)
            self._area.setCurrentIndex(0 if empty else 1)
        self._show_legend(() if empty else self._chart.lines)
        self._show_axis()
        self.setAccessibleName(str(kind))
        self.setAccessibleDescription(self._chart.description)

    def _show_legend(self, lines: Sequence[Line]) -> None:
        shown = [(line.name, line.role, line.faint, line.dashed) for line in lines if len(line.x) and line.listed]
        if [entry.key for entry in self._entries] == shown:
            return
        for entry in self._entries:
            self._legend.removeWidget(entry)
            entry.deleteLater()
        self._entries = [_LegendEntry(*key) for key in shown]
        for entry in self._entries:
            self._legend.addWidget(entry)
        self._legend_row.setVisible(bool(shown))
        self._fit_legend()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        is_narrow = self.width() < theme.scaled(_NARROW)
        self.compare.setText("" if is_narrow else _COMPARE)
        self._header.setStretchFactor(self.kind, 8 if is_narrow else 2)
        self._fit_legend()

    def _fit_legend(self) -> None:
        """Rows of the legend beyond the first do not make the plot lower."""
        first = max((entry.sizeHint().height() for entry in self._entries), default=0)
        rows = self._legend.heightForWidth(self.width()) if self._entries else 0
        self.setMinimumHeight(MIN_HEIGHT + max(0, rows - first))

    def _show_values_at(self, position: QPointF) -> None:
        """Show the values under the pointer."""
        assert self._plot is not None
        x = self._plot.x_at(position)
        if x is None or self._chart.is_empty():
            self._show_axis()
            return
        values = [
            f"{line.name} {formatted(line.y[int(np.argmin(np.abs(line.x - x)))], '.3g')}"
            for line in self._chart.lines
            if len(line.x) and not line.faint
        ]
        at = f"noise level {x:.2f}" if self._chart.over_levels else f"step {max(0, round(x)):,}"
        self._readout.setText(f"{at}: {', '.join(values)}")

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self._show_axis()

    def _show_axis(self) -> None:
        """Say what the horizontal axis is, where that is not the step."""
        self._readout.setText("noise level: 0 clean, 1 pure noise" if self._chart.over_levels else "")


def _import_pyqtgraph() -> Any:
    import pyqtgraph

    return pyqtgraph


class _LegendEntry(QWidget):
    """A piece of a line in its colour, and its name."""

    def __init__(self, text: str, role: str, faint: bool, dashed: bool) -> None:
        super().__init__()
        self.key = (text, role, faint, dashed)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(5)
        row.addWidget(_LineSample(role, faint, dashed))
        name = ElidedLabel(text, "dim", pixels=theme.SMALL_PIXELS)
        name.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        row.addWidget(name)


class _LineSample(QWidget):
    def __init__(self, role: str, faint: bool, dashed: bool) -> None:
        super().__init__()
        self._role, self._faint, self._dashed = role, faint, dashed
        self.setFixedSize(14, 9)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        pen = painter.pen()
        pen.setColor(_colour(self._role, self._faint))
        pen.setWidth(2)
        pen.setStyle(Qt.PenStyle.DotLine if self._dashed else Qt.PenStyle.SolidLine)
        painter.setPen(pen)
        painter.drawLine(0, 5, self.width(), 5)


def _colour(role: str, faint: bool) -> QColor:
    colour = QColor(theme.colour(role))
    colour.setAlphaF(0.34 if faint else 1.0)
    return colour


class _Plot:
    """The pyqtgraph plot. Dragging and zooming are off."""

    def __init__(self, pyqtgraph: Any) -> None:
        self._pg = pyqtgraph
        self._left = _value_axis(pyqtgraph)
        self._bottom = _step_axis(pyqtgraph)
        self.widget = pyqtgraph.PlotWidget(axisItems={"left": self._left, "bottom": self._bottom}, enableMenu=False)
        self.widget.setFrameShape(self.widget.Shape.NoFrame)
        self.widget.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.widget.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Ignored)  # its hint is half a screen
        item = self.widget.getPlotItem()
        item.setMenuEnabled(False)
        item.ctrlMenu.setParent(self.widget, item.ctrlMenu.windowFlags())  # pyqtgraph creates it without a parent
        item.hideButtons()
        item.setMouseEnabled(False, False)
        item.setContentsMargins(0, 4, 8, 0)
        self._box = item.getViewBox()
        self._box.setDefaultPadding(0.0)
        self.curves: list[Any] = []
        self._marks: list[Any] = []
        self._item = item
        self.apply_theme()

    def apply_theme(self) -> None:
        pen = self._pg.mkPen
        self.widget.setBackground(theme.colour("background"))
        for axis in (self._left, self._bottom):
            axis.setPen(pen(theme.colour("line")))
            axis.setTextPen(pen(theme.colour("dim")))
            axis.setTickFont(theme.font(theme.TINY_PIXELS))
            axis.setStyle(tickLength=0, tickTextOffset=8)
        self._left.setWidth(48)
        self._item.showGrid(x=False, y=True, alpha=0.5)

    def draw(self, chart: Chart) -> None:
        while len(self.curves) < len(chart.lines):
            self.curves.append(self._item.plot(_EMPTY, _EMPTY, antialias=True))
        for curve in self.curves[len(chart.lines) :]:
            curve.setData(_EMPTY, _EMPTY)
        for curve, line in zip(self.curves, chart.lines, strict=False):
            style = Qt.PenStyle.DotLine if line.dashed else Qt.PenStyle.SolidLine
            curve.setPen(self._pg.mkPen(_colour(line.role, line.faint), width=1 if line.faint else 2, style=style))
            dots = len(line.x) == 1 or chart.over_levels  # one point draws no line, so it gets a dot
            curve.setData(
                line.x,
                _drawn(line.y, chart.logarithmic),
                symbol="o" if dots else None,
                symbolSize=6,
                symbolBrush=_colour(line.role, line.faint),
                symbolPen=None,
            )
        self._left.logarithmic, self._bottom.levels = chart.logarithmic, chart.over_levels
        if not chart.is_empty():
            self._set_range(chart)
        self._draw_marks(chart)

    def _set_range(self, chart: Chart) -> None:
        values = _drawn(np.concatenate([line.y for line in chart.lines]), chart.logarithmic)
        low, high = float(values.min()), float(values.max())
        if not chart.logarithmic:
            low = min(0.0, low)
        margin = max(0.05 if chart.logarithmic else 1e-9, 0.06 * (high - low))
        below = margin if chart.logarithmic else 0.0
        last = max((float(line.x[-1]) for line in chart.lines if len(line.x)), default=1.0)
        right = 1.0 if chart.over_levels else max(last, 1.0) * 1.01
        self._box.setRange(xRange=(0, right), yRange=(low - below, high + margin), padding=0)
        self._left.picture = self._bottom.picture = None  # the same numbers may have other labels now

    def _draw_marks(self, chart: Chart) -> None:
        for mark in self._marks:
            self._item.removeItem(mark)
        self._marks = []
        middle = sum(self._box.viewRange()[0]) / 2
        for x, text in () if chart.is_empty() else chart.marks:
            pen = self._pg.mkPen(theme.colour("dim"), width=1, style=Qt.PenStyle.DashLine)
            beside = (1.05, -0.05) if x > middle else (-0.05, -0.05)  # below the top, on the side where there is room
            options = {"position": 1.0, "color": theme.colour("dim"), "anchors": [beside, beside]}
            mark = self._pg.InfiniteLine(pos=x, angle=90, pen=pen, label=text, labelOpts=options)
            self._item.addItem(mark)
            self._marks.append(mark)

    def x_at(self, position: QPointF) -> float | None:
        if not self._box.sceneBoundingRect().contains(position):
            return None
        return float(self._box.mapSceneToView(position).x())


def _drawn(values: Any, logarithmic: bool) -> Any:
    return np.log10(np.maximum(values, _SMALLEST)) if logarithmic else values


def _value_axis(pyqtgraph: Any) -> Any:
    class ValueAxis(pyqtgraph.AxisItem):
        """Ticks at 1, 2 and 5 times powers of ten, closer for a small range; labelled as plain numbers."""

        logarithmic = True

        def tickValues(self, low: float, high: float, size: float) -> list[tuple[float, list[float]]]:
            if not self.logarithmic:
                spacing = _round_spacing((high - low) / max(2, size / 50))
                first = math.ceil(low / spacing)
                return [(spacing, [spacing * number for number in range(first, math.floor(high / spacing) + 1)])]
            for multiples in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(n / 10 for n in range(10, 100, 2))):
                powers = range(math.floor(low), math.ceil(high) + 1)
                values = [math.log10(multiple) + power for power in powers for multiple in multiples]
                values = [value for value in values if low <= value <= high]
                if len(values) >= max(2, min(4, size // 50)):
                    break
            most = max(2, int(size // 22))
            return [(1.0, values[:: math.ceil(len(values) / most)] if values else [])]

        def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:
            return [f"{10**value:.2g}" if self.logarithmic else formatted(value, ".3g") for value in values]

    return ValueAxis("left")


def _step_axis(pyqtgraph: Any) -> Any:
    class StepAxis(pyqtgraph.AxisItem):
        """Round numbers of steps: 500, 20k, 1.5M; or noise levels, 0 to 1."""

        levels = False

        def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:
            return [f"{value:g}" if self.levels else step_text(value) for value in values]

        def tickSpacing(self, low: float, high: float, size: float) -> list[tuple[float, float]]:
            if self.levels:
                return [(0.25 if size >= 160 else 0.5, 0)]
            return [(_round_spacing(max((high - low) / max(2, size / 90), 1.0)), 0)]

    return StepAxis("bottom")


def _round_spacing(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(max(least, 1e-12)))
    return next(multiple * power for multiple in (1, 2, 5, 10) if multiple * power >= least * (1 - 1e-9))


def step_text(step: float) -> str:
    """1500 -> `1.5k`, 20000 -> `20k`."""
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if abs(step) >= limit:
            return f"{step / limit:g}{unit}"
    return f"{step:g}"

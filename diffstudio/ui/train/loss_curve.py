"""The loss curve of a run: training loss, smoothed loss and held-out loss over the steps.

pyqtgraph takes a third of a second to import, so it is imported in a thread when the curve is first shown.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from PySide6.QtCore import QEvent, QPointF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QStackedLayout, QVBoxLayout, QWidget

from diffstudio.studio.runs.history import HistoryView
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import SectionLabel
from diffstudio.ui.widgets.helpers import describe, label

_EMPTY = np.empty(0)


class LossCurve(QWidget):
    """Draws the history once pyqtgraph is imported; `show_history` may be called before that."""

    ready = Signal()

    _plot: _Plot | None = None  # of the class: Qt calls changeEvent while __init__ runs

    def __init__(self, tasks: Tasks) -> None:
        super().__init__()
        self._tasks = tasks
        self._history: HistoryView | None = None
        self._build_started = False
        describe(self, "Loss curve", "Training loss by step, logarithmic")
        self._title = SectionLabel("Loss")
        self._readout = label("", "dim", pixels=theme.SMALL_PIXELS)
        self._placeholder = label("The curve starts after a few steps", "dim")
        self._placeholder.setAlignment(Qt.AlignmentFlag.AlignCenter)
        header = QHBoxLayout()
        header.setSpacing(12)
        header.addWidget(self._title, 1)
        header.addWidget(self._readout)
        for role, text in (("edge", "measured"), ("accent", "smoothed"), ("good", "held out")):
            header.addWidget(_LegendEntry(role, text))
        self._area = QStackedLayout()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(header)
        column.addLayout(self._area, 1)
        self._area.addWidget(
            self._placeholder
        )  # a stacked layout shows its first widget, so that one needs a parent first
        self.setMinimumHeight(120)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def sizeHint(self) -> QSize:
        return QSize(600, 240)

    def show_history(self, history: HistoryView | None) -> None:
        self._history = history
        self._draw()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if not self._build_started:
            self._build_started = True
            self._tasks.start(self._build())

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange and self._plot is not None:
            self._plot.apply_theme()

    async def _build(self) -> None:
        self._plot = _Plot(await self._tasks.to_thread(_import_pyqtgraph))
        self._plot.widget.scene().sigMouseMoved.connect(self._show_values_at)
        self._area.addWidget(self._plot.widget)
        self._draw()
        self.ready.emit()

    def _draw(self) -> None:
        history = self._history
        drawable = history is not None and len(history.losses) > 0
        if self._plot is not None:
            self._plot.draw(history if drawable else None)
            self._area.setCurrentIndex(1 if drawable else 0)
        if history is not None and drawable:
            description = f"Loss {history.smoothed[-1]:.3g} at step {history.steps[-1]:,.0f}"
            if len(history.held_out_losses):
                description += f", held out {history.held_out_losses[-1]:.3g}"
            self.setAccessibleDescription(description)

    def _show_values_at(self, position: QPointF) -> None:
        """Show the step and the losses under the pointer."""
        assert self._plot is not None
        step = self._plot.step_at(position)
        if step is None or self._history is None or not len(self._history.steps):
            self._readout.setText("")
            return
        index = int(np.argmin(np.abs(self._history.steps - step)))
        text = f"step {self._history.steps[index]:,.0f}:  {self._history.smoothed[index]:.3g}"
        if len(self._history.held_out_steps):
            nearest = int(np.argmin(np.abs(self._history.held_out_steps - step)))
            text += f",  held out {self._history.held_out_losses[nearest]:.3g}"
        self._readout.setText(text)

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self._readout.setText("")


def _import_pyqtgraph() -> Any:
    import pyqtgraph

    return pyqtgraph


class _LegendEntry(QWidget):
    """A dot in the colour of a line, and its name."""

    def __init__(self, role: str, text: str) -> None:
        super().__init__()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(5)
        row.addWidget(_ColourDot(role))
        name: QLabel = label(text, "dim", pixels=theme.SMALL_PIXELS)
        row.addWidget(name)


class _ColourDot(QWidget):
    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role
        self.setFixedSize(9, 9)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(theme.colour(self._role))
        painter.drawEllipse(self.rect())


class _Plot:
    """The pyqtgraph plot: log10 of the loss over the step. Dragging and zooming are off."""

    def __init__(self, pyqtgraph: Any) -> None:
        self._pg = pyqtgraph
        self._history: HistoryView | None = None
        axes = {"left": _log_axis(pyqtgraph), "bottom": _step_axis(pyqtgraph)}
        self.widget = pyqtgraph.PlotWidget(axisItems=axes, enableMenu=False)
        self.widget.setFrameShape(self.widget.Shape.NoFrame)
        self.widget.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        item = self.widget.getPlotItem()
        item.setMenuEnabled(False)
        item.ctrlMenu.setParent(self.widget, item.ctrlMenu.windowFlags())  # pyqtgraph creates it without a parent
        item.hideButtons()
        item.setMouseEnabled(False, False)
        item.setContentsMargins(0, 4, 8, 0)
        self._box = item.getViewBox()
        self._box.setDefaultPadding(0.0)
        self._raw, self._smooth, self._held_out = (item.plot(_EMPTY, _EMPTY, antialias=True) for _ in range(3))
        self._item = item
        self.apply_theme()

    def apply_theme(self) -> None:
        pen = self._pg.mkPen
        self.widget.setBackground(theme.colour("background"))
        faint = QColor(theme.colour("accent"))
        faint.setAlphaF(0.34)
        self._raw.setPen(pen(faint, width=1))
        self._smooth.setPen(pen(theme.colour("accent"), width=2))
        self._held_out.setPen(pen(theme.colour("good"), width=2))
        for side in ("left", "bottom"):
            axis = self._item.getAxis(side)
            axis.setPen(pen(theme.colour("line")))
            axis.setTextPen(pen(theme.colour("dim")))
            axis.setTickFont(theme.font(theme.TINY_PIXELS))
            axis.setStyle(tickLength=0, tickTextOffset=8)
        self._item.getAxis("left").setWidth(44)
        self._item.showGrid(x=False, y=True, alpha=0.5)

    def draw(self, history: HistoryView | None) -> None:
        if history is None:
            for curve in (self._raw, self._smooth, self._held_out):
                curve.setData(_EMPTY, _EMPTY)
            return
        smallest = 1e-9
        self._raw.setData(history.steps, np.log10(np.maximum(history.losses, smallest)))
        self._smooth.setData(history.steps, np.log10(np.maximum(history.smoothed, smallest)))
        single = len(history.held_out_steps) == 1  # one point draws no line, so it gets a dot
        self._held_out.setData(
            history.held_out_steps,
            np.log10(np.maximum(history.held_out_losses, smallest)),
            symbol="o" if single else None,
            symbolSize=6,
            symbolBrush=theme.colour("good"),
            symbolPen=None,
        )
        shown = np.concatenate([history.losses, history.held_out_losses])
        low, high = math.log10(max(shown.min(), smallest)), math.log10(max(shown.max(), smallest))
        margin = max(0.05, 0.06 * (high - low))
        last = max(history.steps[-1], 1.0)
        self._box.setRange(xRange=(0, last * 1.01), yRange=(low - margin, high + margin), padding=0)

    def step_at(self, position: QPointF) -> float | None:
        if not self._box.sceneBoundingRect().contains(position):
            return None
        return float(self._box.mapSceneToView(position).x())


def _log_axis(pyqtgraph: Any) -> Any:
    class LogAxis(pyqtgraph.AxisItem):
        """Ticks at 1, 2 and 5 times powers of ten, closer for a small range; labelled as plain numbers."""

        def tickValues(self, low: float, high: float, size: float) -> list[tuple[float, list[float]]]:
            for multiples in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(n / 10 for n in range(10, 100, 2))):
                powers = range(math.floor(low), math.ceil(high) + 1)
                values = [math.log10(multiple) + power for power in powers for multiple in multiples]
                values = [value for value in values if low <= value <= high]
                if len(values) >= max(2, min(4, size // 50)):
                    break
            most = max(2, int(size // 22))
            return [(1.0, values[:: math.ceil(len(values) / most)] if values else [])]

        def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:
            return [f"{10**value:.2g}" for value in values]

    return LogAxis("left")


def _step_axis(pyqtgraph: Any) -> Any:
    class StepAxis(pyqtgraph.AxisItem):
        """Round numbers of steps: 500, 20k, 1.5M."""

        def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:
            return [step_text(value) for value in values]

        def tickSpacing(self, low: float, high: float, size: float) -> list[tuple[float, float]]:
            most = max(2, size / 90)
            exact = max((high - low) / most, 1.0)
            power = 10 ** math.floor(math.log10(exact))
            spacing = next(multiple * power for multiple in (1, 2, 5, 10) if multiple * power >= exact)
            return [(spacing, 0)]

    return StepAxis("bottom")


def step_text(step: float) -> str:
    """1500 -> `1.5k`, 20000 -> `20k`."""
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if abs(step) >= limit:
            return f"{step / limit:g}{unit}"
    return f"{step:g}"

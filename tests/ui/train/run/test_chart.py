"""The charts of a run and their ticks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QPointF, Qt
from pytestqt.qtbot import QtBot

from diffstudio.studio.runs.history import HistoryView
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.train.run.chart import RunChart, step_text
from diffstudio.ui.train.run.chart_lines import ChartKind, OtherRun


@pytest.mark.parametrize(
    ("step", "text"), [(0, "0"), (500, "500"), (1500, "1.5k"), (20_000, "20k"), (1_500_000, "1.5M")]
)
def test_steps_as_ticks(step: float, text: str) -> None:
    assert step_text(step) == text


def history(losses: list[float], held_out: list[float]) -> HistoryView:
    steps = np.arange(1.0, len(losses) + 1)
    values = np.array(losses)
    return HistoryView(steps, values, values, np.linspace(1, len(losses), len(held_out)), np.array(held_out))


@pytest.fixture
def chart(qtbot: QtBot) -> Iterator[RunChart]:
    tasks = Tasks()
    chart = RunChart(tasks)
    qtbot.addWidget(chart)
    chart.resize(600, 240)
    chart.show_history(history([0.5, 0.05, 0.005], [0.6, 0.06, 0.006]))  # before there is anything to draw with
    with qtbot.waitSignal(chart.ready, timeout=60_000):
        chart.show()
    yield chart
    tasks.close()


def test_a_long_legend_takes_no_height_from_the_plot_and_fits_its_width(chart: RunChart, qtbot: QtBot) -> None:
    chart.resize(260, chart.minimumHeight())
    qtbot.wait(10)
    plot = chart._area.geometry().height()
    others = [OtherRun("a-run-with-a-name-of-many-words " * 3, history([0.5, 0.1], [0.6])) for _ in range(3)]
    chart.show_history(history([0.5, 0.05], [0.6, 0.06]), others)
    qtbot.waitUntil(lambda: len(chart._entries) > 3)
    assert chart.minimumSizeHint().width() <= 260
    chart.resize(260, chart.minimumHeight())
    qtbot.wait(10)
    assert chart._area.geometry().height() >= plot
    assert all(entry.geometry().right() < 260 for entry in chart._entries)
    assert "measured" not in [entry.key[0] for entry in chart._entries], "the thin line beside the smoothed one"


def test_what_was_measured_is_not_called_missing_while_the_chart_is_prepared(qtbot: QtBot) -> None:
    tasks = Tasks()
    chart = RunChart(tasks)
    qtbot.addWidget(chart)
    chart.show_history(history([0.5, 0.05], []))
    assert chart._placeholder.text() == "Preparing the chart…"
    chart.show_history(history([], []))
    assert chart._placeholder.text() == "The curve starts after a few steps"
    tasks.close()


def test_losses_are_drawn_on_a_logarithmic_scale(chart: RunChart) -> None:
    assert chart._plot is not None
    drawn = [curve.yData for curve in chart._plot.curves]
    assert drawn[0] == pytest.approx(np.log10([0.5, 0.05, 0.005]))
    assert drawn[2] == pytest.approx(np.log10([0.6, 0.06, 0.006]))
    left = chart._plot._left
    shown = [text for _, values in left.tickValues(-2.3, 0.0, 200.0) for text in left.tickStrings(values, 1, 1)]
    assert "0.1" in shown and "0.01" in shown
    chart.show_history(history([1.0, 0.0], []))  # a loss of nothing has no logarithm
    assert np.all(np.isfinite(chart._plot.curves[0].yData))
    chart.show_history(None)
    assert not chart._plot.widget.isVisible()
    chart.grab()


def test_a_throughput_is_drawn_on_a_linear_scale_from_zero(chart: RunChart) -> None:
    assert chart._plot is not None
    measured = replace(history([1, 1, 1], []), images_per_second=np.array([40.0, 60.0, 50.0]))
    chart.kind.set_value(ChartKind.THROUGHPUT)
    chart.show_history(measured)
    assert list(chart._plot.curves[0].yData) == [40.0, 60.0, 50.0]
    (low, high) = chart._plot._box.viewRange()[1]
    assert low == 0.0 and high > 60
    left = chart._plot._left
    ((_, ticks),) = left.tickValues(0.0, 60.0, 200.0)
    assert left.tickStrings(ticks, 1, 1) == ["0", "20", "40", "60"]
    assert chart.accessibleName() == "Images per second" and "50" in chart.accessibleDescription()


@pytest.mark.usefixtures("dressed")
@pytest.mark.parametrize("best", [0, 9])
def test_the_name_of_a_mark_stays_in_the_plot(chart: RunChart, best: int) -> None:
    held_out = [0.5] * 10
    held_out[best] = 0.1
    chart.show_history(history([0.5] * 10, held_out))
    assert chart._plot is not None
    (mark,) = chart._plot._marks
    chart.grab()  # places the label
    place = mark.label.mapRectToScene(mark.label.boundingRect())
    assert mark.value() == best + 1 and chart._plot._box.sceneBoundingRect().contains(place)


def test_what_is_not_measured_yet_is_named(chart: RunChart) -> None:
    chart.kind.set_value(ChartKind.NOISE_LEVELS)
    chart.show_history(history([1, 1], []))
    assert chart._placeholder.isVisible() and "first measurement" in chart._placeholder.text()


def test_the_pointer_reads_values(chart: RunChart) -> None:
    assert chart._plot is not None
    box = chart._plot._box
    chart._show_values_at(box.mapViewToScene(QPointF(2.0, -1.0)))
    assert chart._readout.text() == "step 2: smoothed 0.05, held out 0.06"
    chart._show_values_at(QPointF(-100, -100))
    assert chart._readout.text() == ""


def test_other_runs_are_laid_over(chart: RunChart, qtbot: QtBot) -> None:
    assert not chart.compare.isVisible()  # there is no other run
    one, two = Path("one"), Path("two")
    chart.offer_runs([(one, "one"), (two, "two & more")])
    qtbot.mouseClick(chart.compare, Qt.MouseButton.LeftButton)
    assert [action.text() for action in chart.menu.actions()] == ["one", "two && more"]
    with qtbot.waitSignal(chart.comparison_changed) as asked:
        chart.menu.actions()[1].trigger()
    chart.menu.close()
    assert asked.args == [[two]]
    chart.show_history(history([0.5, 0.4], [0.6, 0.5]), [OtherRun("two", history([0.3, 0.2], [0.4, 0.3]))])
    assert [entry.key[0] for entry in chart._entries][-1] == "two, held out"
    chart.offer_runs([(one, "one")])  # the other one was removed
    assert chart.compared() == []


@pytest.mark.parametrize(("low", "high"), [(-3.0, 0.0), (-1.30, -1.22), (-1.201, -1.2), (-8.0, 2.0)])
def test_there_are_always_a_few_ticks(qtbot: QtBot, low: float, high: float) -> None:
    import pyqtgraph

    from diffstudio.ui.train.run.chart import _value_axis

    axis = _value_axis(pyqtgraph)
    ((_, values),) = axis.tickValues(low, high, 200.0)
    assert all(low <= value <= high for value in values)
    assert len(values) <= 10
    if high - low > 0.05:
        assert len(values) >= 2
    labels = axis.tickStrings(values, 1.0, 1.0)
    assert len(set(labels)) == len(labels), "no two ticks read the same"

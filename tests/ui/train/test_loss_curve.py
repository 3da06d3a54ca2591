"""The loss curve and its ticks."""

from __future__ import annotations

import numpy as np
import pytest
from pytestqt.qtbot import QtBot

from diffstudio.studio.runs.history import HistoryView
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.train.loss_curve import LossCurve, step_text


@pytest.mark.parametrize(
    ("step", "text"), [(0, "0"), (500, "500"), (1500, "1.5k"), (20_000, "20k"), (1_500_000, "1.5M")]
)
def test_steps_as_ticks(step: float, text: str) -> None:
    assert step_text(step) == text


def history(losses: list[float], held_out: list[float]) -> HistoryView:
    steps = np.arange(1.0, len(losses) + 1)
    values = np.array(losses)
    return HistoryView(steps, values, values, np.linspace(1, len(losses), len(held_out)), np.array(held_out))


def test_the_curve_is_drawn_on_a_logarithmic_scale(qtbot: QtBot) -> None:
    tasks = Tasks()
    curve = LossCurve(tasks)
    qtbot.addWidget(curve)
    curve.resize(600, 240)
    curve.show_history(history([0.5, 0.05, 0.005], [0.6, 0.06, 0.006]))  # before there is anything to draw with
    with qtbot.waitSignal(curve.ready, timeout=60_000):
        curve.show()
    assert curve._plot is not None
    assert curve._plot._raw.yData == pytest.approx(np.log10([0.5, 0.05, 0.005]))
    assert curve._plot._held_out.yData == pytest.approx(np.log10([0.6, 0.06, 0.006]))
    left = curve._plot._item.getAxis("left")
    shown = [text for _, values in left.tickValues(-2.3, 0.0, 200.0) for text in left.tickStrings(values, 1, 1)]
    assert "0.1" in shown and "0.01" in shown
    curve.show_history(history([1.0, 0.0], []))  # a loss of nothing has no logarithm
    assert np.all(np.isfinite(curve._plot._raw.yData))
    curve.show_history(None)
    assert not curve._plot.widget.isVisible()
    curve.grab()
    tasks.close()


@pytest.mark.parametrize(("low", "high"), [(-3.0, 0.0), (-1.30, -1.22), (-1.201, -1.2), (-8.0, 2.0)])
def test_there_are_always_a_few_ticks(qtbot: QtBot, low: float, high: float) -> None:
    import pyqtgraph

    from diffstudio.ui.train.loss_curve import _log_axis

    axis = _log_axis(pyqtgraph)
    ((_, values),) = axis.tickValues(low, high, 200.0)
    assert all(low <= value <= high for value in values)
    assert len(values) <= 10
    if high - low > 0.05:
        assert len(values) >= 2
    labels = axis.tickStrings(values, 1.0, 1.0)
    assert len(set(labels)) == len(labels), "no two ticks read the same"

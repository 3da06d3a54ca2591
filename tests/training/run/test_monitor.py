"""When a run is called diverged."""

from __future__ import annotations

import math

import pytest

from diffstudio.errors import Diverged
from diffstudio.training.run.monitor import DivergenceMonitor


def test_a_falling_noisy_loss_is_fine() -> None:
    monitor = DivergenceMonitor()
    for step in range(2000):
        monitor.update(step, (1 + 0.5 * (-1) ** step) / (1 + step / 100))


def test_a_few_bad_steps_are_forgiven() -> None:
    monitor = DivergenceMonitor()
    for step in range(500):
        monitor.update(step, math.nan if step % 25 < 10 else 0.1)


def test_no_number_for_long_is_the_end() -> None:
    monitor = DivergenceMonitor()
    with pytest.raises(Diverged, match="step 19"):
        for step in range(100):
            monitor.update(step, math.nan)


def test_a_loss_that_left_its_bounds_is_the_end() -> None:
    monitor = DivergenceMonitor()
    with pytest.raises(Diverged, match="after 0.1"):
        for step in range(1000):
            monitor.update(step, 0.1 if step < 400 else 5.0)


def test_a_monitor_goes_on_from_its_state() -> None:
    whole, half = DivergenceMonitor(), DivergenceMonitor()
    for step in range(60):
        whole.update(step, 0.1)
        if step < 30:
            half.update(step, 0.1)
    again = DivergenceMonitor.restored(half.state())
    for step in range(30, 60):
        again.update(step, 0.1)
    assert again == whole and whole.healthy
    assert DivergenceMonitor.restored(None) == DivergenceMonitor.restored({"unknown": 1}) == DivergenceMonitor()


def test_weights_are_not_worth_going_back_to_while_the_loss_rises() -> None:
    monitor = DivergenceMonitor()
    for step in range(100):
        monitor.update(step, 0.1)
    assert monitor.healthy
    for step in range(10):
        monitor.update(step, 0.5)
    assert not monitor.healthy
    monitor = DivergenceMonitor()
    monitor.update(0, math.nan)
    assert not monitor.healthy

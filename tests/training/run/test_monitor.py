"""When a run is called diverged, and the verdict at the end."""

from __future__ import annotations

import math

import pytest

from diffstudio.errors import Diverged
from diffstudio.training.run.monitor import DivergenceMonitor, verdict


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


@pytest.mark.parametrize(("loss", "learned"), [(0.1, True), (0.79, True), (0.9, False), (math.nan, False)])
def test_the_verdict(loss: float, learned: bool) -> None:
    assert verdict(loss, baseline=1.0)[0] is learned

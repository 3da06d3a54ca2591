"""The pooled loss of a cross-validation, when it is measured, and when it has passed its minimum."""

from __future__ import annotations

import math
from dataclasses import asdict

import pytest

from diffstudio.training.evidence.cross_validation import CrossValidation, has_passed_minimum, next_measurement, pooled
from diffstudio.training.objectives.objective import FixedLosses


def of_split(*losses: float) -> FixedLosses:
    mean = sum(losses) / len(losses)
    return FixedLosses((0.2, 0.8), (mean - 0.1, mean + 0.1), (0.1, 0.3), mean, of_images=losses)


def test_every_image_has_the_same_weight_whatever_the_size_of_its_fold() -> None:
    found = pooled([of_split(1.0, 2.0, 3.0), of_split(6.0)])
    assert found.images == 4 and found.loss.value == pytest.approx(3.0)
    error = 1.959964 * math.sqrt(14 / 3) / 2  # of 1, 2, 3 and 6: a variance of 14 / 3
    assert (found.loss.low, found.loss.high) == pytest.approx((3 - error, 3 + error))
    assert found.held_out == pytest.approx((2.9, 3.1)) and found.training == pytest.approx((0.1, 0.3))


def test_a_network_that_broke_gives_no_loss_and_no_error() -> None:
    assert math.isnan(pooled([of_split(1.0, math.nan), of_split(2.0, 3.0)]).loss.value)


def test_measurements_are_close_at_first_and_some_are_made_in_a_short_run() -> None:
    steps = [next_measurement(0, 0)]
    while steps[-1] < 1000:
        steps.append(next_measurement(steps[-1], 0))
    assert steps[:4] == [5, 10, 15, 20] and len(steps) < 35
    assert all(later - one <= max(5, later / 6) for one, later in zip(steps, steps[1:], strict=False))
    assert next_measurement(0, 8) == 1 and next_measurement(1, 8) == 2


def test_the_minimum_is_passed_after_so_many_higher_measurements() -> None:
    falling = [(10 * index, 1 / index) for index in range(1, 9)]
    assert not has_passed_minimum(falling, 2) and not has_passed_minimum([], 2)
    risen = [*falling, (90, 0.5), (100, math.nan)]
    assert has_passed_minimum(risen, 2) and not has_passed_minimum(risen, 3) and not has_passed_minimum(risen, 0)
    assert not has_passed_minimum([(1, math.nan), (2, 0.3), (3, 0.4)], 2)


def test_it_survives_its_file() -> None:
    found = CrossValidation(4, 16, ((5, 0.4), (10, 0.3), (15, math.nan)), 0.2, 0.4, 0.5)
    assert found.best == (10, 0.3)
    read = CrossValidation.from_json(asdict(found))
    assert read.best == found.best and read.splits == 4 and read.baseline == 0.5

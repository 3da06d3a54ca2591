"""The paired interval against its closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from diffstudio.errors import BadRequest
from diffstudio.evaluation.paired import paired_difference


def test_what_both_find_hard_does_not_widen_the_interval() -> None:
    hard = np.random.default_rng(0).random((5, 400)) < 0.5
    found = paired_difference(hard * 0.5, hard * 0.5 + 0.1)
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))


def test_one_seed_has_the_interval_of_the_mean_of_its_images() -> None:
    difference = np.random.default_rng(1).normal(0.2, 1.0, (1, 5000))
    found = paired_difference(np.zeros((1, 5000)), difference)
    half = 1.96 * difference.std(ddof=1) / np.sqrt(5000)
    assert found.value == pytest.approx(difference.mean())
    assert (found.value - found.low, found.high - found.value) == pytest.approx((half, half), rel=0.1)


def test_differences_between_seeds_widen_it() -> None:
    by_seed = np.repeat([[-0.1], [0.0], [0.1]], 2000, axis=1)
    found = paired_difference(np.zeros((3, 2000)), by_seed)
    assert found.value == pytest.approx(0) and found.low < -0.05 and found.high > 0.05


@pytest.mark.parametrize("shapes", [((2, 3), (2, 4)), ((3,), (3,)), ((0, 3), (0, 3))])
def test_scores_that_are_no_pairs(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(BadRequest, match="The scores cannot be paired: their shapes are"):
        paired_difference(np.zeros(shapes[0]), np.zeros(shapes[1]))

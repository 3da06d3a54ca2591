"""The birthday test on samplers whose support is known."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest

from diffstudio.errors import BadRequest
from diffstudio.evaluation.birthday import batch_with_duplicate, birthday, birthday_test, duplicate_threshold

WIDTH = 12


def of_support(support: int, count: int, seed: int) -> np.ndarray:
    """Images drawn from `support` equally likely ones, with a little noise."""
    rng = np.random.default_rng(seed)
    images = np.random.default_rng(5).normal(size=(support, WIDTH))
    return np.asarray(images[rng.integers(support, size=count)] + rng.normal(size=(count, WIDTH)) * 1e-4)


REAL = np.random.default_rng(1).normal(size=(400, WIDTH))


@pytest.mark.parametrize("support", [10, 1000, 20_000])
def test_the_support_of_a_sampler_is_found(support: int) -> None:
    found = birthday_test(of_support(support, 400, seed=3), REAL)
    assert found.support.low <= support <= found.support.high
    assert found.support.value == pytest.approx(support, rel=0.5)
    assert found.images == 400 and found.pairs > 0


def test_its_interval_holds_the_support_of_nearly_all_samplers() -> None:
    held = [birthday(of_support(500, 200, seed), 0.1).support for seed in range(60)]
    assert sum(one.low <= 500 <= one.high for one in held) >= 54


def test_unequal_chances_are_an_effective_number_with_a_wider_interval() -> None:
    """Half of the images are one and the same, the others differ: the sum of squares is about 1/4."""
    rng = np.random.default_rng(2)
    mixed = rng.normal(size=(300, WIDTH))
    mixed[rng.random(300) < 0.5] = 3.0
    equal = birthday(of_support(4, 300, seed=0), 0.1).support
    found = birthday(mixed, 0.1).support
    assert found.low <= 4 <= found.high and found.value == pytest.approx(4, rel=0.3)
    assert (found.high - found.low) > 2 * (equal.high - equal.low)


def test_no_duplicates_are_a_lower_bound() -> None:
    found = birthday(np.arange(100.0)[:, None], 0.5)
    assert found.pairs == 0 and found.support.value == found.support.high == found.batch == inf
    assert found.support.low == pytest.approx(100 * 99 / 2 / 3.69, rel=0.01)  # the exact Poisson bound of no event
    assert birthday(np.zeros((20, 3)), 0.0).support.value == 1


def test_the_batch_with_even_odds_is_that_of_the_paradox() -> None:
    assert batch_with_duplicate(365) == pytest.approx(23, abs=0.1)  # people
    assert birthday(of_support(365, 400, seed=1), 0.1).batch == pytest.approx(23, rel=0.2)


def test_the_threshold_is_what_one_in_a_hundred_real_images_falls_below() -> None:
    threshold = duplicate_threshold(REAL)
    nearest = np.sort(np.linalg.norm(REAL[:, None] - REAL[None], axis=-1), axis=1)[:, 1]
    assert np.mean(nearest < threshold) == pytest.approx(0.01, abs=0.005)
    twice = np.concatenate([REAL, REAL[:150]])  # files that are in the folder twice
    assert duplicate_threshold(twice) == pytest.approx(threshold, rel=0.3)
    assert duplicate_threshold(np.repeat(REAL[:5], 2, axis=0)) == 0.0
    assert birthday_test(np.random.default_rng(9).normal(size=(400, WIDTH)), REAL).support.low > 5000


def test_too_few_images_and_other_features_are_refused() -> None:
    with pytest.raises(BadRequest, match="too few real images"):
        birthday_test(REAL, REAL[:2])
    with pytest.raises(BadRequest, match="too few generated images"):
        birthday_test(REAL[:1], REAL)
    with pytest.raises(BadRequest, match="different networks"):
        birthday_test(REAL[:, :3], REAL)

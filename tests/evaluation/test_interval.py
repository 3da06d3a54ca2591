"""Intervals that hold the true value as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from diffstudio.errors import BadRequest
from diffstudio.evaluation import interval
from diffstudio.evaluation.interval import bootstrap_interval, difference_interval, mean_interval, share_interval

RNG = np.random.default_rng(5)


def shift(real: np.ndarray, fake: np.ndarray) -> float:
    return float(fake.mean() - real.mean())


def test_the_interval_holds_the_truth_in_95_of_100_cases() -> None:
    held = 0
    for number in range(200):
        found = bootstrap_interval(shift, RNG.normal(size=(80, 1)), RNG.normal(size=(60, 1)) + 1, seed=number)
        held += found.low <= 1 <= found.high
    assert 180 <= held <= 199  # 190 expected; 3.1 standard deviations below and above
    assert found.value == pytest.approx(1, abs=0.8)


def test_it_is_as_wide_as_the_standard_error_says() -> None:
    found = bootstrap_interval(shift, RNG.normal(size=(500, 1)), RNG.normal(size=(500, 1)), resamples=400)
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(2 / 500), rel=0.15)


def test_many_images_are_resampled_in_small_parts_with_the_same_width(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = RNG.normal(size=(1000, 1)), RNG.normal(size=(800, 1))
    halves = bootstrap_interval(shift, real, fake, resamples=400)
    monkeypatch.setattr(interval, "LARGEST_RESAMPLE", 60)
    parts = bootstrap_interval(shift, real, fake, resamples=400)
    assert parts.value == halves.value
    assert parts.high - parts.low == pytest.approx(halves.high - halves.low, rel=0.2)


def test_what_half_the_images_shift_the_value_by_is_taken_away() -> None:
    """A measure that falls with the number of images, as the Frechet distance does."""
    found = bootstrap_interval(lambda real, fake: 100 / len(real), np.zeros((50, 2)), np.zeros((50, 2)))
    assert (found.value, found.low, found.high) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (3, 17), (50, 50), (1, 400), (0, 110), (110, 110)])
def test_the_interval_of_a_share_is_scipys(hits: int, count: int) -> None:
    found, expected = share_interval(hits, count), binomtest(hits, count).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert found.value == hits / count
    assert found.low <= found.value <= found.high


def test_means_and_their_differences_have_the_intervals_of_normal_values() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(3.0, 2.0, 400), rng.normal(1.0, 1.0, 100)
    found = mean_interval(one)
    assert found.value == pytest.approx(one.mean()) and found.low < 3.0 < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * one.std(ddof=1) / 20, rel=1e-4)
    difference = difference_interval(one, other)
    assert difference.value == pytest.approx(one.mean() - other.mean())
    error = np.sqrt(one.var(ddof=1) / 400 + other.var(ddof=1) / 100)
    assert difference.high - difference.low == pytest.approx(2 * 1.96 * error, rel=1e-4)
    with pytest.raises(BadRequest, match="too few measured images"):
        mean_interval([1.0])


def test_the_interval_contains_the_value_also_if_parts_of_the_sets_have_others() -> None:
    """The whole set has duplicates, so that its value is 0; random halves do not, and vary above it."""
    features = np.repeat(np.random.default_rng(0).normal(size=(10, 2)), 2, axis=0)

    def different(real: np.ndarray, generated: np.ndarray) -> float:
        return float(len(np.unique(real, axis=0)) == len(real))

    found = bootstrap_interval(different, features, features)
    assert found.low <= found.value <= found.high

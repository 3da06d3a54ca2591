"""The energy distance against scipy's in one dimension, and what it must say of equal and of collapsed sets."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import energy_distance as scipy_energy_distance

from diffstudio.errors import BadRequest
from diffstudio.evaluation.energy_distance import energy_distance, mean_distance


def test_it_is_scipys_squared_relative_to_the_distance_of_real_images() -> None:
    """scipy: sqrt(2 E|X-Y| - E|X-X'| - E|Y-Y'|) of two empirical distributions on a line."""
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=200), rng.normal(0.7, 2, size=150)
    found = energy_distance(real[:, None], fake[:, None])
    expected = scipy_energy_distance(real, fake) ** 2 / np.abs(real[:, None] - real).mean()
    assert found == pytest.approx(expected, rel=1e-6)


def test_equal_sets_are_at_0_and_a_collapsed_one_is_far_away() -> None:
    real = np.random.default_rng(1).normal(size=(80, 5))
    assert energy_distance(real, real) == pytest.approx(0, abs=1e-9)
    assert energy_distance(real, 3 * real) == pytest.approx(energy_distance(real / 7, 3 * real / 7))
    one = np.repeat(real[:1], 40, axis=0)
    assert energy_distance(real, one) > 0.3 and mean_distance(one, one) == pytest.approx(0, abs=1e-9)
    with pytest.raises(BadRequest):
        energy_distance(real, real[:, :3])


def test_there_is_no_unit_if_all_real_images_have_the_same_features() -> None:
    with pytest.raises(BadRequest, match="all 20 images have the same ones"):
        energy_distance(np.ones((20, 3)), np.random.default_rng(0).normal(size=(20, 3)))

"""Heat maps: smoothing against scipy, and what is shown over an image."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from diffstudio.evaluation.anomalies.heat_maps import combined_maps, over_image, smoothed, smoothing_of


def test_smoothing_is_that_of_a_gaussian_filter() -> None:
    maps = np.random.default_rng(0).normal(size=(2, 20, 15)).astype(np.float32)
    expected = np.stack([gaussian_filter(one.astype(float), 1.2, mode="nearest", radius=4) for one in maps])
    np.testing.assert_allclose(smoothed(maps, 1.2), expected, atol=1e-5)
    assert smoothing_of(8) == 0.7 and smoothing_of(256) == 3.84


def test_the_image_is_grey_where_it_is_normal_and_coloured_where_it_is_not() -> None:
    image = np.zeros((3, 8, 8), np.float32)
    heat = np.zeros((8, 8), np.float32)
    heat[2, 5] = 9.0
    shown = over_image(image, heat, normal=2.0)
    assert shown.shape == (256, 256, 3) and shown.dtype == np.uint8
    assert set(shown[0, 0]) == {128}
    spot = shown[2 * 32 + 16, 5 * 32 + 16].astype(int)
    assert spot[0] > 150 and spot[0] - spot[2] > 30
    assert over_image(image, heat, normal=0.0).shape == (256, 256, 3)
    assert over_image(np.zeros((1, 300, 300), np.float32), np.zeros((300, 300), np.float32), 1.0).shape == (300, 300, 3)


def test_maps_are_combined_in_units_of_normal_ones() -> None:
    rng = np.random.default_rng(0)
    normals = {
        "a": rng.normal(5, 2, (50, 8, 8)),
        "b": rng.normal(-1, 0.1, (50, 8, 8)),
        "flat": np.full((50, 8, 8), 3.0),
    }
    maps = {name: values[:2].copy() for name, values in normals.items()}
    maps["a"][0, 1, 1], maps["b"][0, 1, 1], maps["flat"][0, 2, 2] = 15.0, -0.5, 7.0
    found = combined_maps(maps, normals, {"a": 3.0, "b": 1.0, "flat": 0.0})
    assert found[0, 1, 1] == pytest.approx((3 * 5 + 1 * 5) / 4, rel=0.05)
    assert abs(found[0, 2, 2]) < 4 and found.dtype == np.float32
    assert combined_maps(maps, normals, {"flat": 2.0})[0, 2, 2] == 4.0  # normal ones that do not vary

"""Heat maps: smoothing against scipy, and what is shown over an image."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from diffstudio.evaluation.anomalies.heat_maps import over_image, smoothed, smoothing_of


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

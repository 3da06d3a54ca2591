"""Distances against numpy's own, and features that cannot be measured."""

from __future__ import annotations

import numpy as np
import pytest

from diffstudio.errors import BadRequest
from diffstudio.evaluation.features import feature_arrays
from diffstudio.evaluation.features.feature_arrays import (
    all_same,
    as_features,
    as_varied,
    as_views,
    distance_blocks,
    same_width,
)

RNG = np.random.default_rng(0)


def test_distances_are_exact_far_from_the_origin_and_come_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_arrays.blocks, "__defaults__", (7,))
    one, other = RNG.normal(size=(20, 5)) + 1e4, RNG.normal(size=(30, 5)) + 1e4
    expected = np.linalg.norm(one[:, None] - other, axis=2)
    found = np.zeros_like(expected)
    for rows, columns, distances in distance_blocks([one], other):
        assert distances.shape[0] <= 7 and distances.shape[1] <= 7
        found[rows, columns] = distances
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(4), r"The real features cannot be measured: their shape is \[4\], not \[N,D\]"),
        (np.zeros((4, 0)), r"their shape is \[4, 0\]"),
        (np.zeros((1, 3)), "There are too few real images: this measure needs 2 and there are 1"),
        ([[1.0, float("nan")], [0.0, 0.0], [float("inf"), 0.0]], "2 of 3 are not finite"),
        (np.full((3, 2), 1e30), r"a value is 1e\+30, and sums of products of more than 1e\+15 overflow"),
        (np.array([["a", "b"]] * 3), "their values are not real numbers"),
        (np.ones((3, 2)) * 1j, r"their values are not real numbers \(complex128\)"),
        ([[1.0], [1.0, 2.0]], "their rows have different lengths"),
    ],
)
def test_what_cannot_be_measured_is_named(values: object, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        as_features(values, "real")  # type: ignore[arg-type]


def test_features_of_two_networks_are_not_compared() -> None:
    with pytest.raises(BadRequest, match="different networks cannot be compared: they have 3 and 4 values"):
        same_width(np.zeros((2, 3)), np.zeros((2, 4)))


def test_features_of_half_the_precision_are_not_copied_and_others_are_converted() -> None:
    features = RNG.normal(size=(3, 4)).astype(np.float32)
    assert np.shares_memory(as_features(features, "real"), features)
    assert as_features([[1, 2], [3, 4]], "real").dtype == np.float64
    for views in (features, features[None], np.stack([features, features])):
        assert np.shares_memory(as_views(views, "real"), views)
    assert as_views(np.ones((2, 3, 4), int), "real").dtype == np.float64


def test_images_that_all_have_the_same_features_are_nothing_to_compare_with() -> None:
    """Also if they differ by the rounding of a network, which depends on the batch that an image is in."""
    constant = np.full((5, 3), 7.0, np.float32)
    rounded = constant * (1 + 1e-7 * RNG.normal(size=(5, 3)).astype(np.float32))
    for features in (constant, rounded, np.zeros((5, 3))):
        assert all_same(as_features(features, "real"))
        with pytest.raises(BadRequest, match="The real features cannot be measured: all 5 images have the same ones"):
            as_varied(features, "real")
    constant[3, 1] += 0.01
    assert as_varied(constant, "real") is constant

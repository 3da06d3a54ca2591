"""Distances against numpy's own, and features that cannot be measured."""

from __future__ import annotations

import numpy as np
import pytest

from diffstudio.errors import BadRequest
from diffstudio.evaluation import feature_arrays
from diffstudio.evaluation.feature_arrays import as_features, distance_rows, nearest, same_width

RNG = np.random.default_rng(0)


def test_distances_are_exact_far_from_the_origin_and_come_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_arrays.blocks, "__defaults__", (7,))
    one, other = RNG.normal(size=(20, 5)) + 1e4, RNG.normal(size=(30, 5)) + 1e4
    expected = np.linalg.norm(one[:, None] - other, axis=2)
    found = list(distance_rows(one, other))
    assert [rows.stop - rows.start for rows, _ in found] == [7, 7, 6]
    np.testing.assert_allclose(np.concatenate([block for _, block in found]), expected, rtol=1e-9)


def test_the_nearest_come_first_and_no_image_is_its_own_neighbour() -> None:
    features = RNG.normal(size=(40, 6))
    distances, indices = nearest(features, features, 3, same=True)
    everything = np.linalg.norm(features[:, None] - features, axis=2)
    np.testing.assert_array_equal(indices, np.argsort(everything, axis=1)[:, 1:4])
    np.testing.assert_allclose(distances, np.sort(everything, axis=1)[:, 1:4])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(4), r"The real features cannot be measured: their shape is \[4\], not \[N,D\]"),
        (np.zeros((4, 0)), r"their shape is \[4, 0\]"),
        (np.zeros((1, 3)), "There are too few real images: this measure needs 2 and there are 1"),
        ([[1.0, float("nan")], [0.0, 0.0], [float("inf"), 0.0]], "2 of 3 are not finite"),
    ],
)
def test_what_cannot_be_measured_is_named(values: object, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        as_features(values, "real")  # type: ignore[arg-type]


def test_features_of_two_networks_are_not_compared() -> None:
    with pytest.raises(BadRequest, match="different networks cannot be compared: they have 3 and 4 values"):
        same_width(np.zeros((2, 3)), np.zeros((2, 4)))

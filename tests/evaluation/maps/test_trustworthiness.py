"""Trustworthiness: scikit-learn's figure, also across blocks, and its ends."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import manifold

from diffstudio.evaluation.maps import trustworthiness as module
from diffstudio.evaluation.maps.trustworthiness import trustworthiness

RNG = np.random.default_rng(1)
FEATURES = RNG.normal(size=(120, 12)).astype(np.float32)


@pytest.mark.parametrize("neighbours", [1, 5, 10, 59])
@pytest.mark.parametrize("rows", [7, 256])
def test_it_is_that_of_scikit_learn(neighbours: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS", rows)
    for coordinates in (FEATURES[:, :2], RNG.normal(size=(120, 2))):
        found = trustworthiness(FEATURES, coordinates, neighbours)
        assert found == pytest.approx(
            manifold.trustworthiness(FEATURES, coordinates, n_neighbors=neighbours), abs=1e-12
        )


def test_a_map_that_is_the_features_is_trusted_wholly_and_a_random_one_about_half() -> None:
    flat = RNG.normal(size=(400, 2))
    assert trustworthiness(flat, -3 * flat) == 1.0
    assert trustworthiness(flat, RNG.normal(size=(400, 2))) == pytest.approx(0.5, abs=0.05)


def test_it_is_not_defined_for_few_images() -> None:
    assert trustworthiness(FEATURES[:20], FEATURES[:20, :2], 10) is None
    assert trustworthiness(FEATURES[:21], FEATURES[:21, :2], 10) is not None
    assert trustworthiness(FEATURES[:1], FEATURES[:1, :2], 0) is None
    with pytest.raises(ValueError, match="2 points for 3 images"):
        trustworthiness(FEATURES[:3], FEATURES[:2, :2])


def test_the_order_of_duplicates_does_not_matter() -> None:
    features = np.repeat(RNG.normal(size=(3, 50)), 40, axis=0).astype(np.float32)
    corners = np.repeat(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), 40, axis=0)
    spread = corners + 0.01 * RNG.normal(size=corners.shape)
    assert trustworthiness(features, corners) == trustworthiness(features, spread) == 1.0
    mixed = trustworthiness(features, RNG.permutation(spread))
    assert mixed is not None and mixed < 0.8

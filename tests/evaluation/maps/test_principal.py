"""Principal components: scikit-learn's, the same on every machine, and nothing made up where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from diffstudio.errors import BadRequest
from diffstudio.evaluation.maps.principal import principal_components

RNG = np.random.default_rng(0)
FEATURES = (RNG.normal(size=(300, 20)) * np.linspace(5, 0.1, 20) + 100).astype(np.float32)


def test_they_are_those_of_scikit_learn() -> None:
    found = principal_components(FEATURES, 3)
    expected = PCA(3, svd_solver="full").fit(FEATURES.astype(np.float64))
    np.testing.assert_allclose(found.shares, expected.explained_variance_ratio_, rtol=1e-8)
    coordinates = expected.transform(FEATURES.astype(np.float64))
    for ours, theirs in zip(found.coordinates.T, coordinates.T, strict=True):
        np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-6)


def test_a_line_lies_along_the_first_with_its_own_lengths_and_direction() -> None:
    along = np.linspace(-1, 1, 9)
    found = principal_components(along[:, None] * np.array([3.0, -4.0, 0.0]))
    np.testing.assert_allclose(found.coordinates[:, 0], -5 * along, atol=1e-12)  # so that -4 becomes positive
    np.testing.assert_allclose(found.coordinates[:, 1], 0, atol=1e-7)
    assert found.shares == pytest.approx((1, 0))


def test_equal_features_have_no_direction() -> None:
    found = principal_components(np.full((50, 8), 0.1, np.float32))
    assert found.shares == (0.0, 0.0) and not found.coordinates.any()


def test_one_value_for_each_image_gives_one_direction() -> None:
    found = principal_components([[1.0], [2.0], [4.0]])
    assert found.coordinates.shape == (3, 2) and found.shares == (1.0, 0.0) and not found.coordinates[:, 1].any()
    assert not principal_components([[1.0, 2.0]]).coordinates.any()  # of a single image


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(BadRequest, match="1 of 2 are not finite"):
        principal_components([[1.0, 2.0], [np.nan, 2.0]])

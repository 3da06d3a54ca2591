"""The Frechet distance against its closed form for Gaussians and against the formula with a matrix root."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from diffstudio.evaluation.features import feature_arrays
from diffstudio.evaluation.frechet import frechet_distance

RNG = np.random.default_rng(1)


def with_moments(mean: np.ndarray, deviations: np.ndarray, count: int = 400) -> np.ndarray:
    """Features with exactly this mean and these standard deviations, uncorrelated."""
    white = np.linalg.qr(RNG.normal(size=(count, len(mean))) - 0.0)[0]
    white = np.linalg.qr(white - white.mean(axis=0))[0] * np.sqrt(count - 1)
    return np.asarray(white * deviations + mean)


def test_closed_form_of_uncorrelated_gaussians() -> None:
    one = with_moments(np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0, 0.5]))
    other = with_moments(np.array([3.0, 1.0, 0.0]), np.array([2.0, 2.0, 1.5]))
    assert frechet_distance(one, other) == pytest.approx(9 + 4 + 1 + 0 + 1, rel=1e-9)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)


def test_the_formula_with_a_root_of_a_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_arrays.blocks, "__defaults__", (64,))
    one, other = RNG.normal(size=(300, 8)) @ RNG.normal(size=(8, 8)), RNG.gamma(2.0, size=(200, 8))
    c, d = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    expected = np.sum((one.mean(0) - other.mean(0)) ** 2) + np.trace(c + d - 2 * sqrtm(c @ d).real)
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(other, one) == pytest.approx(expected, rel=1e-9)


def test_fewer_images_than_features_are_measured_exactly() -> None:
    """Singular covariances, on which the root of a matrix loses half the digits: padding with zeros changes nothing."""
    one, other = RNG.normal(size=(20, 6)), RNG.normal(size=(15, 6)) + 1
    wide = [np.hstack([features, np.zeros((len(features), 94))]) for features in (one, other)]
    turned = np.linalg.qr(RNG.normal(size=(100, 100)))[0]
    assert frechet_distance(wide[0] @ turned, wide[1] @ turned) == pytest.approx(frechet_distance(one, other), rel=1e-9)


def test_constant_images_are_their_distance_apart() -> None:
    assert frechet_distance(np.ones((5, 4)), np.zeros((7, 4))) == pytest.approx(4)


def test_the_value_of_torch_fidelity() -> None:
    """torch-fidelity 0.4.0, metric_fid: `fid_statistics_to_metric` of `fid_features_to_statistics` of each,

    of these features in float64. Made once with `pip download --no-deps torch-fidelity`, unzipped, and empty modules in
    place of torchvision, which its metrics do not use.
    """
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(300, 16)), 0.7 * rng.gamma(2.0, size=(300, 16))
    assert frechet_distance(real, fake) == pytest.approx(33.167724387064666, rel=1e-9)

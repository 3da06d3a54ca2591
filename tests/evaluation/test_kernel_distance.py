"""The kernel distance against the sums of its definition, and without a bias."""

from __future__ import annotations

import numpy as np
import pytest

from diffstudio.evaluation.features import feature_arrays
from diffstudio.evaluation.kernel_distance import kernel_distance

RNG = np.random.default_rng(2)


def by_definition(one: np.ndarray, other: np.ndarray) -> float:
    """1801.01401, eq. 4, with loops."""

    def k(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / len(x) + 1) ** 3)

    n, m = len(one), len(other)
    within = sum(k(one[i], one[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within += sum(k(other[i], other[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within - 2 * sum(k(x, y) for x in one for y in other) / (n * m)


def test_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_arrays.blocks, "__defaults__", (7,))
    one, other = RNG.normal(size=(20, 4)), RNG.normal(size=(15, 4)) + 0.5
    assert kernel_distance(one, other) == pytest.approx(by_definition(one, other), rel=1e-9)


def test_two_sets_of_one_distribution_are_as_often_below_zero_as_above() -> None:
    values = np.array([kernel_distance(RNG.normal(size=(40, 5)), RNG.normal(size=(40, 5))) for _ in range(200)])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))
    assert 60 < np.count_nonzero(values < 0) < 150
    assert kernel_distance(RNG.normal(size=(40, 5)), RNG.normal(size=(40, 5)) + 1) > 5 * values.std()


def test_the_value_of_torch_fidelity() -> None:
    """torch-fidelity 0.4.0, metric_kid: `kid_features_to_metric` with one subset of all images,

    of these features in float64. Made once with `pip download --no-deps torch-fidelity`, unzipped, and empty modules in
    place of torchvision, which its metrics do not use.
    """
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(300, 16)), 0.7 * rng.gamma(2.0, size=(300, 16))
    assert kernel_distance(real, fake) == pytest.approx(28.637706693502576, rel=1e-9)

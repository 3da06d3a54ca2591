"""Logistic regression against scikit-learn's, with and without weights of the examples, and its two forms for two classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from diffstudio.errors import Interrupted
from diffstudio.evaluation.probes.logistic_regression import fit_logistic

PENALTY = 0.01


def examples(classes: int, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Features [N,4] in float64 and labels [N], the last class rare."""
    rng = np.random.default_rng(classes)
    labels = rng.choice(classes, count, p=np.array([1.0] * (classes - 1) + [0.2]) / (classes - 0.8))
    features = rng.normal(size=(count, 4))
    features[:, 0] += labels
    return features, labels


@pytest.mark.parametrize("balanced", [False, True])
def test_it_is_the_optimum_of_scikit_learn(balanced: bool) -> None:
    x, y = examples(4)
    importance = 1 / np.bincount(y)[y]
    reference = LogisticRegression(C=1 / (len(x) * PENALTY), class_weight="balanced" if balanced else None, tol=1e-9)
    reference.fit(x, y)
    weight, bias = fit_logistic(
        torch.from_numpy(x),
        torch.from_numpy(y),
        4,
        PENALTY,
        torch.from_numpy(importance) if balanced else None,
        iterations=500,
        tolerance=1e-9,
    )
    assert weight.dtype == torch.float64
    np.testing.assert_allclose(weight, reference.coef_, atol=1e-5)
    np.testing.assert_allclose(bias - bias.mean(), reference.intercept_ - reference.intercept_.mean(), atol=1e-5)


def test_two_classes_are_binary_regression_with_half_the_penalty() -> None:
    x, y = examples(2)
    expected = LogisticRegression(C=1 / (len(x) * PENALTY / 2), tol=1e-9).fit(x, y)
    weight, bias = fit_logistic(torch.from_numpy(x), torch.from_numpy(y), 2, PENALTY, iterations=500, tolerance=1e-9)
    np.testing.assert_allclose(weight[1] - weight[0], expected.coef_[0], atol=1e-5)
    np.testing.assert_allclose(bias[1] - bias[0], expected.intercept_[0], atol=1e-5)


def test_an_importance_of_two_is_an_example_twice() -> None:
    x, y = (torch.from_numpy(part) for part in examples(3, 60))
    importance = torch.ones(60, dtype=torch.float64)
    importance[:20] = 2
    once = fit_logistic(x, y, 3, PENALTY, importance, tolerance=1e-9)
    twice = fit_logistic(torch.cat([x, x[:20]]), torch.cat([y, y[:20]]), 3, PENALTY, tolerance=1e-9)
    for found, expected in zip(once, twice, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_penalised_bias_stays_finite_for_one_class() -> None:
    """Without features, the bias of two classes of which only one occurs would grow without limit."""
    x, y = torch.zeros(10, 1, dtype=torch.float64), torch.zeros(10, dtype=torch.int64)
    _, bias = fit_logistic(x, y, 2, PENALTY, bias_penalty=0.1, tolerance=1e-12)
    assert bias[0] == pytest.approx(-float(bias[1]))
    chance = torch.sigmoid(bias[1] - bias[0])  # of the class that does not occur: its gradient is that of the penalty
    assert float(chance) == pytest.approx(0.1 * float(bias[0]), rel=1e-6)


def test_it_can_be_stopped() -> None:
    def stop() -> None:
        raise Interrupted("Stopped")

    with pytest.raises(Interrupted):
        fit_logistic(torch.eye(4), torch.arange(4), 4, PENALTY, check=stop)

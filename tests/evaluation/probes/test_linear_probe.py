"""The linear probe against scikit-learn's logistic regression, and on features whose optimum is known."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from diffstudio.errors import BadRequest, Interrupted
from diffstudio.evaluation.probes.linear_probe import best_probe, fit_probe


@pytest.mark.parametrize("strength", [1.0, 0.01])
def test_it_is_the_optimum_of_scikit_learn(strength: float) -> None:
    data = load_digits(n_class=5)
    x, y = data.data[:300].astype(np.float32), data.target[:300].astype(np.int64)
    probe = fit_probe(x, y, 5, strength)
    standardised = (x - probe.mean) / probe.deviation
    reference = LogisticRegression(C=strength, max_iter=2000, tol=1e-8).fit(standardised, y)

    def loss(weight: np.ndarray, bias: np.ndarray) -> float:
        scores = (standardised @ weight.T + bias).astype(np.float64)
        likelihood = scores[np.arange(len(y)), y] - np.log(np.exp(scores).sum(axis=1))
        return float(-likelihood.sum() + (weight.astype(np.float64) ** 2).sum() / (2 * strength))

    assert loss(probe.weight, probe.bias) == pytest.approx(loss(reference.coef_, reference.intercept_), rel=2e-3)
    assert (probe.predict(x) == reference.predict(standardised)).mean() > 0.99


def test_constant_features_and_other_scales_do_no_harm() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90)
    features = np.stack([labels * 1e6, np.full(90, 7.0), rng.normal(size=90) * 1e-3], axis=1)
    probe = fit_probe(features, labels, 3)
    assert probe.accuracy(features, labels) == 1.0 and np.isfinite(probe.weight).all()


def test_the_strength_is_chosen_by_validation() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 20)
    features = rng.normal(size=(40, 60)).astype(np.float32)
    features[:, 0] += 3 * labels
    validation = rng.normal(size=(200, 60)).astype(np.float32)
    truth = np.repeat([0, 1], 100)
    validation[:, 0] += 3 * truth
    parts = (features, labels), (validation, truth)
    probe, found = best_probe(*parts, 2, (100.0, 0.01))
    single = [best_probe(*parts, 2, (strength,))[1] for strength in (100.0, 0.01)]
    assert found == max(single) == probe.accuracy(validation, truth)


def test_one_class_is_refused_and_it_can_be_stopped() -> None:
    with pytest.raises(BadRequest, match="fewer than two classes"):
        fit_probe(np.zeros((4, 2)), np.zeros(4, np.int64), 2)

    def stop() -> None:
        raise Interrupted("Stopped")

    with pytest.raises(Interrupted):
        fit_probe(np.eye(4), np.arange(4), 4, check=stop)


def test_features_that_are_not_finite_or_of_another_width_are_refused() -> None:
    features, labels = np.random.default_rng(0).normal(size=(8, 2)), np.array([0, 1] * 4)
    with pytest.raises(BadRequest, match="The training features cannot be measured: 1 of 8 are not finite"):
        fit_probe(np.where(np.arange(8)[:, None] == 3, np.inf, features), labels, 2)
    with pytest.raises(BadRequest, match="Features of different networks"):
        fit_probe(features, labels, 2).predict(np.ones((1, 3)))

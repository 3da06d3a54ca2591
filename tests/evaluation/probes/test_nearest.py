"""Nearest neighbours against scikit-learn's, and how ties end."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from diffstudio.errors import BadRequest
from diffstudio.evaluation.probes import nearest
from diffstudio.evaluation.probes.nearest import nearest_classes


def test_they_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 8)) * 2
    labels, others = rng.integers(0, 4, 120), rng.integers(0, 4, 70)
    x, y = centres[labels] + rng.normal(size=(120, 8)), centres[others] + rng.normal(size=(70, 8))
    scaled = ((values - x.mean(0)) / x.std(0) for values in (x, y))
    train, test = scaled
    reference = KNeighborsClassifier(1, metric="cosine").fit(train, labels).predict(test)
    assert (nearest_classes(x, labels, y, 4, k=1) == reference).all()
    five = KNeighborsClassifier(5, metric="cosine").fit(train, labels).predict(test)
    assert (nearest_classes(x, labels, y, 4) == five).mean() > 0.9  # ties may end another way
    before, nearest._AT_ONCE = nearest._AT_ONCE, 16
    try:
        assert (nearest_classes(x, labels, y, 4) == nearest_classes(x, labels, y[:70], 4)).all()
    finally:
        nearest._AT_ONCE = before


def test_of_equal_counts_the_nearest_decides() -> None:
    x = np.array([[1.0, 0.0], [1.0, 1.0], [-1.0, -1.0], [-1.0, 0.0]])
    labels = np.array([1, 0, 0, 1])
    assert nearest_classes(x, labels, x[:2], 2, k=2).tolist() == [1, 0]
    assert nearest_classes(x[:1], labels[:1], x, 2, k=9).tolist() == [1] * 4  # fewer images than neighbours


def test_features_that_are_not_finite_or_of_another_width_are_refused() -> None:
    training, labels = np.ones((4, 2)), np.array([0, 0, 1, 1])
    with pytest.raises(BadRequest, match="The measured features cannot be measured: 1 of 1 are not finite"):
        nearest_classes(training, labels, np.array([[np.nan, 0.0]]), 2)
    with pytest.raises(BadRequest, match="Features of different networks"):
        nearest_classes(training, labels, np.ones((1, 3)), 2)

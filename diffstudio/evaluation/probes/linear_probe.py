"""A linear probe: multinomial logistic regression on standardised features, fitted to its optimum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from diffstudio.errors import BadRequest
from diffstudio.evaluation.features.feature_arrays import as_features, same_width
from diffstudio.evaluation.probes.logistic_regression import fit_logistic

STRENGTHS = (1.0, 0.1, 0.01)  # C as in scikit-learn's LogisticRegression; chosen by validation


@dataclass(frozen=True, slots=True)
class LinearProbe:
    """A linear classifier: argmax of weight x + bias, where x = (features - mean) / deviation."""

    mean: NDArray[np.float32]  # [D]
    deviation: NDArray[np.float32]  # [D]; 1 for constant features
    weight: NDArray[np.float32]  # [classes,D]
    bias: NDArray[np.float32]  # [classes]

    def predict(self, features: NDArray[np.floating]) -> NDArray[np.int64]:
        """Features [N,D] -> classes [N]. BadRequest for features that are not finite or of another width."""
        found = as_features(features, "measured", at_least=0)
        same_width(self.mean[None], found)
        standardised = (np.asarray(found, np.float32) - self.mean) / self.deviation
        classes: NDArray[np.int64] = (standardised @ self.weight.T + self.bias).argmax(axis=1)
        return classes

    def accuracy(self, features: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
        return float((self.predict(features) == labels).mean())


def fit_probe(
    features: NDArray[np.floating],
    labels: NDArray[np.int64],
    classes: int,
    strength: float = 1.0,
    check: Callable[[], None] = lambda: None,
) -> LinearProbe:
    """Fit a probe: minimise the sum of cross-entropies + |weight|^2 / (2 strength), which is convex, with L-BFGS.

    features [N,D], labels [N] below `classes`. `check` is called before each pass over the data and may raise.
    BadRequest for images of fewer than two classes, and for features that are not finite.
    """
    if len(np.unique(labels)) < 2:
        raise BadRequest("No probe can be fitted", "its images have fewer than two classes")
    values = np.asarray(as_features(features, "training"), np.float32)
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    deviation = np.where(deviation > 1e-6 * max(1.0, float(deviation.max())), deviation, 1.0).astype(np.float32)
    x = torch.from_numpy((values - mean) / deviation)
    y = torch.from_numpy(np.asarray(labels, np.int64))
    weight, bias = fit_logistic(x, y, classes, 1 / (strength * len(y)), check=check)
    return LinearProbe(mean, deviation, weight.numpy(), bias.numpy())


def best_probe(
    training: tuple[NDArray[np.floating], NDArray[np.int64]],
    validation: tuple[NDArray[np.floating], NDArray[np.int64]],
    classes: int,
    strengths: Sequence[float] = STRENGTHS,
    check: Callable[[], None] = lambda: None,
) -> tuple[LinearProbe, float]:
    """The probe whose strength is best on the validation part, and its accuracy there; the first of equally good ones."""
    probes = [fit_probe(*training, classes, strength, check) for strength in strengths]
    found = [probe.accuracy(*validation) for probe in probes]
    best = int(np.argmax(found))
    return probes[best], found[best]

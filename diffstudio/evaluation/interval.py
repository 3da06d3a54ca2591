"""Confidence intervals of measures on two sets of features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from diffstudio.evaluation.feature_arrays import Features, as_features

RESAMPLES = 100


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with the bounds of its confidence interval."""

    value: float
    low: float
    high: float


def bootstrap_interval(
    measure: Callable[[Features, Features], float],
    real: ArrayLike,
    fake: ArrayLike,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The measure of features [N,D] and [M,D], with an interval for what other images of the same kinds would give.

    Each resample is a random half of each set, drawn without replacement (Politis and Romano 1994). Its values vary as
    much as those of whole sets do. Drawn with replacement, an image would be its own nearest neighbour, and every
    measure by neighbours would be wrong. What a half shifts the value by is taken away: its mean over the resamples.

    BadRequest: fewer than four images of a kind, or what the measure itself raises, also for halves of the sets.
    """
    real, fake = as_features(real, "real", at_least=4), as_features(fake, "generated", at_least=4)
    rng = np.random.default_rng(seed)
    values = np.array([measure(_half(real, rng), _half(fake, rng)) for _ in range(resamples)])
    value = float(measure(real, fake))
    low, high = np.quantile(values - values.mean(), [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, value + float(low), value + float(high))


def _half(features: Features, rng: np.random.Generator) -> Features:
    return features[np.sort(rng.choice(len(features), len(features) // 2, replace=False))]


def share_interval(hits: float, count: int) -> Interval:
    """A share `hits / count` with its 95 % interval by Wilson (1927), which is right near 0 and 1 too."""
    z = 1.959964
    share = hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    spread = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return Interval(share, max(0.0, float(middle - spread)), min(1.0, float(middle + spread)))

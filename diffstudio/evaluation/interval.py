"""Confidence intervals of measures on two sets of features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from math import isfinite

import numpy as np
from numpy.typing import ArrayLike

from diffstudio.evaluation.features.feature_arrays import FeatureArray, as_features

RESAMPLES = 100
_NORMAL = 1.959964  # standard deviations on either side that contain 95% of a normal distribution
LARGEST_RESAMPLE = 1000  # images: more would cost more than the features of all


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with the bounds of its confidence interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """The interval for JSON, which has no infinity: null is written instead."""
        return {name: value if isfinite(value) else None for name, value in asdict(self).items()}


def bootstrap_interval(
    measure: Callable[[FeatureArray, FeatureArray], float],
    real: ArrayLike,
    fake: ArrayLike,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The measure of features [N,D] and [M,D], with an interval for what other images of the same kinds would give."""

    def alone(real: FeatureArray, generated: FeatureArray) -> dict[str, float]:
        return {"": measure(real, generated)}

    return bootstrap_intervals(alone, real, fake, resamples, level, seed)[""]


def bootstrap_intervals(
    measures: Callable[[FeatureArray, FeatureArray], Mapping[str, float]],
    real: ArrayLike,
    generated: ArrayLike,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
    whole: Mapping[str, float] | None = None,
) -> dict[str, Interval]:
    """As `bootstrap_interval`, of several measures by name at once. `whole`: those of the whole sets, if they are known.

    A resample is a random part of each set, drawn without replacement (Politis and Romano 1994): half of it, or
    LARGEST_RESAMPLE images. Drawn with replacement, an image would be its own nearest neighbour, and every measure by
    neighbours would be wrong. Means of m of n vary by (1/m - 1/n)^(1/2), those of n others by (1/n)^(1/2): deviations
    are scaled by the ratio, 1 for a half. What a smaller set shifts the value by is taken away: their mean.

    BadRequest: fewer than four images of a kind, or what a measure itself raises, also for parts of the sets.
    """
    real, generated = as_features(real, "real", at_least=4), as_features(generated, "generated", at_least=4)
    rng = np.random.default_rng(seed)
    parts = min(len(real) // 2, LARGEST_RESAMPLE), min(len(generated) // 2, LARGEST_RESAMPLE)
    drawn = [measures(_part(real, parts[0], rng), _part(generated, parts[1], rng)) for _ in range(resamples)]
    scale = np.sqrt(min(part / (len(whole) - part) for part, whole in zip(parts, (real, generated), strict=True)))
    found = {}
    for name, value in (whole or measures(real, generated)).items():
        values = np.array([one[name] for one in drawn])
        low, high = scale * np.quantile(values - values.mean(), [(1 - level) / 2, (1 + level) / 2])
        found[name] = Interval(float(value), value + min(0.0, float(low)), value + max(0.0, float(high)))
    return found


def _part(features: FeatureArray, count: int, rng: np.random.Generator) -> FeatureArray:
    return features[np.sort(rng.choice(len(features), count, replace=False))]


def share_interval(hits: float, count: int) -> Interval:
    """A share `hits / count` with its 95% interval by Wilson (1927), which is right near 0 and 1 too."""
    z = _NORMAL
    share = hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    spread = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    low, high = min(share, float(middle - spread)), max(share, float(middle + spread))  # rounding may cross the share
    return Interval(share, max(0.0, low), min(1.0, high))


def mean_interval(values: ArrayLike) -> Interval:
    """The mean of values [N] with its 95% confidence interval. BadRequest for fewer than two."""
    found = as_features(np.asarray(values, np.float64)[:, None], "measured")
    mean, error = float(found.mean()), float(found.std(ddof=1) / np.sqrt(len(found)))
    return Interval(mean, mean - _NORMAL * error, mean + _NORMAL * error)


def difference_interval(one: ArrayLike, other: ArrayLike) -> Interval:
    """The mean of `one` [N] minus that of `other` [M], two independent samples (Welch). BadRequest as `mean_interval`."""
    first, second = mean_interval(one), mean_interval(other)
    spread = float(np.hypot(first.high - first.value, second.high - second.value))
    return Interval(
        first.value - second.value, first.value - second.value - spread, first.value - second.value + spread
    )

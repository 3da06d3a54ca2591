"""Paired differences between two training methods that are scored on the same images with the same seeds."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from diffstudio.errors import BadRequest
from diffstudio.evaluation.interval import Interval

RESAMPLES = 2000


def paired_difference(first: ArrayLike, second: ArrayLike, *, level: float = 0.95, seed: int = 0) -> Interval:
    """The mean of `second` minus `first`, scores [K,M] of K seeds on the same M images, with its bootstrap interval.

    Seeds and images are resampled with replacement, the same for both (the pigeonhole bootstrap, Owen 2007, arXiv
    0711.1866). Images that are hard for both do not widen the interval; variation between seeds does.

    BadRequest: shapes that differ, or no scores.
    """
    one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.shape != two.shape or one.ndim != 2 or not one.size:
        raise BadRequest("The scores cannot be paired", f"their shapes are {list(one.shape)} and {list(two.shape)}")
    differences = two - one
    seeds, images = differences.shape
    rng = np.random.default_rng(seed)
    drawn_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES)  # [R,K] how often each is drawn
    drawn_images = rng.multinomial(images, np.full(images, 1 / images), RESAMPLES)  # [R,M]
    means = np.einsum("rk,km,rm->r", drawn_seeds, differences, drawn_images, optimize=True) / (seeds * images)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    value = float(differences.mean())
    return Interval(value, min(value, float(low)), max(value, float(high)))

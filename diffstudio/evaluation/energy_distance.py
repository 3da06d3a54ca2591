"""The energy distance between two sets of features (Szekely & Rizzo 2013, doi 10.1016/j.jspi.2013.03.018)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from diffstudio.evaluation.features.feature_arrays import (
    FeatureArray,
    as_features,
    as_varied,
    distance_blocks,
    same_width,
)


def energy_distance(real: ArrayLike, fake: ArrayLike) -> float:
    """(2 E|x - y| - E|x - x'| - E|y - y'|) / E|x - x'| over all pairs, with x in `real` [N,D] and y in `fake` [M,D].

    At least 0, and without a unit, because it is divided by the mean distance of real images. It is biased for small
    sets: compare only sets of equal sizes. BadRequest: fewer than two images, real images that all have the same features,
    features that are not finite or of different widths.
    """
    real, fake = as_varied(real, "real"), as_features(fake, "generated")
    same_width(real, fake)
    between, within_real, within_fake = (
        mean_distance(real, fake),
        mean_distance(real, real),
        mean_distance(fake, fake),
    )
    return max(0.0, (2 * between - within_real - within_fake) / within_real)


def mean_distance(one: FeatureArray, other: FeatureArray) -> float:
    """E|x - y| over all pairs of rows."""
    total = sum(float(distances.sum(dtype=np.float64)) for _, _, distances in distance_blocks([one], other))
    return total / (len(one) * len(other))

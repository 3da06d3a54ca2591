"""The kernel distance between two sets of features (Binkowski et al., 1801.01401; KID with Inception's)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from diffstudio.evaluation.features.feature_arrays import FeatureArray, Features, as_features, blocks, same_width


def kernel_distance(real: ArrayLike, fake: ArrayLike) -> float:
    """The squared maximum mean discrepancy with the cubic kernel (x^T y / D + 1)^3, unbiased: 0 on average where both are
    of one distribution, and below 0 as often as above.

    Over all pairs at once; the KID of other programs is a mean over random subsets, which has the same expectation.

    BadRequest: fewer than two images, or features that are not finite or of different widths.
    """
    real, fake = as_features(real, "real"), as_features(fake, "generated")
    same_width(real, fake)
    between = _sum_between(real, fake) / (len(real) * len(fake))
    return _mean_within(real) + _mean_within(fake) - 2 * between


def _kernel(products: Features, width: int) -> Features:
    kernel: Features = (products / width + 1) ** 3
    return kernel


def _sum_between(one: FeatureArray, other: FeatureArray) -> float:
    total = 0.0
    for rows in blocks(len(one)):
        block = one[rows].astype(np.float64)
        for columns in blocks(len(other)):
            total += float(_kernel(block @ other[columns].astype(np.float64).T, one.shape[1]).sum())
    return total


def _mean_within(features: FeatureArray) -> float:
    """Over pairs of different images."""
    count, width = features.shape
    itself = 0.0
    for rows in blocks(count):
        block = features[rows].astype(np.float64)
        itself += float(_kernel(np.einsum("nd,nd->n", block, block), width).sum())
    return float((_sum_between(features, features) - itself) / (count * (count - 1)))

"""The kernel distance between two sets of features (Binkowski et al., 1801.01401; KID with Inception's)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from diffstudio.evaluation.feature_arrays import Features, as_features, blocks, same_width


def kernel_distance(real: ArrayLike, fake: ArrayLike) -> float:
    """The squared maximum mean discrepancy with the cubic kernel (x^T y / D + 1)^3, unbiased: 0 on average where both are
    of one distribution, and below 0 as often as above.

    Over all pairs at once; the KID of other programs is a mean over random subsets, which has the same expectation.

    BadRequest: fewer than two images, or features that are not finite or of different widths.
    """
    real, fake = as_features(real, "real"), as_features(fake, "generated")
    same_width(real, fake)
    return _mean_within(real) + _mean_within(fake) - 2 * _mean_between(real, fake)


def _kernel(one: Features, other: Features) -> Features:
    kernel: Features = (one @ other.T / one.shape[1] + 1) ** 3
    return kernel


def _mean_between(one: Features, other: Features) -> float:
    total = sum(float(_kernel(one[rows], other).sum()) for rows in blocks(len(one)))
    return total / (len(one) * len(other))


def _mean_within(features: Features) -> float:
    """Over pairs of different images."""
    count, width = features.shape
    itself = float(np.sum((np.einsum("nd,nd->n", features, features) / width + 1) ** 3))
    everything = _mean_between(features, features) * count * count
    return float((everything - itself) / (count * (count - 1)))

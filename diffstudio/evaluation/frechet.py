"""The Frechet distance between two sets of features (Heusel et al., 1706.08500, eq. 6; FID with Inception's)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from diffstudio.evaluation.features.feature_arrays import FeatureArray, Features, as_features, blocks, same_width
from diffstudio.evaluation.features.pairs import Check, no_check


def frechet_distance(real: ArrayLike, fake: ArrayLike, check: Check = no_check) -> float:
    """|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)) of the means and covariances of features [N,D] and [M,D].

    With C = R^T R / (N - 1) and C' = S^T S / (M - 1), the trace of the root is the sum of the singular values of
    S R^T / ((N - 1)(M - 1))^(1/2): no root of a matrix is taken, so that fewer images than features are no harm to its
    accuracy. They do bias the distance upwards: only sets of equal sizes compare.

    `check` is called again and again, and may raise.
    BadRequest: fewer than two images, or features that are not finite or of different widths.
    """
    real, fake = as_features(real, "real"), as_features(fake, "generated")
    same_width(real, fake)
    means = [features.mean(axis=0, dtype=np.float64) for features in (real, fake)]
    roots = [_root(features, mean, check) for features, mean in zip((real, fake), means, strict=True)]
    check()
    shift = means[0] - means[1]
    variances = sum(float(np.sum(root * root)) for root in roots)
    shared = float(np.linalg.svd(roots[1] @ roots[0].T, compute_uv=False).sum())
    return max(0.0, float(shift @ shift) + variances - 2 * shared)


def distance_from_products(real: Features, fake: Features, products: Features) -> float:
    """The distance from the products [N,M] of all pairs: with fewer images than features they are the smaller matrix.

    With centred X and Y the singular values of X Y^T are those of S R^T. The features [N,D] and [M,D] should be centred
    roughly, because the means of the products are taken away again.
    """
    means = [features.mean(axis=0) for features in (real, fake)]
    variances = sum(
        float(np.square(features - mean).sum()) / (len(features) - 1)
        for features, mean in zip((real, fake), means, strict=True)
    )
    centred = products - products.mean(axis=0) - products.mean(axis=1)[:, None] + products.mean()
    shared = float(np.linalg.svd(centred, compute_uv=False).sum()) / np.sqrt((len(real) - 1) * (len(fake) - 1))
    shift = means[0] - means[1]
    return max(0.0, float(shift @ shift) + variances - 2 * float(shared))


def _root(features: FeatureArray, mean: Features, check: Check) -> Features:
    """R with R^T R = the covariance, at most [D,D], by QR of a block of rows at a time."""
    root: Features = np.empty((0, features.shape[1]))
    for rows in blocks(len(features), max(2048, 2 * features.shape[1])):
        check()
        root = np.asarray(np.linalg.qr(np.concatenate([root, features[rows] - mean]), mode="r"), np.float64)
    scaled: Features = root / np.sqrt(len(features) - 1)
    return scaled

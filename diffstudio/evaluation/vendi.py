"""The Vendi score: how many different images a set holds in effect (Friedman and Dieng, 2210.02410, eq. 3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from diffstudio.evaluation.features.feature_arrays import FeatureArray, Features, as_features, blocks, not_measurable


def vendi_score(features: ArrayLike) -> float:
    """exp of the entropy of the eigenvalues of K / N, with K the cosine similarities of features [N,D]: 1 for equal
    images, N for N orthogonal ones.

    It rises with noise, so that it says nothing about quality; and over several classes it is high where each class
    has collapsed. It grows with N: only sets of equal sizes compare.

    BadRequest: no images, features that are not finite, or a row of zeros, which has no direction.
    """
    checked = as_features(features, "measured", at_least=1)
    lengths = np.concatenate(
        [np.linalg.norm(checked[part].astype(np.float64), axis=1) for part in blocks(len(checked))]
    )
    if not lengths.all():
        raise not_measurable("measured", "those of an image are all zero")

    def directions(part: slice) -> Features:
        rows: Features = checked[part].astype(np.float64) / lengths[part, None]
        return rows

    count, width = checked.shape
    if width < count:  # R^T R and R R^T have the same eigenvalues but zeros
        small = np.zeros((width, width))
        for part in blocks(count):
            rows = directions(part)
            small += rows.T @ rows
    else:
        every = directions(slice(None))
        small = every @ every.T
    return _from_eigenvalues(np.linalg.eigvalsh(small / count))


def score_from_similarities(similarities: Features) -> float:
    """The score from the cosine similarities [N,N]."""
    return _from_eigenvalues(np.linalg.eigvalsh(similarities / len(similarities)))


def _from_eigenvalues(values: FeatureArray) -> float:
    values = values[values > 0]
    return float(np.exp(np.sum(values * -np.log(values))))

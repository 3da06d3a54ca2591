"""The Vendi score: how many different images a set holds in effect (Friedman and Dieng, 2210.02410, eq. 3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from diffstudio.errors import BadRequest
from diffstudio.evaluation.feature_arrays import as_features


def vendi_score(features: ArrayLike) -> float:
    """exp of the entropy of the eigenvalues of K / N, with K the cosine similarities of features [N,D]: 1 for equal
    images, N for N orthogonal ones.

    It rises with noise, so that it says nothing about quality; and over several classes it is high where each class
    has collapsed. It grows with N: only sets of equal sizes compare.

    BadRequest: no images, features that are not finite, or a row of zeros, which has no direction.
    """
    rows = as_features(features, "measured", at_least=1)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not lengths.all():
        raise BadRequest("The features cannot be measured", "those of an image are all zero")
    rows = rows / lengths
    small = rows.T @ rows if rows.shape[1] < len(rows) else rows @ rows.T  # both have the same eigenvalues but zeros
    values = np.linalg.eigvalsh(small / len(rows))
    values = values[values > 0]
    return float(np.exp(-np.sum(values * np.log(values))))

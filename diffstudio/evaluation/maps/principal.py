"""Principal components of features: the linear map that keeps the most variance. Pearson 1901; Jolliffe 2002."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from diffstudio.evaluation.features.feature_arrays import Features, as_features, blocks


@dataclass(frozen=True, slots=True)
class Components:
    coordinates: Features  # [N,K], largest variance first; zeros beyond the rank of the features
    shares: tuple[float, ...]  # [K], shares of the total variance; zeros if all features are equal


def principal_components(features: ArrayLike, count: int = 2) -> Components:
    """The first `count` principal components of features [N,D].

    The sign of each makes its largest loading positive, so they are the same on every machine. They are computed from the
    covariance [D,D] in blocks of rows, so memory does not grow with N. BadRequest for features that are not finite.
    """
    array = as_features(features, "laid out", at_least=1)
    number, width = array.shape
    mean = array.mean(axis=0, dtype=np.float64)
    scatter = np.zeros((width, width))
    for rows in blocks(number):
        centred = array[rows].astype(np.float64) - mean
        scatter += centred.T @ centred
    values, vectors = np.linalg.eigh(scatter)
    kept = min(count, width)
    values, vectors = values[::-1].clip(0), vectors[:, ::-1][:, :kept]
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(kept)]
    vectors = vectors * np.where(largest < 0, -1.0, 1.0)
    coordinates, shares = np.zeros((number, count)), np.zeros(count)
    # Rounding errors of equal features are not a direction
    is_flat = values[0] <= number * width * (np.finfo(np.float32).eps * float(np.abs(mean).max())) ** 2
    if not is_flat:
        for rows in blocks(number):
            coordinates[rows, :kept] = (array[rows].astype(np.float64) - mean) @ vectors
        shares[:kept] = values[:kept] / values.sum()
    return Components(coordinates, tuple(map(float, shares)))

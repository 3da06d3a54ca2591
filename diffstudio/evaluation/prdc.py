"""Precision and recall (Kynkaanniemi et al., 1904.06991), density and coverage (Naeem et al., 2002.09797)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffstudio.evaluation.features.feature_arrays import (
    FeatureArray,
    Features,
    as_features,
    distance_blocks,
    nearest,
    same_width,
)

NEIGHBOURS = 5  # the k of the paper on density and coverage


@dataclass(frozen=True, slots=True)
class Prdc:
    """`precision`: the share of generated images inside the neighbourhood of a real one; `recall`: of real images inside
    that of a generated one. `density`: the mean number of real neighbourhoods around a generated image, divided by k,
    so that it may exceed 1. `coverage`: the share of real images with a generated one in their neighbourhood.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def precision_recall_density_coverage(real: ArrayLike, fake: ArrayLike, k: int = NEIGHBOURS) -> Prdc:
    """Of features [N,D] and [M,D]. A neighbourhood reaches to an image's `k`-th neighbour among its own kind.

    BadRequest: k + 1 images or fewer, or features that are not finite or of different widths.
    """
    real, fake = as_features(real, "real", k + 2), as_features(fake, "generated", k + 2)
    same_width(real, fake)
    around_real, around_fake = _radii(real, k), _radii(fake, k)
    neighbourhoods = np.zeros(len(fake), np.int64)  # of real images, around each generated one
    recalled: NDArray[np.bool_] = np.zeros(len(real), bool)
    covered: NDArray[np.bool_] = np.zeros(len(real), bool)
    for rows, columns, distances in distance_blocks([real], fake):
        inside = distances < around_real[rows, None]
        neighbourhoods[columns] += np.count_nonzero(inside, axis=0)
        covered[rows] |= inside.any(axis=1)
        recalled[rows] |= (distances < around_fake[columns]).any(axis=1)
    return Prdc(
        precision=float(np.mean(neighbourhoods > 0)),
        recall=float(np.mean(recalled)),
        density=float(np.mean(neighbourhoods) / k),
        coverage=float(np.mean(covered)),
    )


def _radii(features: FeatureArray, k: int) -> Features:
    """The distance [N] to the `k`-th neighbour, an image not counting as its own."""
    return nearest(features, features, k, same=True)[0][:, -1]

"""Kernel distance, precision, recall, density, coverage and nearest images together, by one pass over all pairs of two sets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffstudio.evaluation.features.feature_arrays import FeatureArray, Features, as_features, same_width
from diffstudio.evaluation.features.neighbours import NearestSearch
from diffstudio.evaluation.features.pairs import Check, no_check, sweep
from diffstudio.evaluation.frechet import distance_from_products, frechet_distance
from diffstudio.evaluation.kernel_distance import KernelMean
from diffstudio.evaluation.prdc import NEIGHBOURS, Neighbourhoods, Prdc
from diffstudio.evaluation.vendi import score_from_similarities, vendi_score


@dataclass(frozen=True, slots=True)
class Within:
    """The pairs of one set: the distance [N] of each image to its `k`-th neighbour, and the mean of the kernel."""

    radii: Features
    kernel: float


@dataclass(frozen=True, slots=True)
class PairMeasures:
    """Two sets compared. `nearest` [M]: the real image nearest to each generated one, `distances` [M] how far it is."""

    kernel_distance: float
    prdc: Prdc
    distances: Features
    nearest: NDArray[np.intp]


def within(features: ArrayLike, k: int = NEIGHBOURS, check: Check = no_check) -> Within:
    """The pairs of features [N,D]. BadRequest: k + 1 images or fewer, features that are not finite."""
    checked = as_features(features, "measured", k + 2)
    search, kernel = NearestSearch([checked], checked, k, same=True), KernelMean()
    sweep([checked], checked, [search.add, kernel.add], check)
    return Within(search.found(check)[0][:, -1], kernel.value)


def pair_measures(
    real: FeatureArray,
    fake: FeatureArray,
    within_real: Within,
    within_fake: Within,
    k: int = NEIGHBOURS,
    check: Check = no_check,
) -> PairMeasures:
    """The pairs of features [N,D] and [M,D], as `kernel_distance` and `precision_recall_density_coverage` compare them.

    BadRequest: features of different widths.
    """
    same_width(real, fake)
    around, kernel = Neighbourhoods(real, fake, within_real.radii, within_fake.radii), KernelMean()
    search = NearestSearch([fake], real, 1, turned=True)
    sweep([real], fake, [around.add, kernel.add, search.add], check)
    distances, numbers = search.found(check)
    distance = within_real.kernel + within_fake.kernel - 2 * kernel.value
    return PairMeasures(distance, around.prdc(k), distances[:, 0], numbers[:, 0])


def measures_of_part(real: FeatureArray, fake: FeatureArray, k: int = NEIGHBOURS) -> dict[str, float]:
    """All measures of quality and diversity of a small part of two sets, [N,D] and [M,D], from one matrix of products.

    The same values as `frechet_distance`, `kernel_distance`, `precision_recall_density_coverage` and `vendi_score` give,
    in about half the time. The matrix [N+M,N+M] is in memory as a whole.
    """
    count, width = len(real), real.shape[1]
    both = np.concatenate([real, fake]).astype(np.float64)
    centre = both.mean(axis=0)
    both -= centre
    products = both @ both.T
    norms = products.diagonal()
    squared = np.maximum(norms[:, None] + norms - 2 * products, 0)
    np.fill_diagonal(squared, np.inf)
    wide = width >= max(count, len(fake))  # then matrices of images are smaller than matrices of features
    if wide:
        distance = distance_from_products(both[:count], both[count:], products[:count, count:])
    else:
        distance = frechet_distance(both[:count], both[count:])
    radii = [np.partition(part, k - 1, axis=1)[:, k - 1] for part in (squared[:count, :count], squared[count:, count:])]
    offset = both @ centre + centre @ centre / 2
    products += offset[:, None] + offset  # of the features as they were
    kernel = (products / width + 1) ** 3
    itself = kernel.diagonal()
    mean_kernels = [
        (part.sum() - own.sum()) / (len(own) * (len(own) - 1))
        for part, own in ((kernel[:count, :count], itself[:count]), (kernel[count:, count:], itself[count:]))
    ]
    between = squared[:count, count:]
    inside = between < radii[0][:, None]
    return {
        "frechet_distance": distance,
        "kernel_distance": float(sum(mean_kernels) - 2 * kernel[:count, count:].mean()),
        "precision": float(inside.any(axis=0).mean()),
        "recall": float((between < radii[1]).any(axis=1).mean()),
        "density": float(inside.sum() / k / len(fake)),
        "coverage": float(inside.any(axis=1).mean()),
        "vendi": _vendi(products[count:, count:]) if wide else vendi_score(fake),
    }


def _vendi(products: Features) -> float:
    lengths = np.sqrt(products.diagonal())
    return score_from_similarities(products / lengths[:, None] / lengths)

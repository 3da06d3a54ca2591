"""Mode coverage: which clusters and classes of the real images are generated, and how diverse each class is."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffstudio.evaluation.even_spacing import evenly_spaced
from diffstudio.evaluation.features.feature_arrays import (
    FeatureArray,
    Features,
    all_same,
    as_features,
    check_labels,
    same_width,
)
from diffstudio.evaluation.features.neighbours import nearest
from diffstudio.evaluation.features.pairs import Check, no_check
from diffstudio.evaluation.interval import RESAMPLES, Interval, share_interval
from diffstudio.evaluation.prdc import NEIGHBOURS, precision_recall_density_coverage
from diffstudio.evaluation.vendi import vendi_score

FEWEST_OF_CLASS = NEIGHBOURS + 2  # images of one class, both real and generated, that are needed to measure it
IMAGES_PER_CLUSTER = 10  # real images, on average
MOST_CLUSTERS = 100
_MOST_OF_CLASS = 200  # images of a class in its Vendi score
_MOST_RESAMPLES = 20  # over all classes
_ROUNDS = 30  # of k-means
_MOST_CLUSTERED = 2000  # real images used for k-means


@dataclass(frozen=True, slots=True)
class OfClass:
    """The measures of one class.

    `vendi` and `real_vendi` are computed on `compared` images each; `coverage` is the share of its real images that the
    images generated for this class cover.
    """

    generated: int
    compared: int
    vendi: float
    real_vendi: float
    coverage: float


@dataclass(frozen=True, slots=True)
class Classes:
    """The measures of all classes.

    `reached` is the share of requested classes that were generated; `missing` lists the others. `vendi` and `real_vendi`
    are means over the classes with enough images, 0 if no class has enough.
    """

    reached: Interval
    missing: tuple[Hashable, ...]
    by_class: dict[Hashable, OfClass]
    vendi: Interval
    real_vendi: Interval


def mode_coverage(generated: ArrayLike, real: ArrayLike, seed: int = 0, check: Check = no_check) -> Interval:
    """The share of clusters of the real images [N,D] that generated images [M,D] reach.

    Clusters are found by k-means, one for every ten real images, at most 100. A generated image reaches the cluster of
    its nearest centre if it is no further from it than the cluster's own images are. The bins follow Richardson & Weiss
    2018 (arXiv 1805.12462), who compare their proportions; here only empty bins count. `check` is called again and
    again, and may raise.

    BadRequest: fewer than 20 real images, no generated images, features that are not finite or of different widths.
    """
    known = as_features(real, "real", at_least=2 * IMAGES_PER_CLUSTER)
    shown = as_features(generated, "generated", at_least=1)
    same_width(known, shown)
    count = min(MOST_CLUSTERS, len(known) // IMAGES_PER_CLUSTER)
    centres = k_means(known[evenly_spaced(len(known), _MOST_CLUSTERED)], count, seed, check)
    to_centre, nearest_centre = nearest(known, centres, 1, check=check)
    distances, cluster = to_centre[:, 0], nearest_centre[:, 0]
    radii = np.full(len(centres), -1.0)  # -1: an empty cluster, which nothing reaches
    np.maximum.at(radii, cluster, distances)
    to_centre, nearest_centre = nearest(shown, centres, 1, check=check)
    to_generated, reached = to_centre[:, 0], nearest_centre[:, 0]
    hit = np.unique(reached[to_generated <= radii[reached] * (1 + 1e-9)])
    return share_interval(len(hit), int(np.count_nonzero(radii >= 0)))


def k_means(features: FeatureArray, count: int, seed: int = 0, check: Check = no_check) -> Features:
    """Centres [count,D] of k-means with k-means++ initialisation (Arthur & Vassilvitskii 2007)."""
    rng = np.random.default_rng(seed)
    centres: Features = features[rng.integers(len(features))].astype(np.float64)[None]
    squared = np.full(len(features), np.inf)
    while len(centres) < count:
        check()
        squared = np.minimum(squared, nearest(features, centres[-1:], 1)[0][:, 0] ** 2)
        total = float(squared.sum())
        chances = squared / total if total > 0 else None
        centres = np.concatenate([centres, features[rng.choice(len(features), p=chances)].astype(np.float64)[None]])
    for _ in range(_ROUNDS):
        check()
        cluster = nearest(features, centres, 1)[1][:, 0]
        sizes = np.bincount(cluster, minlength=count)
        is_in = cluster[None] == np.arange(count)[:, None]  # [K,N]
        sums = is_in.astype(np.float64) @ features
        moved = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], centres)
        if np.array_equal(moved, centres):
            break
        centres = np.asarray(moved, np.float64)
    return centres


def class_diversity(
    generated: ArrayLike,
    asked: Sequence[Hashable],
    real: ArrayLike,
    labels: Sequence[Hashable],
    resamples: int = RESAMPLES,
    near: NDArray[np.intp] | None = None,
    check: Check = no_check,
) -> Classes:
    """The diversity of each class, from features [S,D] of generated images with their requested class and [N,D] of real ones.

    A class is reached if at least one image generated for it has its nearest real image in that class. Vendi scores grow
    with the number of images, so both are computed on as many images as the smaller of the two sets has. `near` [S] is the
    index of the real image nearest to each generated one, where it is known.

    BadRequest: no images, numbers of labels and images that differ, features of different widths.
    """
    shown, known = as_features(generated, "generated", at_least=1), as_features(real, "real", at_least=1)
    same_width(known, shown)
    check_labels(shown, asked)
    check_labels(known, labels)
    found = nearest(shown, known, 1, check=check)[1][:, 0] if near is None else near
    classes = [label for label in dict.fromkeys(asked) if label in set(labels)]
    right = {label for index, label in zip(found, asked, strict=True) if labels[index] == label}
    by_class: dict[Hashable, OfClass] = {}
    parts: list[tuple[FeatureArray, FeatureArray]] = []
    for label in classes:
        check()
        ours, theirs = shown[_where(asked, label)], known[_where(labels, label)]
        compared = min(len(ours), len(theirs), _MOST_OF_CLASS)
        if compared >= FEWEST_OF_CLASS and not all_same(theirs):
            part = ours[evenly_spaced(len(ours), compared)], theirs[evenly_spaced(len(theirs), compared)]
            parts.append(part)
            covered = precision_recall_density_coverage(theirs, ours, check=check).coverage
            by_class[label] = OfClass(len(ours), compared, vendi_score(part[0]), vendi_score(part[1]), covered)
    return Classes(
        share_interval(len(right), len(classes)) if classes else Interval(0.0, 0.0, 1.0),
        tuple(label for label in classes if label not in right),
        by_class,
        _mean_vendi([ours for ours, _ in parts], resamples, check),
        _mean_vendi([theirs for _, theirs in parts], resamples, check),
    )


def _mean_vendi(parts: Sequence[FeatureArray], resamples: int, check: Check) -> Interval:
    """The mean Vendi score of several sets, with its interval from random halves of each, as in `interval`."""
    if not parts:
        return Interval(0.0, 0.0, 0.0)
    rng = np.random.default_rng(0)
    value = float(np.mean([vendi_score(part) for part in parts]))
    halves = []
    for _ in range(max(1, min(resamples, _MOST_RESAMPLES))):
        check()
        drawn = [part[rng.choice(len(part), len(part) // 2, replace=False)] for part in parts]
        halves.append(np.mean([vendi_score(part) for part in drawn]))
    low, high = np.quantile(np.array(halves) - np.mean(halves), [0.025, 0.975])
    return Interval(value, max(1.0, value + float(low)), value + float(high))


def _where(labels: Sequence[Hashable], label: Hashable) -> NDArray[np.intp]:
    return np.flatnonzero([one == label for one in labels])

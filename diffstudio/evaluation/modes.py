"""Modes: which clusters of the real images, and which classes, a set of generated images reaches, and how diverse each
class is.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffstudio.evaluation.even_spacing import evenly_spaced
from diffstudio.evaluation.features.feature_arrays import (
    FeatureArray,
    Features,
    as_features,
    check_labels,
    nearest,
    same_width,
)
from diffstudio.evaluation.interval import RESAMPLES, Interval, share_interval
from diffstudio.evaluation.prdc import NEIGHBOURS, precision_recall_density_coverage
from diffstudio.evaluation.vendi import vendi_score

FEWEST_OF_CLASS = NEIGHBOURS + 2  # images of one class, real and generated, below which nothing is said about it
IMAGES_PER_CLUSTER = 10  # real images, on average
MOST_CLUSTERS = 100
_MOST_OF_CLASS = 200  # images whose Vendi score is computed
_MOST_RESAMPLES = 20  # of all classes
_ROUNDS = 30  # of k-means
_MOST_CLUSTERED = 2000  # real images that k-means is given


@dataclass(frozen=True, slots=True)
class OfClass:
    """One class. `vendi` and `real_vendi` are of `compared` images each; `coverage` is that of its own real images by the
    images that were asked for it.
    """

    generated: int
    compared: int
    vendi: float
    real_vendi: float
    coverage: float


@dataclass(frozen=True, slots=True)
class Classes:
    """`reached`: the share of classes asked for that were really made; `missing` are the others.

    `vendi` and `real_vendi` are means over the classes with enough images: 0 if no class has enough.
    """

    reached: Interval
    missing: tuple[Hashable, ...]
    by_class: dict[Hashable, OfClass]
    vendi: Interval
    real_vendi: Interval


def mode_coverage(generated: ArrayLike, real: ArrayLike, seed: int = 0) -> Interval:
    """The share of clusters of the real images [N,D] that generated images [M,D] reach.

    Clusters are found by k-means, one for ten real images and at most 100. A generated image reaches the cluster of the
    nearest centre if it is no further from it than the cluster's own images are. The bins are those of Richardson and
    Weiss 2018 (arXiv 1805.12462); they compare their sizes, here it is enough that none is empty.

    BadRequest: fewer than 20 real images, no generated one, features that are not finite or of different widths.
    """
    known = as_features(real, "real", at_least=2 * IMAGES_PER_CLUSTER)
    shown = as_features(generated, "generated", at_least=1)
    same_width(known, shown)
    count = min(MOST_CLUSTERS, len(known) // IMAGES_PER_CLUSTER)
    centres = k_means(known[evenly_spaced(len(known), _MOST_CLUSTERED)], count, seed)
    to_centre, nearest_centre = nearest(known, centres, 1)
    distances, cluster = to_centre[:, 0], nearest_centre[:, 0]
    radii = np.full(len(centres), -1.0)  # of an empty cluster, which nothing reaches
    np.maximum.at(radii, cluster, distances)
    to_centre, nearest_centre = nearest(shown, centres, 1)
    to_generated, reached = to_centre[:, 0], nearest_centre[:, 0]
    hit = np.unique(reached[to_generated <= radii[reached] * (1 + 1e-9)])
    return share_interval(len(hit), int(np.count_nonzero(radii >= 0)))


def k_means(features: FeatureArray, count: int, seed: int = 0) -> Features:
    """Centres [count,D] of k-means, started by k-means++: Arthur and Vassilvitskii 2007."""
    rng = np.random.default_rng(seed)
    centres: Features = features[rng.integers(len(features))].astype(np.float64)[None]
    while len(centres) < count:
        squared = nearest(features, centres, 1)[0][:, 0] ** 2
        total = float(squared.sum())
        chances = squared / total if total > 0 else None
        centres = np.concatenate([centres, features[rng.choice(len(features), p=chances)].astype(np.float64)[None]])
    for _ in range(_ROUNDS):
        cluster = nearest(features, centres, 1)[1][:, 0]
        sizes = np.bincount(cluster, minlength=count)
        sums = np.zeros_like(centres)
        np.add.at(sums, cluster, features)
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
) -> Classes:
    """Of features [S,D] of generated images, each with the class asked for, and [N,D] of labelled real ones.

    A class is reached if the nearest real image to at least one of the images asked for it is of that class. Vendi
    scores grow with the number of images, so that both are of as many images of a class as there are of either.

    BadRequest: no images, other numbers of labels than of images, features of different widths.
    """
    shown, known = as_features(generated, "generated", at_least=1), as_features(real, "real", at_least=1)
    same_width(known, shown)
    check_labels(shown, asked)
    check_labels(known, labels)
    found = nearest(shown, known, 1)[1][:, 0]
    classes = [label for label in dict.fromkeys(asked) if label in set(labels)]
    right = {label for index, label in zip(found, asked, strict=True) if labels[index] == label}
    by_class: dict[Hashable, OfClass] = {}
    parts: list[tuple[FeatureArray, FeatureArray]] = []
    for label in classes:
        ours, theirs = shown[_where(asked, label)], known[_where(labels, label)]
        compared = min(len(ours), len(theirs), _MOST_OF_CLASS)
        if compared >= FEWEST_OF_CLASS:
            part = ours[evenly_spaced(len(ours), compared)], theirs[evenly_spaced(len(theirs), compared)]
            parts.append(part)
            covered = precision_recall_density_coverage(theirs, ours).coverage
            by_class[label] = OfClass(len(ours), compared, vendi_score(part[0]), vendi_score(part[1]), covered)
    return Classes(
        share_interval(len(right), len(classes)) if classes else Interval(0.0, 0.0, 1.0),
        tuple(label for label in classes if label not in right),
        by_class,
        _mean_vendi([ours for ours, _ in parts], resamples),
        _mean_vendi([theirs for _, theirs in parts], resamples),
    )


def _mean_vendi(parts: Sequence[FeatureArray], resamples: int) -> Interval:
    """The mean Vendi score of several sets, with the interval from halves of each, as in `interval`."""
    if not parts:
        return Interval(0.0, 0.0, 0.0)
    rng = np.random.default_rng(0)
    value = float(np.mean([vendi_score(part) for part in parts]))
    halves = [
        np.mean([vendi_score(part[rng.choice(len(part), len(part) // 2, replace=False)]) for part in parts])
        for _ in range(max(1, min(resamples, _MOST_RESAMPLES)))
    ]
    low, high = np.quantile(np.array(halves) - np.mean(halves), [0.025, 0.975])
    return Interval(value, max(1.0, value + float(low)), value + float(high))


def _where(labels: Sequence[Hashable], label: Hashable) -> NDArray[np.intp]:
    return np.flatnonzero([one == label for one in labels])

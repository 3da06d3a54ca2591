"""The birthday-paradox test: how many different images a generator can make, from the duplicates in a batch.

Arora and Zhang 2017 (arXiv 1706.08224): a batch of s images from a uniform choice of N has a duplicate with a
probability of about 1 - exp(-s (s - 1) / (2 N)). They looked for duplicates by eye; here a distance decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log, sqrt

import numpy as np
from numpy.typing import ArrayLike

from diffstudio.evaluation.features.feature_arrays import as_features, distance_blocks, nearest, same_width
from diffstudio.evaluation.interval import Interval

TYPICAL_SHARE = 0.01  # of different real images that have another one nearer than the threshold
_EQUAL = 1e-6  # of the largest distance between neighbours, below which two real images are one and the same
_Z = 1.959964  # 95 %


@dataclass(frozen=True, slots=True)
class Birthday:
    """`support`: how many equally likely images would collide as often, with its 95 % interval; infinite without
    duplicates, and then `support.low` is what the batch was large enough to rule out.
    """

    images: int  # compared with each other
    pairs: int  # of duplicates among them
    threshold: float  # distance below which two images are duplicates
    support: Interval

    @property
    def batch(self) -> float:
        """The size of a batch that has a duplicate with even odds; infinite without duplicates."""
        return batch_with_duplicate(self.support.value)


def batch_with_duplicate(support: float) -> float:
    """s from s (s - 1) / (2 N) = ln 2."""
    return (1 + sqrt(1 + 8 * log(2) * support)) / 2


def duplicate_threshold(real: ArrayLike) -> float:
    """The distance below which 1 % of different real images [N,D] have another one.

    Copies of one and the same image among them say nothing about that: they are left out. BadRequest: fewer than three
    images, or features that are not finite.
    """
    known = as_features(real, "real", at_least=3)
    distances = nearest(known, known, 1, same=True)[0][:, 0]
    different = distances[distances > _EQUAL * float(distances.max())]
    return float(np.quantile(different, TYPICAL_SHARE)) if len(different) else 0.0


def birthday(generated: ArrayLike, threshold: float) -> Birthday:
    """Count the pairs of images [S,D] no further apart than `threshold`, and estimate the support from them.

    The share q of pairs that are duplicates estimates the sum of squared probabilities of all images, of which 1 / q is
    the effective number. The number of pairs is Poisson where all images are equally likely; where some are made more
    often, pairs share images and vary more (Hoeffding 1948), and the interval is widened by that.

    BadRequest: fewer than two images, or features that are not finite.
    """
    images = as_features(generated, "generated")
    count = len(images)
    partners = np.zeros(count, np.int64)
    for rows, columns, distances in distance_blocks([images], images):
        close = distances <= threshold
        own = np.arange(max(rows.start, columns.start), min(rows.stop, columns.stop))
        close[own - rows.start, own - columns.start] = False
        partners[rows] += np.count_nonzero(close, axis=1)
    pairs, possible = int(partners.sum()) // 2, count * (count - 1) / 2
    low, high = _pairs_interval(pairs, partners, count)
    value = possible / pairs if pairs else inf
    return Birthday(count, pairs, threshold, Interval(value, possible / high, possible / low if low else inf))


def _pairs_interval(pairs: int, partners: np.ndarray, count: int) -> tuple[float, float]:
    """The 95 % interval of the expected number of pairs; `partners` [S] are the duplicates of each image."""
    wider = 1.0
    if pairs:
        possible = count * (count - 1) / 2
        share = pairs / possible
        unequal = max(0.0, float(np.var(partners / (count - 1))) - share * (1 - share) / (count - 1))
        wider += 4 * unequal / count * possible / share
    low, high = _poisson_interval(pairs / wider)
    return wider * low, min(wider * high, count * (count - 1) / 2)


def _poisson_interval(events: float) -> tuple[float, float]:
    """The 95 % interval of a Poisson mean after so many events: Wilson and Hilferty 1931, within 1 % of the exact one."""
    low = events * max(0.0, 1 - 1 / (9 * events) - _Z / (3 * sqrt(events))) ** 3 if events else 0.0
    return low, (events + 1) * (1 - 1 / (9 * (events + 1)) + _Z / (3 * sqrt(events + 1))) ** 3


def birthday_test(generated: ArrayLike, real: ArrayLike) -> Birthday:
    """`birthday` with the threshold of the real images [N,D]: as many as the generated ones, or the test is blunter.

    BadRequest also for features of different widths.
    """
    shown, known = as_features(generated, "generated"), as_features(real, "real", at_least=3)
    same_width(known, shown)
    return birthday(shown, duplicate_threshold(known))

"""The birthday paradox test: estimates the number of different images a generator can make from duplicates in a batch.

Arora and Zhang 2017 (arXiv 1706.08224): a batch of s images drawn uniformly from N contains a duplicate with
probability about 1 - exp(-s (s - 1) / (2 N)). They identified duplicates by eye; here a distance threshold does.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log, sqrt

import numpy as np
from numpy.typing import ArrayLike

from diffstudio.evaluation.features.feature_arrays import as_features, as_varied, distance_blocks, same_width
from diffstudio.evaluation.features.neighbours import nearest
from diffstudio.evaluation.features.pairs import Check, no_check
from diffstudio.evaluation.interval import Interval

TYPICAL_SHARE = 0.01  # the share of distinct real images with another one below the threshold
_EQUAL = 1e-6  # of the largest nearest-neighbour distance; real images that are closer are identical
_Z = 1.959964  # 95%


@dataclass(frozen=True, slots=True)
class Birthday:
    """The estimated support size of a generator.

    `support` is the number of equally likely images that would give as many duplicates, with its 95% interval. Without
    duplicates it is infinite, and `support.low` is the lower bound that a batch of this size supports.
    """

    images: int  # in the batch
    pairs: int  # pairs of duplicates in it
    threshold: float  # distance below which two images are duplicates
    support: Interval

    @property
    def batch(self) -> float:
        """The batch size at which a duplicate has a probability of 50%; infinite without duplicates."""
        return batch_with_duplicate(self.support.value)


def batch_with_duplicate(support: float) -> float:
    """The batch size s with a duplicate in half of all batches: s (s - 1) / (2 N) = ln 2."""
    return (1 + sqrt(1 + 8 * log(2) * support)) / 2


def duplicate_threshold(real: ArrayLike, check: Check = no_check) -> float:
    """The distance within which 1% of the distinct real images [N,D] have another one.

    Identical images are counted once. BadRequest: fewer than three images, images that all have the same features, or
    features that are not finite.
    """
    known = as_varied(real, "real", at_least=3)
    distances = nearest(known, known, 1, same=True, check=check)[0][:, 0]
    different = distances[distances > _EQUAL * float(distances.max())]
    return float(np.quantile(different, TYPICAL_SHARE)) if len(different) else 0.0  # every image exists twice


def birthday(generated: ArrayLike, threshold: float, check: Check = no_check) -> Birthday:
    """Count the pairs of images [S,D] no further apart than `threshold`, and estimate the support size from them.

    The share q of pairs that are duplicates estimates the sum of the squared probabilities of all images; 1 / q is their
    effective number. The number of pairs is Poisson distributed if all images are equally likely. If some are generated
    more often, pairs share images and their number varies more (Hoeffding 1948); the interval is widened accordingly.

    BadRequest: fewer than two images, or features that are not finite.
    """
    images = as_features(generated, "generated")
    count = len(images)
    partners = np.zeros(count, np.int64)
    for rows, columns, distances in distance_blocks([images], images):
        check()
        close = distances <= threshold
        own = np.arange(max(rows.start, columns.start), min(rows.stop, columns.stop))
        close[own - rows.start, own - columns.start] = False
        partners[rows] += np.count_nonzero(close, axis=1)
    pairs, possible = int(partners.sum()) // 2, count * (count - 1) / 2
    low, high = _pairs_interval(pairs, partners, count)
    value = possible / pairs if pairs else inf
    return Birthday(count, pairs, threshold, Interval(value, possible / high, possible / low if low else inf))


def _pairs_interval(pairs: int, partners: np.ndarray, count: int) -> tuple[float, float]:
    """The 95% interval of the expected number of pairs; `partners` [S] counts the duplicates of each image."""
    wider = 1.0
    if pairs:
        possible = count * (count - 1) / 2
        share = pairs / possible
        unequal = max(0.0, float(np.var(partners / (count - 1))) - share * (1 - share) / (count - 1))
        wider += 4 * unequal / count * possible / share
    low, high = _poisson_interval(pairs / wider)
    return wider * low, min(wider * high, count * (count - 1) / 2)


def _poisson_interval(events: float) -> tuple[float, float]:
    """The 95% interval of a Poisson mean given a count: Wilson & Hilferty 1931, within 1% of the exact interval."""
    low = events * max(0.0, 1 - 1 / (9 * events) - _Z / (3 * sqrt(events))) ** 3 if events else 0.0
    return low, (events + 1) * (1 - 1 / (9 * (events + 1)) + _Z / (3 * sqrt(events + 1))) ** 3


def birthday_test(generated: ArrayLike, real: ArrayLike, check: Check = no_check) -> Birthday:
    """`birthday` with the threshold from the real images [N,D], ideally as many as the generated ones.

    With fewer real images the test is less sensitive. BadRequest also for features of different widths.
    """
    shown, known = as_features(generated, "generated"), as_features(real, "real", at_least=3)
    same_width(known, shown)
    return birthday(shown, duplicate_threshold(known, check), check)

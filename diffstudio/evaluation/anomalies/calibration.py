"""Scores of anomaly detectors calibrated on held-out normals: p-values, thresholds, combinations, AUROC. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffstudio.errors import BadRequest
from diffstudio.evaluation.interval import Interval

Scores = NDArray[np.float64]
RESAMPLES = 1000
_TO_DEVIATION = 1.4826  # of the median distance from the median of normal values


def p_values(scores: ArrayLike, normals: ArrayLike) -> Scores:
    """The share of normals, each image itself among them, that score at least as high: conformal p-values [N].

    A normal image has one of at most p in a share p of all cases, whatever the scores are (Vovk et al. 2005).
    """
    values, known = np.asarray(scores, np.float64), np.sort(np.asarray(normals, np.float64))
    at_least = len(known) - np.searchsorted(known, values, side="left")
    return np.asarray((1 + at_least) / (1 + len(known)), np.float64)


def smallest_rate(count: int) -> float:
    """The smallest false-alarm rate that `count` held-out normals support."""
    return 1 / (1 + count)


def threshold(normals: ArrayLike, rate: float) -> float:
    """The score above which at most the share `rate` of normal images lies.

    BadRequest for a rate that so few normals do not support, naming the smallest one that they do.
    """
    known = np.sort(np.asarray(normals, np.float64))
    allowed = int(np.floor(rate * (1 + len(known)) + 1e-9))  # images, the new one among them, that may lie above
    if allowed < 1:
        raise BadRequest(
            f"A false-alarm rate of {rate:g} needs more normal images",
            f"{len(known):,} were held out, which support rates from {smallest_rate(len(known)):.3g} on",
            "Choose a higher rate, or add normal images",
        )
    return float(known[len(known) - allowed])


def two_sided(values: ArrayLike, normals: ArrayLike) -> Scores:
    """How far log-likelihoods are from what is typical of normals, on either side: Nalisnick et al. (1906.02994)."""
    return np.abs(np.asarray(values, np.float64) - np.median(np.asarray(normals, np.float64)))


def standardised(scores: ArrayLike, normals: ArrayLike) -> Scores:
    """Deviations above the median of the normals, by their median distance from it."""
    known = np.asarray(normals, np.float64)
    middle = np.median(known)
    spread = _TO_DEVIATION * np.median(np.abs(known - middle)) or known.std() or 1.0
    return np.asarray((np.asarray(scores, np.float64) - middle) / spread, np.float64)


def combined(scores: Mapping[str, ArrayLike], normals: Mapping[str, ArrayLike], weights: Mapping[str, float]) -> Scores:
    """The weighted mean of several detectors' standardised scores [N]; detectors without a weight do not count."""
    used = {name: weight for name, weight in weights.items() if weight > 0}
    total = sum(used.values())
    parts = [weight * standardised(scores[name], normals[name]) for name, weight in used.items()]
    return np.asarray(np.sum(parts, axis=0) / total, np.float64)


def weights_of(areas: Mapping[str, float]) -> dict[str, float]:
    """Weights of detectors by their AUROC: the odds that an anomaly scores higher than a normal image, less 1.

    A detector that is right in 99 of 100 pairs outweighs one that is right in 90 eleven to one.
    """
    odds = {name: min(area, 0.999) / (1 - min(area, 0.999)) - 1 for name, area in areas.items()}
    if all(value <= 0 for value in odds.values()):
        return dict.fromkeys(areas, 1.0)
    return {name: max(0.0, value) for name, value in odds.items()}


def auroc(anomalous: ArrayLike, normal: ArrayLike) -> float:
    """The chance that an anomalous image scores higher than a normal one; a tie counts half (Mann and Whitney 1947)."""
    high, low = np.asarray(anomalous, np.float64).ravel(), np.sort(np.asarray(normal, np.float64).ravel())
    if not len(high) or not len(low):
        raise BadRequest("An AUROC needs anomalous and normal images", "one of the two kinds is missing")
    below, up_to = np.searchsorted(low, high, side="left"), np.searchsorted(low, high, side="right")
    return float((below + up_to).sum() / (2 * len(high) * len(low)))


def auroc_interval(anomalous: Sequence[ArrayLike], normal: Sequence[ArrayLike], seed: int = 0) -> Interval:
    """The AUROC with its 95 % bootstrap interval over images: an entry for each, its score, or its pixels' scores.

    Images of both kinds are drawn with replacement, so that pixels of an image stay together.
    """
    high, low = ([np.asarray(one, np.float64).ravel() for one in kind] for kind in (anomalous, normal))
    value = auroc(np.concatenate(high), np.concatenate(low))
    ranks = _rank_sums(high, low)  # [A,N], the pairs of pixels that are in order, of each pair of images
    sizes = [np.array([one.size for one in kind], np.float64) for kind in (high, low)]
    rng = np.random.default_rng(seed)
    drawn = [rng.multinomial(len(kind), np.full(len(kind), 1 / len(kind)), RESAMPLES) for kind in (high, low)]
    pairs = np.einsum("ra,an,rn->r", drawn[0], ranks, drawn[1], optimize=True)
    areas = pairs / ((drawn[0] @ sizes[0]) * (drawn[1] @ sizes[1]))
    bounds = np.quantile(areas, [0.025, 0.975])
    return Interval(value, min(value, float(bounds[0])), max(value, float(bounds[1])))


def _rank_sums(high: Sequence[Scores], low: Sequence[Scores]) -> Scores:
    every = np.concatenate(high)
    starts = np.cumsum([0, *(one.size for one in high[:-1])])
    columns = []
    for one in low:
        known = np.sort(one)
        found = (np.searchsorted(known, every, side="left") + np.searchsorted(known, every, side="right")) / 2
        columns.append(np.add.reduceat(found, starts))
    return np.stack(columns, axis=1)


def outliers(normals: ArrayLike) -> NDArray[np.intp]:
    """Held-out normals that are probably none, the worst first: beyond the third quartile by three interquartile ranges.

    Tukey's far outliers: of normal values, 1 in 850,000 lies there.
    """
    known = np.asarray(normals, np.float64)
    first, third = np.quantile(known, [0.25, 0.75])
    far = np.flatnonzero(known > third + 3 * (third - first))
    return far[np.argsort(-known[far], kind="stable")]

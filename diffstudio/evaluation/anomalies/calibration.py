"""Calibration of anomaly scores on held-out normal images: p-values, thresholds, combinations, AUROC. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffstudio.errors import BadRequest
from diffstudio.evaluation.interval import Interval

Scores = NDArray[np.float64]
RESAMPLES = 1000
_TOLERANCE = 1e-9  # of the number of images that a rate allows
_TO_DEVIATION = 1.4826  # standard deviation / median absolute deviation of a normal distribution


def checked(scores: ArrayLike, what: str, *, required: bool = False) -> Scores:
    """The scores as an array. BadRequest for NaN and infinite ones, which have no rank, and if `required` ones are missing."""
    values = np.asarray(scores, np.float64)
    if bad := int(np.count_nonzero(~np.isfinite(values))):
        raise BadRequest(
            f"The scores of the {what} images cannot be compared",
            f"{bad:,} of {values.size:,} are NaN or infinite",
            "Check the images and the checkpoint for such values",
        )
    if required and not values.size:
        raise BadRequest("There is nothing to calibrate the scores with", f"there are no {what} images")
    return values


def p_values(scores: ArrayLike, normals: ArrayLike) -> Scores:
    """Conformal p-values [N]: the share of normal images, counting the image itself, that score at least as high.

    A normal image has a p-value of at most p with probability at most p, for any score (Vovk et al. 2005).
    """
    values, known = checked(scores, "searched"), np.sort(checked(normals, "normal"))
    at_least = len(known) - np.searchsorted(known, values, side="left")
    return np.asarray((1 + at_least) / (1 + len(known)), np.float64)


def smallest_rate(count: int) -> float:
    """The smallest false-alarm rate that `count` held-out normals support."""
    return 1 / (1 + count)


def check_rate(count: int, rate: float) -> None:
    """BadRequest if `count` held-out normals are too few for this false-alarm rate; it names the lowest that they support."""
    if rate * (1 + count) + _TOLERANCE < 1:
        raise BadRequest(
            f"A false-alarm rate of {rate:g} needs more normal images",
            f"{count:,} were held out, which support rates of {smallest_rate(count):.3g} and above",
            "Choose a higher rate, or add normal images",
        )


def threshold(normals: ArrayLike, rate: float) -> float:
    """The score that at most the share `rate` of normal images exceeds. BadRequest as in `check_rate`."""
    known = np.sort(checked(normals, "normal"))
    check_rate(len(known), rate)
    allowed = int(np.floor(rate * (1 + len(known)) + _TOLERANCE))  # images that may exceed it, counting the new one
    return float(known[len(known) - allowed])


def two_sided(values: ArrayLike, normals: ArrayLike) -> Scores:
    """Distances of log-likelihoods from the median of normal images: a typicality test, Nalisnick et al. (1906.02994)."""
    return np.abs(checked(values, "searched") - np.median(checked(normals, "normal", required=True)))


def standardised(scores: ArrayLike, normals: ArrayLike) -> Scores:
    """Robust z-scores: the distance above the median of the normal images, in units of their median absolute deviation."""
    known = checked(normals, "normal", required=True)
    middle = np.median(known)
    spread = _TO_DEVIATION * np.median(np.abs(known - middle)) or known.std() or 1.0
    return np.asarray((checked(scores, "searched") - middle) / spread, np.float64)


def combined(scores: Mapping[str, ArrayLike], normals: Mapping[str, ArrayLike], weights: Mapping[str, float]) -> Scores:
    """log(sum of weight * exp(z)), over the standardised scores z [N] of several detectors; the weights are divided by their sum.

    If a score were the log-likelihood ratio of the anomalies that its detector sees, this would be that of their mixture
    with these weights: one detector that is sure is enough, which in a mean the others would drown. A detector without a
    weight is left out.
    """
    used = {name: weight for name, weight in weights.items() if weight > 0}
    shares = np.log(np.array(list(used.values())) / sum(used.values()))
    parts = [share + standardised(scores[name], normals[name]) for name, share in zip(used, shares, strict=True)]
    return np.asarray(np.logaddexp.reduce(parts, axis=0), np.float64)


def auroc(anomalous: ArrayLike, normal: ArrayLike) -> float:
    """The probability that an anomalous image scores higher than a normal one; ties count half (Mann & Whitney 1947)."""
    high, low = checked(anomalous, "anomalous").ravel(), np.sort(checked(normal, "normal").ravel())
    if not len(high) or not len(low):
        raise BadRequest(
            "The AUROC cannot be computed", "it needs both anomalous and normal images, and one kind is missing"
        )
    below, up_to = np.searchsorted(low, high, side="left"), np.searchsorted(low, high, side="right")
    return float((below + up_to).sum() / (2 * len(high) * len(low)))


def auroc_interval(anomalous: Sequence[ArrayLike], normal: Sequence[ArrayLike], seed: int = 0) -> Interval:
    """The AUROC with its 95% bootstrap interval over images. Each entry is the score of an image or those of its pixels.

    Images of both kinds are resampled with replacement, so the pixels of an image stay together.
    """
    high, low = ([np.asarray(one, np.float64).ravel() for one in kind] for kind in (anomalous, normal))
    value = auroc(np.concatenate(high), np.concatenate(low))
    ranks = _rank_sums(high, low)  # [A,N]: for each pair of images, how many pairs of pixels are in order
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


def far_limit(values: ArrayLike) -> float:
    """Tukey's far fence: three interquartile ranges above the third quartile."""
    first, third = np.quantile(checked(values, "normal", required=True), [0.25, 0.75])
    return float(third + 3 * (third - first))


def outliers(normals: ArrayLike) -> NDArray[np.intp]:
    """Indices of held-out images that are probably not normal, worst first: Tukey's far outliers.

    They are more than three interquartile ranges above the third quartile, like 1 in 850,000 of normally distributed values.
    """
    known = checked(normals, "normal", required=True)
    far = np.flatnonzero(known > far_limit(known))
    return far[np.argsort(-known[far], kind="stable")]

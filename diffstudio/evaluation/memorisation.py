"""Whether generated images are copies of the training images: three tests that can disagree, and are shown together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffstudio.errors import BadRequest
from diffstudio.evaluation.feature_arrays import Features, as_features, nearest, same_width
from diffstudio.evaluation.interval import Interval, share_interval

NEIGHBOURS = 50
ROUNDS = 10  # in which training images are drawn to be compared with the held-out ones
FALSE_ALARMS = 0.01  # the share of held-out images that may be called copies
LARGEST_RATIO = 1 / 3  # of a copy, whatever the held-out images say (Somepalli et al., 2212.03860, and dgm-eval)


@dataclass(frozen=True, slots=True)
class Copies:
    """The test by distance ratio. `ratios` [S] and `nearest` [S] are of the generated images: the index of the training
    image nearest to each.
    """

    share: Interval
    threshold: float
    ratios: Features
    nearest: NDArray[np.intp]

    def indices(self) -> NDArray[np.intp]:
        """The generated images called copies, the closest first."""
        order = np.argsort(self.ratios, kind="stable")
        return order[self.ratios[order] < self.threshold]


def copies(samples: ArrayLike, training: ArrayLike, held_out: ArrayLike) -> Copies:
    """The share of generated images much nearer to one training image than to those around it.

    The ratio d1 / mean(d2 ... d50) of distances in feature space compares an image with its surroundings; the mean of
    many keeps duplicates among the training images from hiding a copy. The threshold is what 1 % of the held-out
    images fall below, which are no copies, and at most 1/3.

    BadRequest: fewer than three training images, no samples or held-out images, features of different widths.
    """
    samples, training, held_out = _three(samples, training, held_out)
    ratios, closest = _distance_ratios(samples, training)
    normal, _ = _distance_ratios(held_out, training)
    threshold = min(LARGEST_RATIO, float(np.quantile(normal, FALSE_ALARMS)))
    called = int(np.count_nonzero(ratios < threshold))
    return Copies(share_interval(called, len(samples)), threshold, ratios, closest)


def _distance_ratios(images: Features, training: Features) -> tuple[Features, NDArray[np.intp]]:
    distances, indices = nearest(images, training, min(NEIGHBOURS, len(training)))
    around = distances[:, 1:].mean(axis=1)
    ratios = np.divide(distances[:, 0], around, out=np.zeros(len(images)), where=around > 0)
    return ratios, indices[:, 0]


def nearer_to_training(samples: ArrayLike, training: ArrayLike, held_out: ArrayLike, seed: int = 0) -> Interval:
    """The share of generated images whose nearest real image is a training image rather than a held-out one: 0.5 where
    nothing was memorised. Copies of every training image reach less than 1 where images resemble each other.

    As many training images as held-out ones are compared, drawn anew in ten rounds; a tie counts half. The interval is
    for other samples and another split of the real images: were the two kinds dealt out at random, a real image that is
    nearest to c samples would count for c of them or for none.

    BadRequest: as `copies`, and fewer training images than held-out ones.
    """
    samples, training, held_out = _three(samples, training, held_out)
    if len(training) < len(held_out):
        raise BadRequest(
            "The training images cannot be compared with the held-out images",
            f"there are fewer of them ({len(training):,} and {len(held_out):,})",
        )
    rng = np.random.default_rng(seed)
    from_held_out, nearest_held_out = (found[:, 0] for found in nearest(samples, held_out, 1))
    shares, variances = [], []
    for _ in range(1 if len(training) == len(held_out) else ROUNDS):
        drawn = training[rng.choice(len(training), len(held_out), replace=False)]
        from_training, nearest_training = (found[:, 0] for found in nearest(samples, drawn, 1))
        is_nearer = from_training < from_held_out
        shares.append(np.mean(is_nearer) + np.mean(from_training == from_held_out) / 2)
        closest = np.where(is_nearer, nearest_training, len(held_out) + nearest_held_out)
        counts = np.bincount(closest, minlength=2 * len(held_out))
        variances.append(counts.var(ddof=1) * len(counts) / 4 / len(samples) ** 2)
    share = float(np.mean(shares))
    spread = 1.96 * float(np.sqrt(max(np.mean(variances), share * (1 - share) / len(samples))))
    return Interval(share, max(0.0, share - spread), min(1.0, share + spread))


def loss_gap(training: ArrayLike, held_out: ArrayLike) -> list[Interval]:
    """Held-out minus training denoising loss at each noise level, from losses [N,L] and [M,L] of single images.

    A model that has learnt its training images by heart has a gap, first at the middle levels (2603.13419). The
    intervals are those of the difference of two means (Welch).

    BadRequest: fewer than two images of a kind, other numbers of levels, or losses that are not finite.
    """
    training, held_out = as_features(training, "training"), as_features(held_out, "held-out")
    if training.shape[1] != held_out.shape[1]:
        raise BadRequest("The losses cannot be compared", "they are of different numbers of noise levels")
    gaps = held_out.mean(axis=0) - training.mean(axis=0)
    errors = np.sqrt(sum(losses.var(axis=0, ddof=1) / len(losses) for losses in (training, held_out)))
    return [
        Interval(float(gap), float(gap - 1.96 * error), float(gap + 1.96 * error))
        for gap, error in zip(gaps, errors, strict=True)
    ]


def _three(samples: ArrayLike, training: ArrayLike, held_out: ArrayLike) -> tuple[Features, Features, Features]:
    found = (
        as_features(samples, "generated", at_least=1),
        as_features(training, "training", at_least=3),
        as_features(held_out, "held-out", at_least=1),
    )
    same_width(found[1], found[0])
    same_width(found[1], found[2])
    return found

"""Whether generated images are copies of the training images: three tests that can disagree, and are shown together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffstudio.errors import BadRequest
from diffstudio.evaluation.features.feature_arrays import FeatureArray, Features, as_features, as_views, same_width
from diffstudio.evaluation.features.neighbours import nearest
from diffstudio.evaluation.features.pairs import Check, no_check
from diffstudio.evaluation.interval import Interval, share_interval

NEIGHBOURS = 50
ROUNDS = 10  # in which training images are drawn to be compared with the held-out ones
FALSE_POSITIVE_RATE = 0.01  # the share of held-out images that may be called copies
LARGEST_RATIO = 1 / 3  # of a copy, whatever the held-out images say (Somepalli et al., 2212.03860, and dgm-eval)
_SAME_IMAGE = 1e-3  # a ratio below it is that of an image that is a training image too


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


def copies(
    generated: ArrayLike,
    training: ArrayLike,
    held_out: ArrayLike,
    false_positive_rate: float = FALSE_POSITIVE_RATE,
    check: Check = no_check,
) -> Copies:
    """The share of generated images [S,D] much nearer to one training image [N,D] than to those around it.

    The ratio d1 / mean(d2 ... d50) of distances in feature space compares an image with its surroundings; the mean of
    many keeps duplicates among the training images from hiding a copy. The threshold is what 1% of the held-out
    images [M,D] fall below (`false_positive_rate`), and at most 1/3. Held-out images that are a training image too say
    nothing about it: they are left out.

    A model trained with augmentation may copy the augmented image. For that the generated and the held-out images have
    V views each, [V,S,D] and [V,M,D]: features of the image under the run's own augmentations, the first unchanged.
    The distance to a training image is that of the nearest view. `check` is called again and again, and may raise.

    BadRequest: fewer than three training images, no generated or held-out images, features of different widths.
    """
    shown, known, others = check_parts(generated, training, held_out)
    threshold = copy_threshold(known, others, false_positive_rate, check)
    return copies_among(neighbours(shown, known, check), threshold)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The training images nearest to each of some images, up to 50: distances [N,K], nearest first, and indices [N,K]."""

    distances: Features
    indices: NDArray[np.intp]

    @property
    def ratios(self) -> Features:
        """d1 / mean(d2 ... d50) [N]; 0 where all of these images are equal."""
        around = self.distances[:, 1:].mean(axis=1)
        ratios: Features = np.divide(self.distances[:, 0], around, out=np.zeros(len(around)), where=around > 0)
        return ratios


def neighbours(views: FeatureArray, training: FeatureArray, check: Check = no_check) -> Neighbours:
    """Of images in V views [V,S,D] among the training images [N,D]."""
    return Neighbours(*nearest(views, training, min(NEIGHBOURS, len(training)), check=check))


def copies_among(near: Neighbours, threshold: float) -> Copies:
    """The images whose distance ratio is below a threshold; see `copies`."""
    ratios = near.ratios
    called = int(np.count_nonzero(ratios < threshold))
    return Copies(share_interval(called, len(ratios)), threshold, ratios, near.indices[:, 0])


def copy_threshold(
    training: FeatureArray, held_out: FeatureArray, false_positive_rate: float, check: Check = no_check
) -> float:
    """The distance ratio below which an image counts as a copy; see `copies`, which checks the arrays."""
    normal = neighbours(held_out, training, check).ratios
    normal = normal[normal > _SAME_IMAGE]
    return min(LARGEST_RATIO, float(np.quantile(normal, false_positive_rate))) if len(normal) else LARGEST_RATIO


def combined_copies(one: Copies, other: Copies) -> Copies:
    """The images that either of two tests of the same images calls copies, as a test with the first one's threshold.

    The ratio of an image is that of the test that is more sure of it, as a multiple of the thresholds.
    """
    scaled = np.stack([one.ratios / one.threshold, other.ratios / other.threshold])
    surer = scaled.argmin(axis=0)
    ratios = scaled.min(axis=0) * one.threshold
    called = int(np.count_nonzero(ratios < one.threshold))
    closest = np.where(surer == 0, one.nearest, other.nearest)
    return Copies(share_interval(called, len(ratios)), one.threshold, ratios, closest)


def nearer_to_training(
    generated: ArrayLike,
    training: ArrayLike,
    held_out: ArrayLike,
    seed: int = 0,
    near: Neighbours | None = None,
    to_held_out: tuple[Features, NDArray[np.intp]] | None = None,
    check: Check = no_check,
) -> Interval:
    """The share of generated images whose nearest real image is a training image rather than a held-out one: 0.5 where
    nothing was memorised. Copies of every training image reach less than 1 where images resemble each other.

    Arguments as of `copies`. As many training images as held-out ones are compared, drawn anew in ten rounds; a tie
    counts half. The interval is for other generated images and another split of the real images: were the two kinds
    dealt out at random, a real image that is nearest to c generated ones would count for c of them or for none.

    `near` among the training images, and the distance [S] to and index [S] of the nearest held-out image, are given
    where they are known.

    BadRequest: as `copies`, and fewer training images than held-out ones.
    """
    shown, known, others = check_parts(generated, training, held_out)
    count, size = shown.shape[1], others.shape[1]
    if len(known) < size:
        raise BadRequest(
            "The training images cannot be compared with the held-out images",
            f"there are fewer of them ({len(known):,} and {size:,})",
        )
    rng = np.random.default_rng(seed)
    if to_held_out is None:
        distances, indices = nearest(shown, others[0], 1, check=check)
        to_held_out = distances[:, 0], indices[:, 0]
    from_held_out, nearest_held_out = to_held_out
    near = near or neighbours(shown, known, check)
    drawn = np.zeros((1 if len(known) == size else ROUNDS, len(known)), bool)
    for part in drawn:
        part[rng.choice(len(known), size, replace=False)] = True
    shares, variances = [], []
    for part in drawn:
        check()
        from_training, nearest_training = _nearest_in_part(near, part, shown, known, check)
        is_nearer = from_training < from_held_out
        shares.append(np.mean(is_nearer) + np.mean(from_training == from_held_out) / 2)
        counts = np.concatenate(
            [
                np.bincount(nearest_training[is_nearer], minlength=len(known))[part],
                np.bincount(nearest_held_out[~is_nearer], minlength=size),
            ]
        )
        variances.append(counts.var(ddof=1) * len(counts) / 4 / count**2)
    share = float(np.mean(shares))
    spread = 1.96 * float(np.sqrt(max(np.mean(variances), share * (1 - share) / count)))
    return Interval(share, max(0.0, share - spread), min(1.0, share + spread))


def _nearest_in_part(
    near: Neighbours, part: NDArray[np.bool_], views: FeatureArray, training: FeatureArray, check: Check
) -> tuple[Features, NDArray[np.intp]]:
    """Distances and indices [S] of the row nearest to each image in a part [N] of the training images: the first of its
    neighbours that is in the part, and where none is, by another search.
    """
    inside = part[near.indices]
    first = inside.argmax(axis=1)
    every = np.arange(len(first))
    distances, indices = near.distances[every, first], near.indices[every, first]
    lacking = np.flatnonzero(~inside[every, first])
    if len(lacking):
        members = np.flatnonzero(part)
        found, numbers = nearest(views[:, lacking], training[members], 1, check=check)
        distances[lacking], indices[lacking] = found[:, 0], members[numbers[:, 0]]
    return distances, indices


def loss_gap(training: ArrayLike, held_out: ArrayLike) -> list[Interval]:
    """Held-out minus training denoising loss at each noise level, from losses [N,L] and [M,L] of single images.

    A model that has memorised its training images has a gap, first at the middle levels (2603.13419). The
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


def check_parts(
    generated: ArrayLike, training: ArrayLike, held_out: ArrayLike
) -> tuple[FeatureArray, FeatureArray, FeatureArray]:
    """Views [V,S,D] of the generated images, the training features [N,D], and views of the held-out images.

    BadRequest: fewer than three training images, no others, features that are not finite or of different widths.
    """
    shown, others = as_views(generated, "generated"), as_views(held_out, "held-out")
    known = as_features(training, "training", at_least=3)
    same_width(known, shown)
    same_width(known, others)
    return shown, known, others

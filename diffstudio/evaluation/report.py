"""The table of an evaluation: a row of real images first, which is what no model can be expected to exceed, then a row for
each set of generated images; each figure with its interval.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import inf
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from diffstudio.errors import BadRequest
from diffstudio.evaluation.agreement import Agreement, agreement
from diffstudio.evaluation.birthday import Birthday, birthday_test
from diffstudio.evaluation.features.feature_arrays import FeatureArray, Features, as_varied, different_networks
from diffstudio.evaluation.features.pairs import Check, no_check
from diffstudio.evaluation.frechet import frechet_distance
from diffstudio.evaluation.interval import RESAMPLES, Interval, bootstrap_intervals
from diffstudio.evaluation.memorisation import (
    FALSE_POSITIVE_RATE,
    Copies,
    check_parts,
    combined_copies,
    copies_among,
    copy_threshold,
    nearer_to_training,
    neighbours,
)
from diffstudio.evaluation.modes import Classes, class_diversity, mode_coverage
from diffstudio.evaluation.pair_measures import PairMeasures, Within, measures_of_part, pair_measures, within
from diffstudio.evaluation.vendi import vendi_score

FEWEST = 100  # images of a kind below which no table is made
MOST_FOR_DUPLICATES = 5000  # images that are compared pairwise
_RANGES = {"frechet_distance": (0.0, inf), "vendi": (1.0, inf), "density": (0.0, inf)} | dict.fromkeys(
    ("precision", "recall", "coverage"), (0.0, 1.0)
)
Found = TypeVar("Found")
REAL = "real images (training part)"


class Remembered:
    """What was computed from arrays, for as long as it is asked for with the same arrays."""

    def __init__(self) -> None:
        self._found: dict[tuple[object, ...], tuple[tuple[FeatureArray, ...], object]] = {}

    def get(self, key: tuple[object, ...], arrays: tuple[FeatureArray, ...], compute: Callable[[], Found]) -> Found:
        known = self._found.get(key)
        if known is None or any(one is not other for one, other in zip(known[0], arrays, strict=True)):
            known = self._found[key] = (arrays, compute())
        return cast("Found", known[1])


@dataclass(frozen=True, slots=True)
class RealImages:
    """Features of the training part [N,D] and of the held-out part [M,D] of a folder, with a label for each if it has any.

    `network` is the label of the network that made them: features of two networks of one width can be told apart by
    nothing else. `held_out_views` are the features [V,M,D] of the held-out images under the run's augmentations.
    """

    training: FeatureArray
    held_out: FeatureArray
    training_labels: Sequence[Hashable] = ()
    held_out_labels: Sequence[Hashable] = ()
    network: str = ""
    held_out_views: FeatureArray | None = None
    training_pixels: FeatureArray | None = (
        None  # [N,P]; with those of the generated images copies are searched here too
    )
    held_out_pixels: FeatureArray | None = None  # [V,M,P], views as of the features
    known: Remembered = field(default_factory=Remembered, repr=False, compare=False)  # what each row needs of these

    @property
    def count(self) -> int:
        """How many images of each part can be compared: as many as the smaller part has."""
        return min(len(self.training), len(self.held_out))


@dataclass(frozen=True, slots=True)
class GeneratedImages:
    """Features [S,D] of generated images, and with `asked` the class or caption that each was generated with.

    `views` are their features [V,S,D] under the run's augmentations.
    """

    name: str
    features: FeatureArray
    asked: Sequence[Hashable] = ()
    network: str = ""
    views: FeatureArray | None = None
    pixels: FeatureArray | None = None  # [V,S,P]


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one set of images. `count`: how many were compared with as many held-out images."""

    name: str
    count: int
    figures: dict[str, Interval]  # by name; without those that do not apply
    copies: Copies
    chosen: Sequence[int]  # which of the images those are
    agreement: Agreement | None = None
    birthday: Birthday | None = None
    classes: Classes | None = None  # if images are labelled and at least one class has enough images

    def to_json(self) -> dict[str, object]:
        shown = {name: found.to_json() for name, found in self.figures.items()}
        return {"name": self.name, "count": self.count} | shown


def check_counts(training: int, held_out: int) -> None:
    """BadRequest for fewer than 100 images in either part of a folder."""
    for what, count in (("training", training), ("held-out", held_out)):
        _check_count(f"{what} images", count, "Use a larger folder, or train with a larger part held out")


def real_row(real: RealImages, resamples: int = RESAMPLES, count: int | None = None, check: Check = no_check) -> Row:
    """The training part measured against the held-out part, as if it had been generated: the ceiling of every measure of
    quality, and for the tests of memorisation what copies of the training part read.

    `count`: of how many images; all that both parts have by default. `check` is called again and again, and may raise.
    BadRequest with fewer than 100 images in either, and if all images of a part have the same features.
    """
    check_counts(len(real.training), len(real.held_out))
    pixels = real.training_pixels[None] if real.training_pixels is not None else None
    as_generated = GeneratedImages(REAL, real.training, real.training_labels, real.network, pixels=pixels)
    return _row(as_generated, real, resamples, min(count or real.count, real.count), check)


def row(
    generated: GeneratedImages,
    real: RealImages,
    resamples: int = RESAMPLES,
    count: int | None = None,
    check: Check = no_check,
) -> Row:
    """Generated images measured against the held-out part, and tested for copies of the training part.

    As many are compared as the real row has, or fewer where fewer were generated; `count` is an upper bound. Sets of
    other sizes do not compare. BadRequest with fewer than 100, for features of another network, and as `real_row`.
    """
    _check_count(f"images of {generated.name}", len(generated.features))
    return _row(generated, real, resamples, min(count or real.count, real.count, len(generated.features)), check)


def memorisation(
    generated: GeneratedImages,
    real: RealImages,
    chosen: Sequence[int] | None = None,
    check: Check = no_check,
    to_held_out: tuple[Features, NDArray[np.intp]] | None = None,
) -> tuple[dict[str, Interval], Copies]:
    """The tests for copies alone, of the `chosen` generated images: they need fewer images than a table.

    `to_held_out`: the distances [S] to, and indices of, the nearest held-out images, where they are known.
    BadRequest for features of another network, and with too few images for `copies`.
    """
    _check_network(generated, real)
    rows = slice(None) if chosen is None or len(chosen) == len(generated.features) else list(chosen)
    held_out = real.held_out if real.held_out_views is None else real.held_out_views
    shown, training, others = check_parts(
        (generated.features[None] if generated.views is None else generated.views)[:, rows], real.training, held_out
    )
    near = neighbours(shown, training, check)
    if generated.pixels is None or real.training_pixels is None or real.held_out_pixels is None:
        found = copies_among(near, _threshold(real, "features", training, others, FALSE_POSITIVE_RATE, check))
    else:
        rate = FALSE_POSITIVE_RATE / 2  # of each of two tests
        pixels = check_parts(generated.pixels[:, rows], real.training_pixels, real.held_out_pixels)
        found = combined_copies(
            copies_among(near, _threshold(real, "features", training, others, rate, check)),
            copies_among(
                neighbours(pixels[0], pixels[1], check), _threshold(real, "pixels", pixels[1], pixels[2], rate, check)
            ),
        )
    figures = {"copies": found.share}
    if len(training) >= others.shape[1]:
        nearer = nearer_to_training(shown, training, others, near=near, to_held_out=to_held_out, check=check)
        figures = {"nearer_to_training": nearer} | figures
    return figures, found


def _threshold(
    real: RealImages, what: str, training: FeatureArray, held_out: FeatureArray, rate: float, check: Check
) -> float:
    known = (training, real.held_out if real.held_out_views is None else real.held_out_views)
    if what == "pixels":
        known = (training, held_out)
    return real.known.get((what, rate), known, lambda: copy_threshold(training, held_out, rate, check))


def _check_network(generated: GeneratedImages, real: RealImages) -> None:
    if generated.network != real.network:
        raise different_networks(f"{generated.name} has those of {generated.network}, the folder of {real.network}")


def _row(generated: GeneratedImages, real: RealImages, resamples: int, count: int, check: Check) -> Row:
    _check_network(generated, real)
    as_varied(real.held_out, "held-out")
    as_varied(real.training, "training")
    chosen = drawn(len(generated.features), count)
    held_out, images = _draw(real.held_out, count), _draw(generated.features, count)
    pairs = _pairs(held_out, images, real, count, check)
    near = (pairs.distances, pairs.nearest)
    is_whole = count == len(real.held_out)
    of_first_view = generated.views is None or len(generated.views) == 1
    tests, found = memorisation(generated, real, chosen, check, near if is_whole and of_first_view else None)
    figures = _figures(held_out, images, pairs, resamples, check) | tests
    few = min(count, MOST_FOR_DUPLICATES)
    duplicates = birthday_test(_draw(images, few), _draw(held_out, few), check)
    check()
    figures |= {"modes": mode_coverage(images, held_out, check=check), "support": duplicates.support}
    follows, known = None, set(real.held_out_labels)
    asked = [generated.asked[index] for index in chosen] if generated.asked else []
    can_match = [place for place, label in enumerate(asked) if label in known]
    if can_match and len(known) > 1:
        closest = pairs.nearest[can_match] if is_whole else None
        follows = agreement(
            images[can_match],
            [asked[place] for place in can_match],
            real.held_out,
            real.held_out_labels,
            closest,
            check,
        )
        figures["agreement"] = follows.share
    classes = _classes(asked, images, real, resamples, pairs.nearest if is_whole else None, check)
    if classes is not None:
        figures |= {"classes": classes.reached, "class_vendi": classes.vendi}
    return Row(generated.name, count, figures, found, chosen, follows, duplicates, classes)


def _pairs(held_out: FeatureArray, images: FeatureArray, real: RealImages, count: int, check: Check) -> PairMeasures:
    """The measures of all pairs of as many held-out and generated images."""
    within_real: Within = real.known.get(("within", count), (real.held_out,), lambda: within(held_out, check=check))
    return pair_measures(held_out, images, within_real, within(images, check=check), check=check)


def _classes(
    asked: Sequence[Hashable],
    images: FeatureArray,
    real: RealImages,
    resamples: int,
    near: NDArray[np.intp] | None,
    check: Check,
) -> Classes | None:
    """The measures of classes, or None if no class has enough images, as with a different caption for each image."""
    labelled = [index for index, label in enumerate(asked) if label != ""]
    if not labelled or not real.held_out_labels:
        return None
    if len(labelled) < len(asked):
        images, asked = images[labelled], [asked[index] for index in labelled]
        near = near[labelled] if near is not None else None
    found = class_diversity(images, asked, real.held_out, real.held_out_labels, resamples, near, check)
    return found if found.by_class else None


def _check_count(what: str, count: int, remedy: str = "") -> None:
    if count < FEWEST:
        raise too_few(what, count, remedy)


def too_few(what: str, count: int, remedy: str = "") -> BadRequest:
    return BadRequest(f"There are too few {what} to compare", f"{FEWEST} are needed and there are {count:,}", remedy)


def _figures(
    held_out: FeatureArray, images: FeatureArray, pairs: PairMeasures, resamples: int, check: Check
) -> dict[str, Interval]:
    """With bounds inside the range of each measure; the kernel distance alone may be below 0."""

    def of_part(real: FeatureArray, generated: FeatureArray) -> dict[str, float]:
        check()
        return measures_of_part(real, generated)

    check()
    whole = {"frechet_distance": frechet_distance(held_out, images, check), "kernel_distance": pairs.kernel_distance}
    whole |= asdict(pairs.prdc) | {"vendi": vendi_score(images)}
    found = bootstrap_intervals(of_part, held_out, images, resamples, whole=whole)
    for name, (lowest, highest) in _RANGES.items():
        one = found[name]
        found[name] = replace(one, low=max(lowest, one.low), high=min(highest, one.high))
    return found


def drawn(available: int, count: int) -> list[int]:
    """`count` of so many, drawn by a fixed seed, in order."""
    return sorted(np.random.default_rng(0).choice(available, count, replace=False).tolist())


def _draw(features: FeatureArray, count: int) -> FeatureArray:
    return features if count == len(features) else features[drawn(len(features), count)]

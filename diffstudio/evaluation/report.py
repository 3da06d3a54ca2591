"""The table of an evaluation: a row of real images first, which is what no model can be expected to exceed, then a row for
each set of generated images; each figure with its interval.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass, replace
from math import inf

import numpy as np

from diffstudio.errors import BadRequest
from diffstudio.evaluation.agreement import Agreement, agreement
from diffstudio.evaluation.birthday import Birthday, birthday_test
from diffstudio.evaluation.features.feature_arrays import FeatureArray, different_networks
from diffstudio.evaluation.frechet import frechet_distance
from diffstudio.evaluation.interval import RESAMPLES, Interval, bootstrap_intervals
from diffstudio.evaluation.kernel_distance import kernel_distance
from diffstudio.evaluation.memorisation import FALSE_POSITIVE_RATE, Copies, combined_copies, copies, nearer_to_training
from diffstudio.evaluation.modes import Classes, class_diversity, mode_coverage
from diffstudio.evaluation.prdc import precision_recall_density_coverage
from diffstudio.evaluation.vendi import vendi_score

FEWEST = 100  # images of a kind below which no table is made
MOST_FOR_DUPLICATES = 5000  # images that are compared pairwise
_RANGES = {"frechet_distance": (0.0, inf), "vendi": (1.0, inf), "density": (0.0, inf)} | dict.fromkeys(
    ("precision", "recall", "coverage"), (0.0, 1.0)
)
REAL = "real images (training part)"


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


def real_row(
    real: RealImages, resamples: int = RESAMPLES, count: int | None = None, check: Callable[[], None] = lambda: None
) -> Row:
    """The training part measured against the held-out part, as if it had been generated: the ceiling of every measure of
    quality, and for the tests of memorisation what copies of the training part read.

    `count`: of how many images; all that both parts have by default. `check` is called between measures and may raise.
    BadRequest with fewer than 100 images in either.
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
    check: Callable[[], None] = lambda: None,
) -> Row:
    """Generated images measured against the held-out part, and tested for copies of the training part.

    As many are compared as the real row has, or fewer where fewer were generated; `count` is an upper bound. Sets of
    other sizes do not compare. BadRequest with fewer than 100, and for features of another network.
    """
    _check_count(f"images of {generated.name}", len(generated.features))
    return _row(generated, real, resamples, min(count or real.count, real.count, len(generated.features)), check)


def memorisation(
    generated: GeneratedImages, real: RealImages, chosen: Sequence[int] | None = None
) -> tuple[dict[str, Interval], Copies]:
    """The tests for copies alone, of the `chosen` generated images: they need fewer images than a table.

    BadRequest for features of another network, and with too few images for `copies`.
    """
    if generated.network != real.network:
        raise different_networks(f"{generated.name} has those of {generated.network}, the folder of {real.network}")
    rows = slice(None) if chosen is None or len(chosen) == len(generated.features) else list(chosen)
    shown = (generated.features[None] if generated.views is None else generated.views)[:, rows]
    held_out = real.held_out if real.held_out_views is None else real.held_out_views
    if generated.pixels is None or real.training_pixels is None or real.held_out_pixels is None:
        found = copies(shown, real.training, held_out)
    else:
        rate = FALSE_POSITIVE_RATE / 2  # of each of two tests
        found = combined_copies(
            copies(shown, real.training, held_out, rate),
            copies(generated.pixels[:, rows], real.training_pixels, real.held_out_pixels, rate),
        )
    figures = {"copies": found.share}
    if len(real.training) >= len(real.held_out):
        figures = {"nearer_to_training": nearer_to_training(shown, real.training, held_out)} | figures
    return figures, found


def _row(generated: GeneratedImages, real: RealImages, resamples: int, count: int, check: Callable[[], None]) -> Row:
    chosen = drawn(len(generated.features), count)
    tests, found = memorisation(generated, real, chosen)  # first, because it compares the networks
    check()
    held_out, images = _draw(real.held_out, count), _draw(generated.features, count)
    figures = _figures(held_out, images, resamples, check) | tests
    few = min(count, MOST_FOR_DUPLICATES)
    pairs = birthday_test(_draw(images, few), _draw(held_out, few))
    figures |= {"modes": mode_coverage(images, held_out), "support": pairs.support}
    check()
    follows, known = None, set(real.held_out_labels)
    can_match = [index for index in chosen if generated.asked[index] in known] if generated.asked else []
    if can_match and len(known) > 1:
        asked = [generated.asked[index] for index in can_match]
        follows = agreement(generated.features[can_match], asked, real.held_out, real.held_out_labels)
        figures["agreement"] = follows.share
    classes = _classes([generated.asked[index] for index in chosen] if generated.asked else [], images, real, resamples)
    if classes is not None:
        figures |= {"classes": classes.reached, "class_vendi": classes.vendi}
    return Row(generated.name, count, figures, found, chosen, follows, pairs, classes)


def _classes(asked: Sequence[Hashable], images: FeatureArray, real: RealImages, resamples: int) -> Classes | None:
    """The measures of classes, or None if no class has enough images, as with a different caption for each image."""
    labelled = [index for index, label in enumerate(asked) if label != ""]
    if not labelled or not real.held_out_labels:
        return None
    if len(labelled) < len(asked):
        images, asked = images[labelled], [asked[index] for index in labelled]
    found = class_diversity(images, asked, real.held_out, real.held_out_labels, resamples)
    return found if found.by_class else None


def _check_count(what: str, count: int, remedy: str = "") -> None:
    if count < FEWEST:
        raise too_few(what, count, remedy)


def too_few(what: str, count: int, remedy: str = "") -> BadRequest:
    return BadRequest(f"There are too few {what} to compare", f"{FEWEST} are needed and there are {count:,}", remedy)


def _figures(
    held_out: FeatureArray, images: FeatureArray, resamples: int, check: Callable[[], None]
) -> dict[str, Interval]:
    """With bounds inside the range of each measure; the kernel distance alone may be below 0."""

    def measures(real: FeatureArray, generated: FeatureArray) -> dict[str, float]:
        check()
        return (
            {"frechet_distance": frechet_distance(real, generated), "kernel_distance": kernel_distance(real, generated)}
            | asdict(precision_recall_density_coverage(real, generated))
            | {"vendi": vendi_score(generated)}
        )

    found = bootstrap_intervals(measures, held_out, images, resamples)
    for name, (lowest, highest) in _RANGES.items():
        one = found[name]
        found[name] = replace(one, low=max(lowest, one.low), high=min(highest, one.high))
    return found


def drawn(available: int, count: int) -> list[int]:
    """`count` of so many, drawn by a fixed seed, in order."""
    return sorted(np.random.default_rng(0).choice(available, count, replace=False).tolist())


def _draw(features: FeatureArray, count: int) -> FeatureArray:
    return features if count == len(features) else features[drawn(len(features), count)]

"""The table of an evaluation: a row of real images first, which is what no model can be expected to exceed, then a row for
each set of generated images; each figure with its interval.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass, replace
from math import inf

import numpy as np

from diffstudio.errors import BadRequest
from diffstudio.evaluation.agreement import agreement
from diffstudio.evaluation.feature_arrays import Features
from diffstudio.evaluation.frechet import frechet_distance
from diffstudio.evaluation.interval import RESAMPLES, Interval, bootstrap_intervals
from diffstudio.evaluation.kernel_distance import kernel_distance
from diffstudio.evaluation.memorisation import Copies, copies, nearer_to_training
from diffstudio.evaluation.prdc import precision_recall_density_coverage
from diffstudio.evaluation.vendi import vendi_score

FEWEST = 100  # images of a kind below which no table is made
_RANGES = {"frechet_distance": (0.0, inf), "vendi": (1.0, inf), "density": (0.0, inf)} | dict.fromkeys(
    ("precision", "recall", "coverage"), (0.0, 1.0)
)
REAL = "real images (the training part)"


@dataclass(frozen=True, slots=True)
class RealImages:
    """Features [N,D] of the training part and [M,D] of the held-out part of a folder, with a label for each if it has any."""

    training: Features
    held_out: Features
    training_labels: Sequence[Hashable] = ()
    held_out_labels: Sequence[Hashable] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one set of images. `count`: how many were compared with as many held-out images."""

    name: str
    count: int
    figures: dict[str, Interval]  # by name; without those that do not apply
    copies: Copies | None = None

    def to_json(self) -> dict[str, object]:
        shown = {
            name: {"value": found.value, "low": found.low, "high": found.high} for name, found in self.figures.items()
        }
        return {"name": self.name, "count": self.count} | shown


def real_row(real: RealImages, resamples: int = RESAMPLES) -> Row:
    """The training part measured against the held-out part. BadRequest with fewer than 100 images in either."""
    for what, features in (("training", real.training), ("held-out", real.held_out)):
        _check_count(f"{what} images", len(features), "Use a larger folder, or hold out a larger part of it")
    count = min(len(real.training), len(real.held_out))
    training, held_out = _draw(real.training, count), _draw(real.held_out, count)
    return Row(REAL, count, _figures(held_out, training, resamples))


def row(
    name: str, samples: Features, real: RealImages, asked: Sequence[Hashable] = (), resamples: int = RESAMPLES
) -> Row:
    """Generated images [S,D] measured against the held-out part, and tested for copies of the training part.

    As many are compared as the real row has, or fewer where fewer were generated. `asked`: the class or caption that
    each was generated with, for the share that shows it. BadRequest with fewer than 100.
    """
    _check_count(f"images of {name}", len(samples))
    count = min(len(samples), len(real.training), len(real.held_out))
    chosen = _indices(len(samples), count)
    figures = _figures(_draw(real.held_out, count), samples[chosen], resamples)
    found = copies(samples[chosen], real.training, real.held_out)
    if len(real.training) >= len(real.held_out):
        figures["nearer_to_training"] = nearer_to_training(samples[chosen], real.training, real.held_out)
    figures["copies"] = found.share
    if asked and len(set(real.held_out_labels)) > 1:
        labels = [asked[index] for index in chosen]
        figures["agreement"] = agreement(samples[chosen], labels, real.held_out, real.held_out_labels).share
    return Row(name, count, figures, found)


def _check_count(what: str, count: int, remedy: str = "") -> None:
    if count < FEWEST:
        raise BadRequest(f"There are too few {what} to compare", f"{FEWEST} are needed and there are {count:,}", remedy)


def _figures(held_out: Features, images: Features, resamples: int) -> dict[str, Interval]:
    """With bounds inside the range of each measure; the kernel distance alone may be below 0."""
    found = bootstrap_intervals(_measures, held_out, images, resamples)
    for name, (lowest, highest) in _RANGES.items():
        one = found[name]
        found[name] = replace(one, low=max(lowest, one.low), high=min(highest, one.high))
    return found


def _measures(real: Features, fake: Features) -> dict[str, float]:
    return {
        "frechet_distance": frechet_distance(real, fake),
        "kernel_distance": kernel_distance(real, fake),
        "vendi": vendi_score(fake),
    } | asdict(precision_recall_density_coverage(real, fake))


def _indices(available: int, count: int) -> list[int]:
    """`count` of so many, drawn by a fixed seed, in order."""
    return sorted(np.random.default_rng(0).choice(available, count, replace=False).tolist())


def _draw(features: Features, count: int) -> Features:
    return features[_indices(len(features), count)]

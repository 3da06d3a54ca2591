"""The result of a likelihood measurement in bits per dimension, as a table with formulas and as JSON. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from diffstudio.errors import DiffstudioError
from diffstudio.evaluation.interval import Interval
from diffstudio.studio.evaluations.results.stored import typed_result
from diffstudio.studio.evaluations.results.text import with_interval

FORMAT = 1
FLOW, BOUND, ELBO, IMPORTANCE = "flow", "bound", "elbo", "importance"
TITLES = {FLOW: "probability flow", BOUND: "variational bound", ELBO: "ELBO", IMPORTANCE: "importance-weighted bound"}
HOW_TO_READ = (
    "Bits per dimension are the bits the model needs for each value of an image: lower is better, and stored without a "
    "model a value needs all of its bits. On average, a bound is never below the true value. If training images need "
    "clearly fewer bits than held-out ones, the difference is memorisation. Results for images with another size, bit "
    "depth or preparation cannot be compared."
)


@dataclass(frozen=True, slots=True)
class ImageLikelihood:
    path: str  # in the folder
    label: str  # the caption or class that it was conditioned on
    bits: Mapping[str, float]  # bits per dimension by method
    probe_error: float | None = None  # standard error of the flow's bits due to the probes


@dataclass(frozen=True, slots=True)
class PartLikelihood:
    """The held-out or the training part."""

    name: str
    available: int  # images in the part
    means: Mapping[str, Interval]  # bits per dimension by method
    images: Sequence[ImageLikelihood]


@dataclass(frozen=True, slots=True)
class LikelihoodResult:
    checkpoint: str
    folder: str
    condition: str  # a sentence
    dimensions: int  # values of an image
    bits: int  # of each value as it is stored
    smallest_noise: float | None  # sigma / alpha at which the likelihood of a diffusion model starts
    parts: Sequence[PartLikelihood]
    gaps: Mapping[str, Interval]  # held-out minus training, by method
    formulas: Mapping[str, str]  # by method
    settings: Mapping[str, object] = field(default_factory=dict)
    notes: Sequence[str] = ()
    problem: DiffstudioError | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "checkpoint": self.checkpoint,
            "folder": self.folder,
            "condition": self.condition,
            "unit": "bits per dimension",
            "dimensions": self.dimensions,
            "bits": self.bits,
            "smallest_noise": self.smallest_noise,
            "settings": dict(self.settings),
            "formulas": dict(self.formulas),
            "parts": [
                {
                    "name": part.name,
                    "available": part.available,
                    "count": len(part.images),
                    "means": {name: asdict(mean) for name, mean in part.means.items()},
                    "images": [asdict(image) for image in part.images],
                }
                for part in self.parts
            ],
            "gaps": {name: asdict(gap) for name, gap in self.gaps.items()},
            "notes": list(self.notes),
            "how_to_read": HOW_TO_READ,
        }

    def text(self) -> str:
        """A report with the table, its formulas, and how to read it."""
        lines = [
            f"{self.checkpoint} on {self.folder}: bits per dimension, {self.dimensions:,} values of {self.bits} bits"
        ]
        lines += [self.condition, ""]
        width = max(len(TITLES[name]) for name in self.formulas)
        for part in self.parts:
            lines.append(f"{part.name}, {len(part.images):,} of {part.available:,} images")
            lines += [f"  {TITLES[name].ljust(width)}  {with_interval(mean)}" for name, mean in part.means.items()]
        if self.gaps:
            lines.append("held-out minus training")
            lines += [f"  {TITLES[name].ljust(width)}  {with_interval(gap)}" for name, gap in self.gaps.items()]
        lines += ["", *(f"{TITLES[name]}: {formula}" for name, formula in self.formulas.items())]
        lines += ["", *self.notes] if self.notes else []
        return "\n".join([*lines, "", HOW_TO_READ])

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> LikelihoodResult:
        """The inverse of `to_json`. KeyError, TypeError, ValueError or RunProblem for invalid values."""
        return typed_result(cls, values, FORMAT)

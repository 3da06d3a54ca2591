"""Synthesis: the numbers of synthetic images, and whether they helped a classifier, as text and as JSON. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from diffstudio.errors import DiffstudioError
from diffstudio.evaluation.interval import Interval
from diffstudio.studio.evaluations.results.stored import damage_named, known_fields, problem_of
from diffstudio.studio.evaluations.results.typed import typed_fields
from diffstudio.studio.number_text import multiple, signed

FORMAT = 1
REAL, AUGMENTED, ALONE = "real", "real, classic augmentation", "synthetic alone"


@dataclass(frozen=True, slots=True)
class Trained:
    """The accuracy of classifiers of several seeds that were trained on the same images, on held-out real images."""

    name: str
    images: int
    accuracy: Interval  # mean over the seeds, with the lowest and the highest
    ratio: float | None = None  # synthetic images for each real one
    over_real: Interval | None = None  # difference from real images alone
    over_augmented: Interval | None = None  # difference from classic augmentation

    @property
    def title(self) -> str:
        """The name as people read it."""
        return self.name if self.ratio is None else f"real + {multiple(self.ratio, 'synthetic')}"


@dataclass(frozen=True, slots=True)
class Proof:
    """Whether synthetic images helped, and the accuracies that show it."""

    rows: tuple[Trained, ...]
    augmentation: str  # the best one on a part of the training images
    held_out: int  # real images that all classifiers are scored on
    seeds: int
    left_out: int  # synthetic images that are near-copies of held-out ones
    sentence: str
    helped: bool
    best_ratio: float | None = None
    notes: tuple[str, ...] = ()


HOW_TO_READ = (
    "Each row is the accuracy of small classifiers on held-out real images: the mean over the seeds, with the lowest and "
    "highest. All have the same network and number of steps. Rows with synthetic images use classic augmentation too, so "
    "the difference from it is the effect of the synthetic images. Its interval covers variation between seeds and "
    "held-out images, and holds for all ratios together."
)


@dataclass(frozen=True, slots=True)
class Synthesis:
    """A finished folder of synthetic images."""

    out: str
    checkpoint: str
    checkpoint_hash: str
    folder: str
    made: int
    wanted: int
    left_out: int  # near-copies of training images
    near_held_out: int  # kept, but not used in a proof
    by_label: Mapping[str, int]  # images of each class or caption
    sampling: Mapping[str, Any] = field(default_factory=dict)
    features: str = ""
    proof: Proof | None = None
    notes: tuple[str, ...] = ()
    problem: DiffstudioError | None = None  # why there is no proof

    def to_json(self) -> dict[str, Any]:
        values = {one.name: _plain(self, one.name) for one in fields(self)}
        return {"format": FORMAT} | values | {"how_to_read": HOW_TO_READ if self.proof is not None else ""}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Synthesis:
        """The inverse of `to_json`. RunProblem for damaged values, or those of a newer version of the program."""
        known = known_fields(cls, values, FORMAT, "The result")
        with damage_named("The result about synthetic images"):
            return replace(typed_fields(cls, known), problem=problem_of(values))

    def text(self) -> str:
        lines = [
            f"{self.made:,} of {self.wanted:,} images of {self.checkpoint} in {self.out}",
            "  " + ", ".join(f"{name} {value}" for name, value in self.sampling.items()),
            f"  {self.left_out:,} near-copies of training images were left out",
        ]
        if 1 < len(self.by_label) <= 20:
            lines.append("  " + ", ".join(f"{label}: {count:,}" for label, count in self.by_label.items()))
        if self.proof is not None:
            lines += ["", self.proof.sentence, "", *_table(self.proof)]
            lines += [f"Classic augmentation: {self.proof.augmentation}.", *self.proof.notes]
        lines += ["", *self.notes] if self.notes else []
        lines += ["", HOW_TO_READ] if self.proof is not None else []
        return "\n".join(lines)


def _plain(found: Synthesis, name: str) -> Any:
    match name:
        case "proof":
            return asdict(found.proof) if found.proof is not None else None
        case "problem":
            return str(found.problem) if found.problem is not None else ""
        case _:
            value = asdict(found)[name]
            return list(value) if isinstance(value, tuple) else value


def _table(proof: Proof) -> list[str]:
    cells: list[Sequence[str]] = [("", "images", "accuracy", "over real", "over classic augmentation")]
    for row in proof.rows:
        cells.append(
            (
                row.title,
                f"{row.images:,}",
                f"{row.accuracy.value:.3f} ({row.accuracy.low:.3f}…{row.accuracy.high:.3f})",
                _difference(row.over_real),
                _difference(row.over_augmented),
            )
        )
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def _difference(found: Interval | None) -> str:
    return "–" if found is None else f"{signed(found.value)} ({signed(found.low)}…{signed(found.high)})"

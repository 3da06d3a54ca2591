"""The result of an evaluation: a table to read, and the same as JSON. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diffstudio.errors import DiffstudioError
from diffstudio.evaluation.interval import Interval
from diffstudio.evaluation.report import Row

FORMAT = 1
_COLUMNS = {
    "frechet_distance": "Fréchet",
    "kernel_distance": "kernel",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "vendi": "Vendi",
    "agreement": "agreement",
    "copies": "copies",
    "nearer_to_training": "nearer",
    "loss_gap": "loss gap",
}
HOW_TO_READ = (
    "The first row compares real training images with held-out ones: no model can be expected to do better, and one "
    "that does has probably copied. Lower is better for distances (Fréchet, kernel); higher for precision and density "
    "(fidelity), recall and coverage (diversity) and agreement (how well the caption or class is followed). "
    "Copies near 0, nearer to training near 0.5 and a loss gap near 0 mean that nothing was memorised; in the first "
    "row, copies and nearer are what a copy of the training images would score. 95 % intervals are below the figures."
)


@dataclass(frozen=True, slots=True)
class NearestImage:
    """A generated image called a copy, and the training image that it is nearest to."""

    image: str  # its seed, or its path in the folder
    training: str  # path in the folder
    ratio: float


@dataclass(frozen=True, slots=True)
class SubjectResult:
    """What was found about one checkpoint or folder. Without a row where there were too few images for a table."""

    name: str
    count: int  # images generated or read
    figures: Mapping[str, Interval]
    row: Row | None = None
    sampling: Mapping[str, object] = field(default_factory=dict)  # of a checkpoint: sampler, steps, seed and so on
    copies: Sequence[NearestImage] = ()  # the closest first
    called_copies: int = 0
    tested: int = 0
    loss_gaps: Sequence[tuple[float, Interval]] = ()  # noise level, held-out minus training loss
    agreement_by_label: Mapping[str, float] = field(default_factory=dict)
    agreement_chance: float | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All figures of one call, with what they depend on."""

    folder: str
    features: str
    resizing: str
    training: int
    held_out: int
    real: Row | None
    subjects: Sequence[SubjectResult]
    notes: Sequence[str]
    problem: DiffstudioError | None = None  # why no table could be made

    def to_json(self) -> dict[str, Any]:
        rows = [] if self.real is None else [self.real.to_json()]
        rows += [
            {"name": one.name, "count": one.row.count} | _as_json(one.figures)
            for one in self.subjects
            if one.row is not None
        ]
        return {
            "format": FORMAT,
            "folder": self.folder,
            "features": self.features,
            "resizing": self.resizing,
            "counts": {"training": self.training, "held_out": self.held_out}
            | {"compared": self.real.count if self.real is not None else 0},
            "rows": rows,
            "problem": str(self.problem) if self.problem is not None else "",
            "details": [_details(one) for one in self.subjects],
            "notes": list(self.notes),
            "how_to_read": HOW_TO_READ if rows else "",
        }

    def text(self) -> str:
        """The table, what it was made with, and how to read it."""
        lines = [
            f"{self.folder}: {self.training:,} training images, {self.held_out:,} held-out images",
            f"Features: {self.features}, {self.resizing}",
        ]
        if self.real is not None:
            shown: list[tuple[str, int, Mapping[str, Interval]]] = []
            shown.append((self.real.name, self.real.count, self.real.figures))
            shown += [(one.name, one.row.count, one.figures) for one in self.subjects if one.row is not None]
            lines += ["", *_table(shown)]
        for one in self.subjects:
            lines += ["", *_sentences(one)]
        lines += ["", *self.notes] if self.notes else []
        lines += ["", HOW_TO_READ] if self.real is not None else []
        return "\n".join(lines)


def _as_json(figures: Mapping[str, Interval]) -> dict[str, Any]:
    return {name: {"value": one.value, "low": one.low, "high": one.high} for name, one in figures.items()}


def _details(one: SubjectResult) -> dict[str, Any]:
    return {
        "name": one.name,
        "images": one.count,
        "sampling": dict(one.sampling),
        "memorisation": _as_json({name: one.figures[name] for name in _MEMORISATION if name in one.figures}),
        "loss_gap_by_noise_level": [
            {"noise_level": level, "value": gap.value, "low": gap.low, "high": gap.high} for level, gap in one.loss_gaps
        ],
        "copies": [{"image": near.image, "training": near.training, "ratio": near.ratio} for near in one.copies],
        "agreement_by_label": dict(one.agreement_by_label),
        "agreement_chance": one.agreement_chance,
    }


_MEMORISATION = ("copies", "nearer_to_training", "loss_gap")


def _table(rows: Sequence[tuple[str, int, Mapping[str, Interval]]]) -> list[str]:
    """Two lines for each row: the figures, and their intervals below them."""
    columns = [name for name in _COLUMNS if any(name in figures for _, _, figures in rows)]
    cells = [["", "images", *(_COLUMNS[name] for name in columns)]]
    for name, count, figures in rows:
        found = [figures.get(column) for column in columns]
        cells.append([name, f"{count:,}", *(_number(one.value) if one is not None else "–" for one in found)])
        cells.append(["", "", *(f"{_number(one.low)}…{_number(one.high)}" if one is not None else "" for one in found)])
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return [
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        ).rstrip()
        for line in cells
    ]


def _number(value: float) -> str:
    """Three significant digits, and no more than three decimals."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def _sentences(one: SubjectResult) -> list[str]:
    """What is known about copies, caption or class, and sampling of one checkpoint or folder."""
    lines = [f"{one.name}:"]
    if one.sampling:
        lines.append("  " + ", ".join(f"{name} {value}" for name, value in one.sampling.items()))
    lines.append(f"  {one.called_copies:,} of {one.tested:,} images are copies of training images")
    lines += [f"    {near.image} copies {near.training}, distance ratio {near.ratio:.2f}" for near in one.copies[:3]]
    if one.row is None:
        lines += [
            f"  {_COLUMNS[name]} {_number(found.value)} ({_number(found.low)} to {_number(found.high)})"
            for name, found in one.figures.items()
        ]
    if one.loss_gaps:
        above = [f"{level:g}" for level, gap in one.loss_gaps if gap.low > 0]
        at = f"at the noise levels {', '.join(above)}" if above else "at no noise level"
        lines.append(f"  held-out images have a higher denoising loss than training images {at}")
    if one.agreement_chance is not None:
        lines.append(f"  agreement by chance would be {one.agreement_chance:.3f}")
    return lines

"""The result of an evaluation: a table to read, and the same as JSON. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any

from diffstudio.errors import DiffstudioError, listed
from diffstudio.evaluation.birthday import Birthday
from diffstudio.evaluation.interval import Interval
from diffstudio.evaluation.modes import Classes
from diffstudio.evaluation.report import Row
from diffstudio.plurals import by_number, count_of
from diffstudio.studio.evaluations.results.text import aligned, number

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
_DIVERSITY = {"modes": "modes", "classes": "classes", "class_vendi": "Vendi in a class", "support": "support"}
HOW_TO_READ = (
    "The first row compares real training images with held-out ones: no model can be expected to do better, and one "
    "that does has probably copied. Lower is better for distances (Fréchet, kernel); higher for precision and density "
    "(fidelity), recall and coverage (diversity) and agreement (how well the caption or class is followed). "
    "Copies near 0, nearer to training near 0.5 and a loss gap near 0 mean that nothing was memorised; in the first "
    "row, copies and nearer are what a copy of the training images would score. 95% intervals are below the figures."
)
HOW_TO_READ_DIVERSITY = (
    "Mode collapse shows in the second table, compared with real images. Modes: the share of clusters of the held-out "
    "images that have a generated image. Classes: the share of requested classes that were generated. Vendi in a class: "
    "the effective number of different images within a class, on average. Support: the effective number of different "
    "images the model can generate, estimated from duplicates in the batch (birthday test); ∞ without duplicates, when "
    "only the lower bound counts."
)
_CLASSES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class NearestImage:
    """A generated image and its nearest training image."""

    image: str  # its seed, or its path in the folder
    training: str  # path in the folder
    ratio: float
    is_copy: bool = True  # whether it counts as a copy
    file: str = ""  # the generated image as a PNG, below the folder of the result


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
    nearest: Sequence[NearestImage] = ()  # copies or not, the closest first


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
    problem: DiffstudioError | None = None  # why the table is missing

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
            "how_to_read": f"{HOW_TO_READ} {HOW_TO_READ_DIVERSITY}" if rows else "",
            "diversity": [
                {"name": row.name} | _diversity(row)
                for row in (self.real, *(one.row for one in self.subjects))
                if row is not None
            ],
        }

    def text(self) -> str:
        """The table, what it was made with, and how to read it."""
        lines = [counts_line(self.folder, self.training, self.held_out), f"Features: {self.features}, {self.resizing}"]
        if self.real is not None:
            shown: list[tuple[str, int, Mapping[str, Interval]]] = []
            shown.append((self.real.name, self.real.count, self.real.figures))
            shown += [(one.name, one.row.count, one.figures) for one in self.subjects if one.row is not None]
            lines += ["", *_table(shown, _COLUMNS), "", *_table(shown, _DIVERSITY)]
            lines += ["", *_duplicates(self.real.name, self.real.birthday), *_class_lines(self.real.classes)]
        for one in self.subjects:
            lines += ["", *_sentences(one)]
        lines += ["", *self.notes] if self.notes else []
        lines += ["", HOW_TO_READ, "", HOW_TO_READ_DIVERSITY] if self.real is not None else []
        return "\n".join(lines)


def counts_line(folder: str, training: int, held_out: int) -> str:
    """The numbers of training and held-out images of a folder."""
    return f"{folder}: {count_of(training, 'training image')}, {count_of(held_out, 'held-out image')}"


def _as_json(figures: Mapping[str, Interval]) -> dict[str, Any]:
    return {name: one.to_json() for name, one in figures.items()}


def _diversity(row: Row) -> dict[str, Any]:
    """The duplicates of a row and its measures per class."""
    values: dict[str, Any] = {}
    if (found := row.birthday) is not None:
        values["birthday"] = {
            "images": found.images,
            "duplicate_pairs": found.pairs,
            "threshold": found.threshold,
            "support": found.support.to_json(),
            "batch_with_duplicate": found.batch if isfinite(found.batch) else None,
        }
    if row.classes is not None:
        values["missing_classes"] = [str(label) for label in row.classes.missing]
        values["real_class_vendi"] = row.classes.real_vendi.to_json()
        values["by_class"] = {str(label): asdict(one) for label, one in row.classes.by_class.items()}
    return values


def _details(one: SubjectResult) -> dict[str, Any]:
    return {
        "name": one.name,
        "images": one.count,
        "sampling": dict(one.sampling),
        "memorisation": _as_json({name: one.figures[name] for name in _MEMORISATION if name in one.figures}),
        "loss_gap_by_noise_level": [{"noise_level": level} | gap.to_json() for level, gap in one.loss_gaps],
        "copies": [{"image": near.image, "training": near.training, "ratio": near.ratio} for near in one.copies],
        "nearest": [
            {
                "image": near.image,
                "training": near.training,
                "ratio": near.ratio,
                "copy": near.is_copy,
                "file": near.file,
            }
            for near in one.nearest
        ],
        "agreement_by_label": dict(one.agreement_by_label),
        "agreement_chance": one.agreement_chance,
    }


_MEMORISATION = ("copies", "nearer_to_training", "loss_gap")


def _table(rows: Sequence[tuple[str, int, Mapping[str, Interval]]], titles: Mapping[str, str]) -> list[str]:
    """Two lines for each row: the figures, and their intervals below them."""
    columns = [name for name in titles if any(name in figures for _, _, figures in rows)]
    cells = [["", "images", *(titles[name] for name in columns)]]
    for name, count, figures in rows:
        found = [figures.get(column) for column in columns]
        cells.append([name, f"{count:,}", *(number(one.value) if one is not None else "–" for one in found)])
        cells.append(["", "", *(f"{number(one.low)}…{number(one.high)}" if one is not None else "" for one in found)])
    return aligned(cells)


def _sentences(one: SubjectResult) -> list[str]:
    """What is known about copies, caption or class, and sampling of one checkpoint or folder."""
    lines = [f"{one.name}:"]
    if one.sampling:
        lines.append("  " + ", ".join(f"{name} {value}" for name, value in one.sampling.items()))
    if one.row is not None:
        lines += [f"  {line}" for line in (*_duplicates("", one.row.birthday), *_class_lines(one.row.classes))]
    lines.append(
        f"  {one.called_copies:,} of {one.tested:,} images "
        f"{by_number(one.called_copies, 'is a copy of a training image', 'are copies of training images')}"
    )
    lines += [f"    {near.image} copies {near.training}, distance ratio {near.ratio:.2f}" for near in one.copies[:3]]
    if one.row is None:
        lines += [
            f"  {_COLUMNS[name]} {number(found.value)} ({number(found.low)} to {number(found.high)})"
            for name, found in one.figures.items()
        ]
    if one.loss_gaps:
        above = [f"{level:g}" for level, gap in one.loss_gaps if gap.low > 0]
        at = f"at the noise levels {', '.join(above)}" if above else "at no noise level"
        lines.append(f"  held-out images have a higher denoising loss than training images {at}")
    if one.agreement_chance is not None:
        lines.append(f"  agreement by chance would be {one.agreement_chance:.3f}")
    return lines


def _duplicates(name: str, found: Birthday | None) -> list[str]:
    """The result of the birthday test in a sentence."""
    if found is None:
        return []
    of_name = f" of {name}" if name else ""
    among = f"among {found.images:,} images{of_name}"
    if not found.pairs:
        return [f"no duplicates {among}: effectively more than {found.support.low:,.0f} different images"]
    pairs = f"{count_of(found.pairs, 'pair')} of duplicates"
    return [f"{pairs} {among}: a batch of {found.batch:,.0f} has one with a probability of 50%"]


def _class_lines(classes: Classes | None) -> list[str]:
    """The Vendi scores of the classes that are furthest below their real images, and the missing classes."""
    if classes is None:
        return []
    by_loss = sorted(classes.by_class.items(), key=lambda item: item[1].vendi / item[1].real_vendi)
    scores = [f"{label} {one.vendi:.1f} of {one.real_vendi:.1f}" for label, one in by_loss]
    lines = [f"Vendi score by class, and that of as many real images: {listed(scores, _CLASSES_SHOWN)}"]
    if classes.missing:
        lines.append(f"no image of the classes {listed(classes.missing, _CLASSES_SHOWN)}")
    return lines

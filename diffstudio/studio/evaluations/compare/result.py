"""Comparison: the measures of each run and each other subject, as text and as JSON. No torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from math import inf, isfinite, nan
from pathlib import Path
from typing import Any

from diffstudio.errors import NOT_A_JSON_OBJECT, DiffstudioError, RunProblem, why_unreadable
from diffstudio.evaluation.interval import Interval
from diffstudio.studio.evaluations.compare.history import CURVES, TrainingHistory, with_failed
from diffstudio.studio.evaluations.result import counts_line
from diffstudio.studio.evaluations.results.stored import damage_named, known_fields, problem_of
from diffstudio.studio.evaluations.results.text import aligned, number
from diffstudio.studio.evaluations.results.typed import typed_fields

FORMAT = 1
RESULT, PAGE = "compare.json", "compare.html"  # in the folder of the comparison
IMAGES, PLOTS = "images", "plots"

Figures = Mapping[str, Interval]

_LIKE_REAL = "near the first row"
_BOUNDS = {one.name for one in fields(Interval)}


@dataclass(frozen=True, slots=True)
class Measure:
    """A column of the table."""

    title: str
    better: str  # `lower`, `higher`, or the best value
    says: str  # its meaning, a clause
    aspect: str  # `fidelity`, `diversity`, `copying`, `use`


MEASURES: Mapping[str, Measure] = {
    "frechet_distance": Measure(
        "FID", "lower", "distance between the feature distributions, from means and covariances", "fidelity"
    ),
    "kernel_distance": Measure("KID", "lower", "kernel distance, unbiased for small numbers of images", "fidelity"),
    "precision": Measure("precision", "higher", "share of the images inside the manifold of real images", "fidelity"),
    "density": Measure("density", "higher", "how densely real images surround the images", "fidelity"),
    "recall": Measure("recall", "higher", "share of the real images inside the manifold of the images", "diversity"),
    "coverage": Measure("coverage", "higher", "share of the real images with a generated image nearby", "diversity"),
    "vendi": Measure("Vendi", _LIKE_REAL, "effective number of different images; noise raises it", "diversity"),
    "class_vendi": Measure("Vendi in a class", _LIKE_REAL, "mean Vendi score within a class", "diversity"),
    "modes": Measure(
        "modes", "higher", "share of the clusters of real images that have a generated image", "diversity"
    ),
    "support": Measure(
        "support", "higher", "number of different images the model can generate, estimated from duplicates", "diversity"
    ),
    "copies": Measure(
        "copies", "near 0", "share much nearer to one training image than to the next nearest ones", "copying"
    ),
    "nearer_to_training": Measure(
        "nearer", "near 0.5", "share nearer to a training image than to a held-out image", "copying"
    ),
    "loss_gap": Measure("loss gap", "near 0", "held-out minus training loss at middle noise levels", "copying"),
    "agreement": Measure("agreement", "higher", "share that matches the requested class or caption", "use"),
    "trained_on_synthetic": Measure(
        "train on synthetic",
        "higher",
        "accuracy on held-out real images of a classifier trained only on these images",
        "use",
    ),
}


@dataclass(frozen=True, slots=True)
class Pair:
    """A generated image and its nearest training image; the files are in the comparison's folder."""

    image: str  # its seed, or its path
    training: str  # its path in the folder of real images
    ratio: float  # distance to it / mean distance to the next nearest ones
    is_copy: bool
    image_file: str
    training_file: str


@dataclass(frozen=True, slots=True)
class OfClass:
    vendi: float
    real_vendi: float
    coverage: float


_OF_CLASS = {one.name for one in fields(OfClass)}


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Bits per dimension of the held-out images: lower is better."""

    value: Interval | None
    note: str = ""  # how it was computed, or why it is missing


@dataclass(frozen=True, slots=True)
class Entry:
    """One run, checkpoint or folder of images."""

    name: str
    model: str  # shared by the seeds of one model; otherwise the entry's name
    seed: int | None = None  # of the run
    count: int = 0  # images generated or read
    compared: int = 0  # images in the table; 0 if there were too few
    figures: Figures = field(default_factory=dict)
    by_class: Mapping[str, OfClass] = field(default_factory=dict)
    missing_classes: tuple[str, ...] = ()
    agreement_chance: float | None = None
    pairs: tuple[Pair, ...] = ()  # the closest first
    called_copies: int = 0
    grid: str = ""  # file of a sheet of its images
    likelihood: Likelihood = Likelihood(None)
    seconds_per_image: float | None = None
    parameters: int | None = None
    memory_bytes: int | None = None  # peak during training
    sampling: Mapping[str, Any] = field(default_factory=dict)
    training: TrainingHistory | None = None
    notes: tuple[str, ...] = ()
    problem: str = ""  # why nothing could be measured

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Entry:
        """The inverse of `to_json`. UnexpectedValue for values of other types."""
        return typed_fields(cls, _with_numbers(values))

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = plain(asdict(self))
        return found


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict on one aspect of a model, with the measures it is based on."""

    aspect: str  # `fidelity`, `diversity`, `copying`, `mode collapse`
    grade: str  # `good`, `fair`, `poor` or `unknown`
    sentence: str
    evidence: str = ""  # those measures, over all seeds


@dataclass(frozen=True, slots=True)
class Verdict:
    model: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of a comparison. Files are named relative to its folder."""

    folder: str
    minutes: float  # of each model and seed
    total: str  # a sentence about the total training time
    features: str
    resizing: str
    training_images: int
    held_out_images: int
    real: Entry | None  # the training part measured as if it had been generated; None without a table
    entries: tuple[Entry, ...]
    verdicts: tuple[Verdict, ...] = ()
    notes: tuple[str, ...] = ()
    problem: DiffstudioError | None = None  # why the table is missing
    held_out_grid: str = ""  # file of a sheet of held-out images

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the rows of the table, in order."""
        return tuple(dict.fromkeys(entry.model for entry in self.entries))

    def of_model(self, model: str) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.model == model)

    def figure(self, model: str, measure: str) -> Interval | None:
        """The mean over the seeds of a model with the lowest and highest value; for a single seed its own interval."""
        return over_seeds([entry.figures[measure] for entry in self.of_model(model) if measure in entry.figures])

    def measures(self) -> tuple[str, ...]:
        """The columns that have a value."""
        rows = [self.real.figures] if self.real is not None else []
        rows += [entry.figures for entry in self.entries]
        return tuple(name for name in MEASURES if any(name in figures for figures in rows))

    def to_json(self) -> dict[str, Any]:
        summary = {
            model: {
                name: plain(asdict(found))
                for name in self.measures()
                if (found := self.figure(model, name)) is not None
            }
            for model in self.models
        }
        values: dict[str, Any] = plain(asdict(replace(self, problem=None)))
        values["problem"] = str(self.problem) if self.problem is not None else ""
        return {"format": FORMAT} | values | {"over_seeds": summary, "how_to_read": HOW_TO_READ}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Comparison:
        """The inverse of `to_json`. RunProblem for damaged values, or those of a newer version of the program."""
        known = known_fields(cls, values, FORMAT, "The comparison")
        with damage_named("The result of the comparison"):
            return replace(typed_fields(cls, _with_numbers(known)), problem=problem_of(values))

    def text(self) -> str:
        """The table, the verdicts and their evidence."""
        lines = [
            counts_line(self.folder, self.training_images, self.held_out_images),
            self.total,
            f"Features: {self.features}, {self.resizing}",
        ]
        lines += ["", *_table(self)] if self.measures() else []
        for verdict in self.verdicts:
            lines += ["", f"{verdict.model}:"]
            lines += [
                f"  {one.aspect}: {one.sentence}{f' ({one.evidence})' if one.evidence else ''}"
                for one in verdict.findings
            ]
        lines += ["", *self.notes] if self.notes else []
        lines += ["", HOW_TO_READ] if self.real is not None else []
        return "\n".join(lines)


HOW_TO_READ = (
    "The first row is the training part of the real images, measured like generated images. No model can be expected to "
    "do better, and in that row copies and nearer are the values that copying all training images would give. Rows with "
    "several seeds show the mean, with the lowest and highest seed below it; others show 95% intervals. Precision says "
    "nothing about diversity: a model that generates one good image again and again has perfect precision, so always read "
    "it together with recall and coverage."
)


def read_comparison(folder: Path) -> Comparison:
    """The result in the folder of a comparison. RunProblem if it cannot be read."""
    path = folder / RESULT
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunProblem(f"The result of the comparison in {folder} cannot be read", why_unreadable(error)) from error
    if not isinstance(values, dict):
        raise RunProblem(f"The file {path} is damaged", NOT_A_JSON_OBJECT)
    return Comparison.from_json(values)


def over_seeds(found: Sequence[Interval]) -> Interval | None:
    """The mean with the lowest and highest value; a single interval is returned as it is."""
    if len(found) < 2:
        return found[0] if found else None
    values = [one.value for one in found]
    return Interval(sum(values) / len(values), min(values), max(values))


def mean_of(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def cell(found: Interval | None) -> tuple[str, str]:
    """A value and its interval as text; a dash if there is no value."""
    if found is None:
        return "–", ""
    return number(found.value), f"{number(found.low)}…{number(found.high)}"


# Columns after the measures: title, and the text for one model with its interval or spread.
OTHERS: Mapping[str, Callable[[Sequence[Entry]], tuple[str, str]]] = {
    "bits/dim": lambda entries: cell(
        over_seeds([entry.likelihood.value for entry in entries if entry.likelihood.value is not None])
    ),
    "time per image": lambda entries: (_seconds(mean_of([entry.seconds_per_image for entry in entries])), ""),
    "parameters": lambda entries: (_count(mean_of([entry.parameters for entry in entries])), ""),
    "memory": lambda entries: (_bytes(max((entry.memory_bytes or 0 for entry in entries), default=0)), ""),
}


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{1000 * value:.3g} ms" if value < 1 else f"{value:.3g} s"


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value / 1e6:.2f} M"


def _bytes(value: float) -> str:
    return f"{value / 2**20:,.0f} MiB" if value else "–"


def _table(found: Comparison) -> list[str]:
    """Two lines for each row: the values, and their spread or interval below them."""
    names = found.measures()
    cells = [["", "images", *(MEASURES[name].title for name in names), *OTHERS]]
    rows: list[tuple[str, int, list[Interval | None], Sequence[Entry]]] = []
    if found.real is not None:
        real = found.real
        rows.append((real.name, real.compared, [real.figures.get(name) for name in names], [real]))
    for model in found.models:
        entries: Sequence[Entry] = found.of_model(model)
        title = model if len(entries) == 1 else f"{model} ({len(entries)} seeds)"
        rows.append((title, entries[0].compared, [found.figure(model, name) for name in names], entries))
    for title, count, figures, entries in rows:
        pairs = [*map(cell, figures), *(of(entries) for of in OTHERS.values())]
        cells.append([title, f"{count:,}", *(value for value, _ in pairs)])
        cells.append(["", "", *(spread for _, spread in pairs)])
    return aligned(cells)


def plain(value: Any) -> Any:
    """A value for JSON: null replaces numbers that are not finite."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def _with_numbers(value: Any, key: str = "") -> Any:
    """The inverse of `plain`: infinite bounds of intervals, and NaN in curves and in figures of a class."""
    if isinstance(value, dict):
        value = with_failed(value) if key == "training" else value
        missing = inf if value.keys() == _BOUNDS else nan if value.keys() == _OF_CLASS else None
        return {name: missing if one is None else _with_numbers(one, name) for name, one in value.items()}
    if isinstance(value, list):
        missing = nan if key in CURVES else None
        return [missing if one is None else _with_numbers(one, key) for one in value]
    return value

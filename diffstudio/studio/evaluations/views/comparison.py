"""ComparisonView: the result of `diffstudio compare` as the Lab shows it. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diffstudio import paths
from diffstudio.evaluation.interval import Interval
from diffstudio.studio.evaluations.compare.figures import plots_of
from diffstudio.studio.evaluations.compare.request import TITLES
from diffstudio.studio.evaluations.compare.result import (
    HOW_TO_READ,
    MEASURES,
    PAGE,
    Comparison,
    Entry,
    Finding,
    mean_of,
    over_seeds,
)
from diffstudio.studio.evaluations.compare.verdict import evidence_of
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.plots.figure import Figure
from diffstudio.studio.evaluations.result import counts_line
from diffstudio.studio.evaluations.results.stored import damage_named
from diffstudio.studio.evaluations.views.evaluation import Pair
from diffstudio.studio.evaluations.views.tables import Cell, Column, Table, TableRow, pick_columns

_OTHERS = (
    Column(
        "bits_per_dimension",
        "Bits per dimension",
        "Lower is better: for held-out images, if the model has a likelihood",
    ),
    Column("seconds_per_image", "Seconds per image", "Time to generate one image"),
    Column("parameters", "Parameters (M)", "Millions of weights of the network"),
    Column("memory", "Memory (MiB)", "Peak memory during training"),
)
_PAIRS_OF_EACH = 4


@dataclass(frozen=True, slots=True)
class Grid:
    """A sheet of images."""

    title: str
    path: Path


@dataclass(frozen=True, slots=True)
class SaidOfModel:
    """A verdict on one aspect of a model."""

    sentence: str
    grade: str  # as in `Finding`


@dataclass(frozen=True, slots=True)
class ModelVerdicts:
    """The verdicts on one model, and the measures that they are based on."""

    model: str
    said: tuple[SaidOfModel, ...]
    evidence: str


@dataclass(frozen=True, slots=True)
class ComparisonView:
    summary: str
    table: Table
    seeds: Table  # each seed with its intervals; without rows if no model has several
    figures: tuple[Figure, ...]
    grids: tuple[Grid, ...]
    pairs: tuple[Pair, ...]
    verdicts: tuple[ModelVerdicts, ...]
    likelihoods: tuple[str, ...]  # how the bits per dimension were computed, or why they are missing
    notes: tuple[str, ...]
    how_to_read: str
    problem: str
    page: Path | None  # the result as a web page


def read_comparison_view(job: JobFolder, values: Mapping[str, Any]) -> ComparisonView:
    """The result in a job's folder. RunProblem when it is damaged."""
    with damage_named(f"The result of {job.path.name}"):
        return _view_of(job, _titled(Comparison.from_json(values)))


def _view_of(job: JobFolder, found: Comparison) -> ComparisonView:
    page = job.path / PAGE
    return ComparisonView(
        f"{counts_line(paths.short(found.folder), found.training_images, found.held_out_images)}. {found.total} "
        f"Features: {found.features}, {found.resizing}.",
        _table(found),
        _seeds(found),
        tuple(plots_of(found)),
        tuple(_grids(job.path, found)),
        tuple(pair for entry in found.entries for pair in _pairs(job.path, entry)),
        tuple(
            ModelVerdicts(
                verdict.model,
                tuple(map(_said, verdict.findings)),
                evidence_of(found.of_model(verdict.model), found.real),
            )
            for verdict in found.verdicts
        ),
        tuple(_shared(found, {entry.name: [entry.likelihood.note] for entry in found.entries})),
        (*found.notes, *_shared(found, {entry.name: [*entry.notes, entry.problem] for entry in found.entries})),
        HOW_TO_READ if found.real is not None else "",
        str(found.problem) if found.problem is not None else "",
        page if page.is_file() else None,
    )


def _table(found: Comparison) -> Table:
    rows = _real_row(found)
    for model in found.models:
        entries = found.of_model(model)
        title = model if len(entries) == 1 else f"{model} ({len(entries)} seeds)"
        cells = (_cell(found.figure(model, name)) for name in found.measures())
        rows.append(TableRow(title, (*cells, *_others(entries))))
    return Table("comparison", "Comparison of models", *pick_columns(_columns(found), rows))


def _seeds(found: Comparison) -> Table:
    """Every seed of the models that have several, each with its own 95% intervals."""
    rows = _real_row(found)
    for entries in map(found.of_model, found.models):
        for entry in entries if len(entries) > 1 else ():
            cells = (_cell(entry.figures.get(name)) for name in found.measures())
            rows.append(TableRow(entry.name, (*cells, *_others([entry]))))
    several = any(not row.reference for row in rows)
    return Table("seeds", "Each seed", *pick_columns(_columns(found), rows if several else ()))


def _columns(found: Comparison) -> tuple[Column, ...]:
    measures = ((name, MEASURES[name]) for name in found.measures())
    of_measures = (Column(name, _title(one.title), f"{one.better} is best: {one.says}") for name, one in measures)
    return (*of_measures, *_OTHERS)


def _real_row(found: Comparison) -> list[TableRow]:
    if (real := found.real) is None:
        return []
    cells = (_cell(real.figures.get(name)) for name in found.measures())
    return [TableRow(real.name, (*cells, *_others([real])), reference=True)]


def _title(title: str) -> str:
    return title[:1].upper() + title[1:]


def _others(entries: Sequence[Entry]) -> tuple[Cell | None, ...]:
    likelihoods = [one.likelihood.value for one in entries if one.likelihood.value is not None]
    seconds = mean_of([one.seconds_per_image for one in entries])
    parameters = mean_of([one.parameters for one in entries])
    memory = max((one.memory_bytes or 0 for one in entries), default=0)
    return (
        _cell(over_seeds(likelihoods)),
        Cell(seconds) if seconds is not None else None,
        Cell(parameters / 1e6) if parameters is not None else None,
        Cell(memory / 2**20) if memory else None,
    )


def _cell(found: Interval | None) -> Cell | None:
    return Cell(found.value, found.low, found.high) if found is not None else None


def _grids(folder: Path, found: Comparison) -> list[Grid]:
    named = [("Held-out images", found.held_out_grid)] + [(entry.name, entry.grid) for entry in found.entries]
    return [Grid(title, folder / file) for title, file in named if file and _is_inside(folder / file, folder)]


def _pairs(folder: Path, entry: Entry) -> list[Pair]:
    return [
        Pair(
            entry.name,
            one.image,
            folder / one.image_file,
            one.training,
            folder / one.training_file,
            one.ratio,
            one.is_copy,
        )
        for one in entry.pairs[:_PAIRS_OF_EACH]
        if _is_inside(folder / one.image_file, folder) and _is_inside(folder / one.training_file, folder)
    ]


def _titled(found: Comparison) -> Comparison:
    """The comparison with the window's names of the kinds of models that it trained."""
    titles = {
        entry.model: TITLES[entry.model] for entry in found.entries if entry.seed is not None and entry.model in TITLES
    }
    entries = [
        replace(entry, name=entry.name.replace(entry.model, title, 1), model=title)
        if (title := titles.get(entry.model)) and entry.seed is not None
        else entry
        for entry in found.entries
    ]
    verdicts = [replace(verdict, model=titles.get(verdict.model, verdict.model)) for verdict in found.verdicts]
    return replace(found, entries=tuple(entries), verdicts=tuple(verdicts))


def _said(finding: Finding) -> SaidOfModel:
    return SaidOfModel(f"{_title(finding.aspect)}: {finding.sentence}", finding.grade)


def _shared(found: Comparison, sentences: Mapping[str, Sequence[str]]) -> list[str]:
    """The sentences on entries, each with the name of its entry, or of the model if it holds for all of its seeds."""
    lines = []
    for model in found.models:
        names = [entry.name for entry in found.of_model(model)]
        for sentence in dict.fromkeys(one for name in names for one in sentences[name] if one):
            of = [name for name in names if sentence in sentences[name]]
            lines += [f"{name}: {sentence}" for name in ([model] if of == names and len(names) > 1 else of)]
    return lines


def _is_inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())

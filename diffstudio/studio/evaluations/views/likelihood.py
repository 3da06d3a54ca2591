"""LikelihoodView: the result of `diffstudio likelihood` as the Lab shows it. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diffstudio import paths
from diffstudio.evaluation.interval import Interval
from diffstudio.plurals import count_of
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.likelihood.result import HOW_TO_READ, TITLES, LikelihoodResult
from diffstudio.studio.evaluations.plots.figure import SHARE_OF_IMAGES, Figure, Series, thinned
from diffstudio.studio.evaluations.results.stored import damage_named
from diffstudio.studio.evaluations.views.tables import Cell, Column, Table, TableRow

_GAP = "held-out minus training"


@dataclass(frozen=True, slots=True)
class LikelihoodView:
    summary: str
    table: Table
    figures: tuple[Figure, ...]
    formulas: tuple[str, ...]
    notes: tuple[str, ...]
    how_to_read: str


def read_likelihood(job: JobFolder, values: Mapping[str, Any]) -> LikelihoodView:
    """The result in a job's folder. RunProblem when it is damaged."""
    with damage_named(f"The result of {job.path.name}"):
        found = LikelihoodResult.from_json(values)
        return LikelihoodView(
            f"{found.checkpoint} on {paths.short(found.folder)}: {found.dimensions:,} values of {found.bits} bits in each image. "
            f"{found.condition}",
            _table(found),
            tuple(_distribution(found, method) for method in found.formulas),
            tuple(f"{TITLES.get(name, name)}: {formula}" for name, formula in found.formulas.items()),
            tuple(found.notes),
            HOW_TO_READ,
        )


def _table(found: LikelihoodResult) -> Table:
    methods = tuple(found.formulas)
    columns = tuple(Column(name, _heading(name), "Bits per dimension: lower is better") for name in methods)
    rows = [
        TableRow(
            f"{part.name}, {count_of(len(part.images), 'image')}",
            tuple(_cell(part.means.get(name)) for name in methods),
        )
        for part in found.parts
    ]
    if found.gaps:
        rows.append(TableRow(_GAP, tuple(_cell(found.gaps.get(name)) for name in methods)))
    return Table("likelihood", "Bits per dimension", columns, tuple(rows))


def _heading(method: str) -> str:
    title = TITLES.get(method, method)
    return title[:1].upper() + title[1:]  # an abbreviation keeps its capitals


def _cell(found: Interval | None) -> Cell | None:
    return Cell(found.value, found.low, found.high) if found is not None else None


def _distribution(found: LikelihoodResult, method: str) -> Figure:
    """The sorted bits of the images of each part, which show their distribution and the gap between the parts."""
    series = []
    for number, part in enumerate(found.parts):
        bits = sorted(image.bits[method] for image in part.images if method in image.bits)
        shares = [(place + 0.5) / len(bits) for place in range(len(bits))]
        series.append(Series(part.name, *thinned(shares, bits), colour=number))
    return Figure(
        f"likelihood-{method}",
        f"{_heading(method)} of individual images, sorted",
        SHARE_OF_IMAGES,
        "bits/dim",
        tuple(series),
    )

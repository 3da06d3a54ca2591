"""SynthesisView: the result of `diffstudio synthesise` as the Lab shows it. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diffstudio import paths
from diffstudio.evaluation.interval import Interval
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.plots.figure import Figure
from diffstudio.studio.evaluations.results.stored import damage_named
from diffstudio.studio.evaluations.synthesise.result import HOW_TO_READ, REAL, Proof, Synthesis
from diffstudio.studio.evaluations.views.tables import Cell, Column, Table, TableRow, pick_columns

_COLUMNS = (
    Column("images", "Trained on", "The number of images the classifiers were trained on"),
    Column(
        "accuracy", "Accuracy", "On held-out real images: mean over the seeds, with the lowest and the highest", True
    ),
    Column("over_real", "Over real", "Difference from real images alone"),
    Column("over_augmented", "Over augmentation", "Difference from real images with classic augmentation"),
)


@dataclass(frozen=True, slots=True)
class SynthesisView:
    summary: str
    verdict: str  # whether the images helped a classifier; empty without a proof
    table: Table
    figures: tuple[Figure, ...]
    by_label: tuple[str, ...]
    notes: tuple[str, ...]
    how_to_read: str
    problem: str


def read_synthesis(job: JobFolder, values: Mapping[str, Any]) -> SynthesisView:
    """The result in a job's folder. RunProblem when it is damaged."""
    with damage_named(f"The result of {job.path.name}"):
        return _view_of(Synthesis.from_json(values))


def _view_of(found: Synthesis) -> SynthesisView:
    proof = found.proof
    table = _table(proof) if proof is not None else Table("proof", "Proof", (), ())
    figures = [figure for key in ("accuracy", "over_augmented") if (figure := table.figure(key)) is not None]
    return SynthesisView(
        f"{found.made:,} of {found.wanted:,} images of {found.checkpoint} in {paths.short(found.out)}. "
        f"Near-copies of training images left out: {found.left_out:,}.",
        proof.sentence if proof is not None else "",
        table,
        tuple(figures),
        tuple(f"{label}: {count:,}" for label, count in found.by_label.items() if label),
        (*found.notes, *(proof.notes if proof is not None else ())),
        HOW_TO_READ if proof is not None else "",
        str(found.problem) if found.problem is not None else "",
    )


def _table(proof: Proof) -> Table:
    rows = [
        TableRow(
            row.title,
            (Cell(float(row.images)), _cell(row.accuracy), _cell(row.over_real), _cell(row.over_augmented)),
            reference=row.name == REAL,
        )
        for row in proof.rows
    ]
    return Table("proof", "Accuracy of classifiers on real images", *pick_columns(_COLUMNS, rows))


def _cell(found: Interval | None) -> Cell | None:
    return Cell(found.value, found.low, found.high) if found is not None else None

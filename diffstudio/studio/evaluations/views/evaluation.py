"""EvaluationView: the result of `diffstudio evaluate` as the Lab shows it. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffstudio import paths
from diffstudio.plurals import count_of
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.plots.figure import Figure, Series
from diffstudio.studio.evaluations.result import FORMAT, counts_line
from diffstudio.studio.evaluations.results.stored import check_format, damage_named
from diffstudio.studio.evaluations.views.json_values import (
    mapping_of,
    mappings_of,
    number_of,
    row_of,
    text_of,
    texts_of,
    whole_of,
)
from diffstudio.studio.evaluations.views.tables import Column, Table, pick_columns

COLUMNS = (
    Column(
        "frechet_distance",
        "Fréchet distance",
        "Lower is better: distance between the feature distributions of generated and real images",
    ),
    Column(
        "kernel_distance",
        "Kernel distance",
        "Lower is better: like the Fréchet distance, but unbiased for small numbers of images",
    ),
    Column("precision", "Precision", "Higher is better: the share of images that look real", True),
    Column("recall", "Recall", "Higher is better: the share of real images that could have been generated", True),
    Column("density", "Density", "Higher is better: how densely real images surround each image"),
    Column("coverage", "Coverage", "Higher is better: the share of real images with a generated image nearby", True),
    Column("vendi", "Vendi score", "Higher is more diverse: the effective number of different images"),
    Column("agreement", "Agreement", "Higher is better: the share of images that match their caption or class", True),
    Column("copies", "Copies", "Near 0 is good: the share of images called copies of training images", True),
    Column("nearer_to_training", "Nearer to training", "0.5 is good: higher values mean memorisation", True),
    Column("loss_gap", "Loss gap", "Near 0 is good: how much higher the loss is on held-out images"),
)
DIVERSITY = (
    Column(
        "modes",
        "Modes",
        "Higher is better: the share of clusters of the held-out images that have a generated image",
        True,
    ),
    Column("classes", "Classes", "Higher is better: the share of the requested classes that were generated", True),
    Column("class_vendi", "Vendi in a class", "The effective number of different images within a class, on average"),
    Column(
        "support", "Support", "The effective number of different images the model can generate; ∞ without duplicates"
    ),
)


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its nearest training image."""

    subject: str
    image: str  # its name: a seed, or a path in its folder
    image_file: Path | None  # None if it was not kept
    training: str
    training_file: Path
    ratio: float  # distance / mean distance to the next nearest images: near 0 for a copy
    is_copy: bool

    def text(self) -> str:
        what = "A copy of" if self.is_copy else "Nearest training image:"
        return f"{what} {Path(self.training).name} · distance ratio {self.ratio:.2f}"


@dataclass(frozen=True, slots=True)
class EvaluationView:
    summary: str
    table: Table
    diversity: Table  # the measures that show mode collapse
    figures: tuple[Figure, ...]
    pairs: tuple[Pair, ...]
    findings: tuple[str, ...]  # about each checkpoint or folder, in sentences
    notes: tuple[str, ...]
    how_to_read: str
    problem: str


def read_evaluation(job: JobFolder, values: Mapping[str, Any]) -> EvaluationView:
    """The result in a job's folder; damaged parts are left out. RunProblem for one of a newer version."""
    check_format({"format": FORMAT} | dict(values), FORMAT)  # the first results had none
    with damage_named(f"The result of {job.path.name}"):
        return _view_of(job, values)


def _view_of(job: JobFolder, values: Mapping[str, Any]) -> EvaluationView:
    counts, details = mapping_of(values, "counts"), mappings_of(values, "details")
    written = mappings_of(values, "rows")  # the first row is of real images; without it there are none
    rows = [row_of(row, COLUMNS, reference=place == 0) for place, row in enumerate(written)]
    diverse = [row_of(row, DIVERSITY, reference=place == 0) for place, row in enumerate(written)]
    listed = {row.name for row in rows}
    rows += [  # without a table there are only the tests for copies
        row_of({"name": text_of(one, "name")} | dict(mapping_of(one, "memorisation")), COLUMNS)
        for one in details
        if text_of(one, "name") not in listed
    ]
    table = Table("evaluation", "Generated images against real ones", *pick_columns(COLUMNS, rows))
    columns, found = pick_columns(DIVERSITY, diverse)
    diversity = Table("diversity", "Mode collapse", columns, found if columns else ())
    figures = [
        figure
        for each in (table, diversity)
        for column in each.columns
        if (figure := each.figure(column.key)) is not None
    ]
    folder = job.absolute(text_of(values, "folder"))
    return EvaluationView(
        f"{counts_line(paths.short(folder), whole_of(counts, 'training'), whole_of(counts, 'held_out'))}. "
        f"Features: {text_of(values, 'features')}, {text_of(values, 'resizing')}.",
        table,
        diversity,
        (*figures, *filter(None, map(_loss_gap_figure, details))),
        tuple(pair for one in details for pair in _pairs(job, folder, one)),
        tuple(sentence for one in details for sentence in _findings(one)),
        texts_of(values, "notes"),
        text_of(values, "how_to_read"),
        text_of(values, "problem"),
    )


def _pairs(job: JobFolder, folder: Path, details: Mapping[str, Any]) -> list[Pair]:
    pairs = []
    for one in mappings_of(details, "nearest") or mappings_of(details, "copies"):
        ratio, file = number_of(one, "ratio"), text_of(one, "file")
        training = folder / text_of(one, "training")
        if ratio is None or not _is_inside(training, folder):
            continue
        inside = job.path / file
        pairs.append(
            Pair(
                text_of(details, "name"),
                text_of(one, "image"),
                inside if file and _is_inside(inside, job.path) else None,
                text_of(one, "training"),
                training,
                ratio,
                one.get("copy", True) is True,
            )
        )
    return pairs


def _is_inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _findings(details: Mapping[str, Any]) -> list[str]:
    name, agreement = text_of(details, "name"), mapping_of(details, "agreement_by_label")
    sentences = [f"{name}: {count_of(whole_of(details, 'images'), 'image')}."]
    if sampling := mapping_of(details, "sampling"):
        sentences[0] = f"{sentences[0][:-1]}, {', '.join(f'{key} {value}' for key, value in sampling.items())}."
    chance = number_of(details, "agreement_chance")
    if chance is not None:
        sentences.append(f"{name}: agreement by chance is {chance:.3f}.")
    worst = sorted((share, label) for label in agreement if (share := number_of(agreement, label)) is not None)[:3]
    if worst and worst[0][0] < 1:
        listed = ", ".join(f"{label} ({share:.0%})" for share, label in worst)
        sentences.append(f"{name}: lowest agreement: {listed}.")
    return sentences


def _loss_gap_figure(details: Mapping[str, Any]) -> Figure | None:
    levels = [
        (level, value, number_of(one, "low"), number_of(one, "high"))
        for one in mappings_of(details, "loss_gap_by_noise_level")
        if (level := number_of(one, "noise_level")) is not None and (value := number_of(one, "value")) is not None
    ]
    if not levels:
        return None
    name = text_of(details, "name")
    bounded = all(low is not None and high is not None for _, _, low, high in levels)
    return Figure(
        "loss-gap",
        f"{name}: held-out minus training loss by noise level",
        "noise level",
        "",
        (
            Series(
                name,
                tuple(level for level, *_ in levels),
                tuple(value for _, value, *_ in levels),
                tuple(low for _, _, low, _ in levels if low is not None) if bounded else (),
                tuple(high for *_, high in levels if high is not None) if bounded else (),
            ),
        ),
        references=(("no memorisation", 0.0, 1),),
    )

"""FeaturesView: what features are worth, as the window shows it: heat maps of layers and noise levels. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diffstudio import paths
from diffstudio.evaluation.interval import Interval
from diffstudio.plurals import count_of
from diffstudio.studio.evaluations.features.result import HOW_TO_READ, TITLES, Accuracy, FeaturesResult
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.plots.figure import Figure, HeatMap
from diffstudio.studio.evaluations.results.stored import damage_named
from diffstudio.studio.evaluations.views.tables import Cell, Column, Table, TableRow


@dataclass(frozen=True, slots=True)
class FeaturesView:
    summary: str
    verdict: str
    table: Table
    plots: tuple[HeatMap | Figure, ...]
    exported: str
    notes: tuple[str, ...]
    how_to_read: str


def read_features(job: JobFolder, values: Mapping[str, Any]) -> FeaturesView:
    """The result in a job's folder. RunProblem when it is damaged."""
    with damage_named(f"The result of {job.path.name}"):
        found = FeaturesResult.from_json(values)
        parts = ", ".join(f"{count:,} {name}" for name, count in found.parts.items())
        classes = f" of {len(found.classes):,} classes ({parts})" if found.classes else ""
        files = ", ".join(found.files)
        return FeaturesView(
            f"{found.checkpoint} on {paths.short(found.folder)}: {count_of(found.images, 'image')}{classes}.",
            found.verdict,
            _table(found),
            tuple(_heat_map(found, name, one) for name, one in found.accuracy.items()),
            f"{files} have the features of {found.exported_layer} at noise level {found.exported_level:g}, a row for each "
            "image, and the names of the images."
            if files
            else "",
            tuple(found.notes),
            HOW_TO_READ if found.accuracy else "",
        )


def _table(found: FeaturesResult) -> Table:
    columns = (
        Column(
            "test",
            "Best features",
            "Accuracy on the test part, for the layer and level chosen on the validation part",
            True,
        ),
        Column("pixels", "Raw pixels", "Accuracy of raw pixels on the test part", True),
    )
    rows = [
        TableRow(f"{TITLES.get(name, name)}: {one.layer} at {one.level:g}", (_cell(one.test), _cell(one.pixels)))
        for name, one in found.accuracy.items()
    ]
    return Table("accuracy", "Accuracy on the test part", columns, tuple(rows), "Classifier")


def _cell(found: Interval) -> Cell:
    return Cell(found.value, found.low, found.high)


def _heat_map(found: FeaturesResult, name: str, accuracy: Accuracy) -> HeatMap:
    title = f"{TITLES.get(name, name)}: accuracy on the validation part"
    return HeatMap(
        f"features-{name}",
        title,
        "noise level",
        "layer",
        tuple(f"{level:g}" for level in found.levels),
        tuple(found.layers),
        tuple(tuple(float(value) for value in row) for row in accuracy.validation),
    )

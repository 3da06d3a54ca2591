"""AnomaliesView: the result of `diffstudio anomalies` as the Lab shows it, at any false-alarm rate. No torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diffstudio import paths
from diffstudio.errors import RunProblem, UnexpectedValue
from diffstudio.evaluation.anomalies.calibration import threshold
from diffstudio.plurals import by_number, count_of
from diffstudio.studio.evaluations.anomalies.decisions import Decision, read_decisions
from diffstudio.studio.evaluations.anomalies.result import (
    COMBINED,
    COMBINED_LOCAL,
    DENOISING,
    HOW_TO_READ,
    LOCAL,
    TITLES,
    AnomaliesResult,
    DetectorResult,
    ScoredImage,
)
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.plots.figure import SHARE_OF_IMAGES, Figure, Series, thinned
from diffstudio.studio.evaluations.results.stored import damage_named
from diffstudio.studio.evaluations.results.text import number
from diffstudio.studio.evaluations.views.tables import Cell, Column, Table, TableRow

MOST_LISTED = 20  # held-out normal images that look anomalous
_SMALLEST_STEP = 1e-12  # tolerance: p-values are multiples of 1 / (1 + n) up to rounding
_BELOW_A_PLOT = {
    DENOISING: "denoising",
    LOCAL: "local maximum",
    COMBINED: "combination",
    COMBINED_LOCAL: "combined maximum",
}  # short names for the plot
_COLUMNS = (
    Column("auroc", "AUROC", "How often a drawn defect scores higher than a normal image: 0.5 is chance", True),
    Column("pixel_auroc", "AUROC of pixels", "How often a pixel of a defect scores higher than other pixels", True),
    Column("weight", "Share", "The share of each detector in the combination of scores"),
)


@dataclass(frozen=True, slots=True)
class AnomaliesView:
    """The result of anomaly detection; images keep the order of the result, the most anomalous first."""

    result: AnomaliesResult
    job: Path  # the folder of the job, with heat maps and decisions
    folder: Path  # the searched folder
    summary: str
    table: Table
    decisions: dict[str, Decision]  # by the paths of the images
    notes: tuple[str, ...]
    suspicious: tuple[str, ...]  # held-out normal images that look anomalous
    how_to_read: str = HOW_TO_READ

    def file(self, image: ScoredImage) -> Path:
        return self.folder / image.path

    def heat_map(self, image: ScoredImage) -> Path | None:
        """The heat map of an image; None if none was written."""
        return self.job / image.heat_map if image.heat_map else None

    @property
    def smallest_percent(self) -> float:
        """The smallest supported false-alarm rate in percent, rounded up to two decimals."""
        return math.ceil(1e4 * self.result.smallest_false_alarm - 1e-6) / 100

    def count_at(self, rate: float) -> int:
        """The number of images that are called anomalous at a false-alarm rate."""
        return sum(is_anomalous(image, rate) for image in self.result.images)

    def threshold_at(self, rate: float) -> float | None:
        """The score above which images are called anomalous; None if the scores of the normal images are unknown."""
        if rate == self.result.false_alarm:
            return self.result.threshold
        known = self.result.normal_scores
        return threshold(known, rate) if len(known) and rate >= self.result.smallest_false_alarm else None

    def sentence_at(self, rate: float) -> str:
        limit = self.threshold_at(rate)
        scores = f" (score above {number(limit)})" if limit is not None else ""
        count = self.count_at(rate)
        return (
            f"{count:,} of {len(self.result.images):,} images {by_number(count, 'is', 'are')} called anomalous{scores}. "
            f"{self.result.held_out:,} held-out normal images support false-alarm rates of "
            f"{self.smallest_percent:g}% and above."
        )

    def at(self, rate: float) -> AnomaliesResult:
        """The result as it would be at another false-alarm rate."""
        limit = self.threshold_at(rate)
        return replace(
            self.result,
            false_alarm=rate,
            threshold=limit if limit is not None else math.nan,
            images=[replace(image, anomalous=is_anomalous(image, rate)) for image in self.result.images],
        )

    def csv_at(self, rate: float, decisions: Mapping[str, Decision]) -> str:
        return self.at(rate).csv({path: decision.value for path, decision in decisions.items()})

    def json_at(self, rate: float, decisions: Mapping[str, Decision]) -> str:
        values = self.at(rate).to_json()
        if not math.isfinite(values["threshold"]):
            values["threshold"] = None  # JSON has no NaN
        values["decisions"] = {path: decision.value for path, decision in sorted(decisions.items())}
        return json.dumps(values, ensure_ascii=False, indent=1)

    def figures_at(self, rate: float) -> tuple[Figure, ...]:
        return _areas(self.result), _scores(self.result, self.threshold_at(rate))


def is_anomalous(image: ScoredImage, rate: float) -> bool:
    return image.p_value <= rate + _SMALLEST_STEP


def read_anomalies(job: JobFolder, values: Mapping[str, Any]) -> AnomaliesView:
    """The result in a job's folder. RunProblem when it is damaged; damaged decisions become a note."""
    with damage_named(f"The result of {job.path.name}"):
        found = AnomaliesResult.from_json(values)
        if not 0 <= found.smallest_false_alarm <= 1 or not 0 <= found.false_alarm <= 1:
            raise UnexpectedValue("a false-alarm rate is not between 0 and 1")
        folder, normals = job.absolute(found.folder), job.absolute(found.normals)
        view = AnomaliesView(
            found,
            job.path,
            folder,
            f"{paths.short(folder)}: {count_of(len(found.images), 'image')}. Normal images: {paths.short(normals)}, "
            f"{found.training:,} to compare with and {found.held_out:,} held out. {found.model}",
            _table(found),
            {},
            tuple(found.notes),
            tuple(paths.short(normals / path) for path in found.suspicious_normals[:MOST_LISTED]),
        )
        view.figures_at(found.false_alarm)  # so that damage is found here
        view.count_at(found.false_alarm)
    try:
        return replace(view, decisions=read_decisions(job.path))
    except RunProblem as problem:
        return replace(view, notes=(*view.notes, str(problem)))


def _table(found: AnomaliesResult) -> Table:
    total = sum(one.weight for one in found.detectors) or 1.0
    rows = [
        TableRow(
            f"{_title(one)}{', used' if one.name == found.detector else ''}",
            (
                Cell(one.area.value, one.area.low, one.area.high),
                Cell(one.pixel_area.value, one.pixel_area.low, one.pixel_area.high) if one.pixel_area else None,
                Cell(one.weight / total) if one.name not in (COMBINED, COMBINED_LOCAL) else None,
            ),
        )
        for one in found.detectors
    ]
    return Table("detectors", "Detectors on drawn defects", _COLUMNS, tuple(rows), "Detector")


def _title(one: DetectorResult) -> str:
    title = TITLES.get(one.name, one.name)
    return title[:1].upper() + title[1:]


def _areas(found: AnomaliesResult) -> Figure:
    """The AUROC of each detector with its interval."""
    series = [
        Series(
            "used" if one.name == found.detector else "other detectors",
            (float(place),),
            (one.area.value,),
            (one.area.low,),
            (one.area.high,),
            points=True,
            colour=1 if one.name == found.detector else 0,
        )
        for place, one in enumerate(found.detectors)
    ]
    names = tuple(_BELOW_A_PLOT.get(one.name, one.name) for one in found.detectors)
    lowest = min((one.area.low for one in found.detectors), default=0.5)
    return Figure(
        "detectors-auroc",
        "AUROC on drawn defects",
        "",
        "",
        tuple(series),
        names,
        (("chance", 0.5, 2),),
        y_range=(0.4 if lowest >= 0.45 else 0.0, 1.0),
    )


def _scores(found: AnomaliesResult, limit: float | None) -> Figure:
    """All scores in order; images that score above the normal ones stand out."""
    parts = (
        ("held-out normal images", sorted(found.normal_scores), 0),
        ("searched images", sorted(image.score for image in found.images), 1),
    )
    series = [
        Series(name, *thinned([(place + 0.5) / len(scores) for place in range(len(scores))], scores), colour=colour)
        for name, scores, colour in parts
        if scores
    ]
    references = (("threshold", limit, 2),) if limit is not None else ()
    return Figure("anomaly-scores", "Scores, sorted", SHARE_OF_IMAGES, "score", tuple(series), (), references)

"""The result of anomaly detection as text, CSV and JSON. No torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from diffstudio.errors import DiffstudioError
from diffstudio.evaluation.interval import Interval
from diffstudio.plurals import by_number
from diffstudio.studio.evaluations.results.stored import typed_result
from diffstudio.studio.evaluations.results.text import with_interval

FORMAT = 1
_BEFORE, _AFTER = ("path", "anomalous"), ("score", "p_value")  # columns of the table, around a user's decisions
TABLE_BEGINS = ",".join((*_BEFORE, *_AFTER))  # without decisions, which are not made again
DENOISING, LOCAL, LIKELIHOOD, PATCHES, PIXELS = "denoising", "denoising_local", "likelihood", "patches", "pixels"
COMBINED, COMBINED_LOCAL = "combined", "combined_local"
# The weights of the detectors in COMBINED, of those that are available. The nearest image finds images of another kind best,
# for digits and for clothes (manual, Anomalies); the others raise a score only where theirs is far above normal.
OF_WHOLE_IMAGES = {DENOISING: 0.025, PATCHES: 0.025, PIXELS: 0.95}
TITLES = {
    DENOISING: "denoising error, whole image",
    LOCAL: "denoising error, local maximum",
    LIKELIHOOD: "likelihood, two-sided",
    PATCHES: "nearest normal patches",
    PIXELS: "nearest normal image",
    COMBINED: "combination",
    COMBINED_LOCAL: "combination, local maximum",
}
HOW_TO_READ = (
    "Images are sorted by their anomaly score, highest first. The p-value is the share of normal images that score at "
    "least as high. An image is called anomalous if its p-value is at most the false-alarm rate, so about this share of "
    "normal images is called anomalous too. The AUROC of a detector is how often it scores an image with a drawn defect "
    "higher than a normal one: 0.5 is chance, 1 is perfect. Real anomalies may differ from drawn defects: "
    "objects of another kind are often found best by the distance to the nearest normal image, or by the combination."
)
_LISTED = 20


@dataclass(frozen=True, slots=True)
class DetectorResult:
    """One detector, and how well it separates the folder's own images with drawn defects from those without."""

    name: str
    area: Interval  # AUROC of images
    pixel_area: Interval | None  # AUROC of pixels, if it has a heat map
    weight: float  # in the combination; 0: not part of it


@dataclass(frozen=True, slots=True)
class ScoredImage:
    path: str  # in the folder
    score: float
    p_value: float
    anomalous: bool
    p_values: Mapping[str, float]  # by detector
    heat_map: str = ""  # its file, in the folder of the result


@dataclass(frozen=True, slots=True)
class AnomaliesResult:
    folder: str
    normals: str
    model: str  # a sentence about the model of the normal images
    training: int  # normal images to which distances are measured
    held_out: int  # normal images for calibration
    detectors: Sequence[DetectorResult]
    detector: str  # the one that was used
    why: str  # a sentence about its choice
    false_alarm: float
    smallest_false_alarm: float
    threshold: float
    images: Sequence[ScoredImage]  # the most anomalous first
    suspicious_normals: Sequence[str] = ()  # paths of held-out normal images, the most suspicious first
    settings: Mapping[str, object] = field(default_factory=dict)
    notes: Sequence[str] = ()
    problem: DiffstudioError | None = None
    normal_scores: Sequence[float] = ()  # of the held-out normal images, sorted; not in older results

    def to_json(self) -> dict[str, Any]:
        values = asdict(self)
        values.pop("problem")
        return {"format": FORMAT} | values | {"how_to_read": HOW_TO_READ}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> AnomaliesResult:
        """The inverse of `to_json`. UnexpectedValue for values of other types, RunProblem for those of a newer version."""
        return typed_result(cls, values, FORMAT)

    def csv(self, decisions: Mapping[str, str] | None = None) -> str:
        """A row for each image, the most anomalous first, with the user's decision if `decisions` are given."""
        names = [one.name for one in self.detectors if one.name != COMBINED]
        lines = io.StringIO()
        writer = csv.writer(lines, lineterminator="\n")
        decided = ["decision"] if decisions is not None else []
        writer.writerow([*_BEFORE, *decided, *_AFTER, *(f"p_{name}" for name in names), "heat_map"])
        for one in self.images:
            found = [one.p_values[name] for name in names]
            decided = [decisions.get(one.path, "")] if decisions is not None else []
            writer.writerow([one.path, int(one.anomalous), *decided, one.score, one.p_value, *found, one.heat_map])
        return lines.getvalue()

    def text(self) -> str:
        """A report with the detectors, the most anomalous images, and how to read them."""
        count = sum(image.anomalous for image in self.images)
        lines = [
            f"{self.folder}: {count:,} of {len(self.images):,} images {by_number(count, 'is', 'are')} called anomalous, "
            f"at a false-alarm rate of {self.false_alarm:g}",
            f"Normal images: {self.normals}, {self.training:,} to compare with and {self.held_out:,} held out, which support "
            f"rates of {self.smallest_false_alarm:.3g} and above",
            self.model,
            "",
            f"{'detector'.ljust(30)}  {'AUROC, drawn defects'.ljust(22)}  AUROC of pixels",
        ]
        for one in self.detectors:
            mark = " *" if one.name == self.detector else ""
            pixels = with_interval(one.pixel_area) if one.pixel_area is not None else "–"
            lines.append(f"{TITLES[one.name].ljust(30)}  {with_interval(one.area).ljust(22)}  {pixels}{mark}")
        lines += [self.why, "", f"{'p-value':>8}  image"]
        for image in self.images[:_LISTED]:
            lines.append(f"{image.p_value:8.4f}  {image.path}{'  anomalous' if image.anomalous else ''}")
        if len(self.images) > _LISTED:
            lines.append(f"and {len(self.images) - _LISTED:,} more with lower scores")
        lines += ["", *self.notes] if self.notes else []
        return "\n".join([*lines, "", HOW_TO_READ])

"""AnomaliesRequest: a folder to search for images that are unlike those of a folder of normal images. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diffstudio.errors import BadRequest, unknown_name
from diffstudio.studio.evaluations.anomalies.result import DENOISING, LIKELIHOOD, LOCAL, TITLES
from diffstudio.studio.requests.checks import check_numbers

AUTO = "auto"
MOST_DRAWS, MOST_MINUTES = 1000, 100_000.0
_BY_MODEL = (DENOISING, LOCAL, LIKELIHOOD)


@dataclass(frozen=True, slots=True)
class AnomaliesRequest:
    """Score the images of `folder` against those of `normals`, with a model of these if there is one."""

    normals: Path
    folder: Path
    checkpoint: str | None = None  # a name or a path; None: only detectors without a model
    minutes: float | None = None  # train a model on the normal images for this long first
    false_alarm: float | None = None  # share of normal images that may be called anomalous; None: 0.05, if supported
    draws: int = 8  # noise samples at each level
    detector: str = AUTO  # a detector's name, `combined`, or `auto` for the best on drawn defects
    seed: int = 0
    device: str = AUTO
    out: Path | None = None  # a folder for the result, heat maps, table and the trained run

    def __post_init__(self) -> None:
        if self.checkpoint is not None and self.minutes is not None:
            raise BadRequest("Both a checkpoint and a training time were given", remedy="Leave one of them out")
        if self.minutes is not None and self.out is None:
            raise BadRequest("There is no folder for the model to train", remedy="Choose a folder for the result")
        if self.false_alarm is not None and not 0 < self.false_alarm < 1:
            raise BadRequest(f"The false-alarm rate is {self.false_alarm:g}", "it must be above 0 and below 1")
        if self.detector not in (AUTO, *TITLES):
            names = ", ".join((AUTO, *TITLES))
            raise BadRequest(unknown_name("detector", self.detector[:80]), remedy=f"Choose one of {names}")
        if self.detector in _BY_MODEL and self.checkpoint is None and self.minutes is None:
            raise BadRequest(
                f"The detector {self.detector} needs a model",
                "neither a checkpoint nor a training time was given",
                "Name a checkpoint of the normal images, or choose another detector",
            )
        check_numbers(
            ("number of noise samples", self.draws, 1, MOST_DRAWS),
            ("number of minutes", self.minutes if self.minutes is not None else 1.0, 0.01, MOST_MINUTES),
            ("seed", self.seed, 0, 2**62),
        )

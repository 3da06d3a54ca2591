"""EvaluateRequest: what is measured against which folder, and how. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diffstudio.errors import BadRequest, must_be_between
from diffstudio.evaluation.report import FEWEST

MOST_IMAGES = 50_000
AUTO, IMAGENET, FOLDER = "auto", "imagenet", "folder"  # the feature networks that need no files of the person's own


@dataclass(frozen=True, slots=True)
class EvaluateRequest:
    """Measure each of `subjects`, checkpoints by name or path and folders of generated images, against `folder`."""

    subjects: tuple[str, ...]
    folder: Path
    count: int | None = None  # generated with each checkpoint; None: as many as were held out, from 100 to 1,000
    seed: int = 0  # of the first image; image i has seed + i
    features: str = AUTO  # `imagenet`, `folder`, `inception`, `dinov2`, `clip`, or the path of such a network
    device: str = AUTO
    out: Path | None = None  # a folder for the result, in which a control file can stop the evaluation

    def __post_init__(self) -> None:
        if not self.subjects:
            raise BadRequest("Nothing to evaluate was given", remedy="Name a checkpoint or a folder of images")
        if self.count is not None and not FEWEST <= self.count <= MOST_IMAGES:
            raise BadRequest(f"The number of images is {self.count}", must_be_between(FEWEST, f"{MOST_IMAGES:,}"))
        if not self.features.strip():
            raise BadRequest("No features were named", remedy="Name a feature network, or leave the option out")
        if not 0 <= self.seed <= 2**63 - 1 - MOST_IMAGES:
            raise BadRequest(f"The seed is {self.seed}", must_be_between(0, 2**63 - 1 - MOST_IMAGES))

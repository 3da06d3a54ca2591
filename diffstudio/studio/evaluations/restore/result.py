"""The result of restoring images: where the files are, how much noise was found, and the same as JSON. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from diffstudio.errors import DiffstudioError, UnexpectedValue
from diffstudio.studio.evaluations.results.stored import typed_result

FORMAT = 1
RESTORED, MEAN, SAMPLE = "restored", "mean", "sample"  # subfolders of the result
HOW_TO_READ = (
    "The posterior mean is the average of all images that are consistent with the input: it has the lowest mean squared "
    "error (the highest PSNR), and is smooth where details are uncertain. A posterior sample is one of these images: it has "
    "details, some of them invented, and twice the squared error of the exact mean (3 dB less PSNR). Invented details "
    "resemble the training images: do not treat them as evidence."
)


@dataclass(frozen=True, slots=True)
class RestoredImage:
    source: str  # the file
    name: str
    width: int  # px of the result
    height: int
    noise: float  # standard deviation in levels of 255
    estimated: bool  # whether the noise was estimated
    restored: str  # the result; this and the next are paths in the result's folder
    mean: str
    sample: str  # empty where it was left out


@dataclass(frozen=True, slots=True)
class RestoreResult:
    checkpoint: str
    task: str
    images: Sequence[RestoredImage]
    share: float  # of the sample in the restored images
    settings: Mapping[str, object] = field(default_factory=dict)
    notes: Sequence[str] = ()
    problem: DiffstudioError | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "checkpoint": self.checkpoint,
            "task": self.task,
            "images": [asdict(image) for image in self.images],
            "share": self.share,
            "settings": dict(self.settings),
            "notes": list(self.notes),
            "how_to_read": HOW_TO_READ,
        }

    def text(self) -> str:
        lines = [f"{self.task} with {self.checkpoint}, {self.share:.0%} of the way from the mean to the sample"]
        for image in self.images:
            noise = f"noise {image.noise:.1f} of 255" + (" (estimated)" if image.estimated else "")
            lines.append(f"  {image.restored}  {image.width} × {image.height} px, {noise}")
        lines += ["", *self.notes] if self.notes else []
        return "\n".join([*lines, "", HOW_TO_READ])

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RestoreResult:
        """What `to_json` gave. RunProblem for a newer format; KeyError, TypeError or ValueError for anything else."""
        found = typed_result(cls, values, FORMAT)
        if not 0 <= found.share <= 1:
            raise UnexpectedValue(f"the share is {found.share}")
        return found

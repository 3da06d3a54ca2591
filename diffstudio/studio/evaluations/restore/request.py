"""RestoreRequest: which images are restored, how, and with which checkpoint. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from diffstudio.errors import BadRequest, must_be_between

AUTO = "auto"
LARGEST_SCALE, MOST_STEPS, MOST_DRAWS = 8, 1000, 64
LARGEST_BLUR, LARGEST_NOISE = 20.0, 255.0


class RestoreTask(StrEnum):
    DENOISE = "denoise"
    DEBLUR = "deblur"
    INPAINT = "inpaint"
    SUPER_RESOLUTION = "super-resolution"


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """Restore the images at `images`, a file or a folder, into the folder `out`."""

    checkpoint: str  # a name or a path
    images: Path
    task: RestoreTask
    out: Path
    noise: float | None = None  # standard deviation in levels of 255; None: estimated, or that of rounding
    blur: float = 1.5  # standard deviation of the Gaussian in px, of `deblur`
    scale: int = 2  # of `super-resolution`
    mask: Path | None = None  # of `inpaint`, white where the image is filled; None: where it is transparent
    share: float = 0.0  # 0 the posterior mean, 1 a sample
    mean_only: bool = False  # leave the sample of `denoise` out, which takes most of its time
    steps: int = 20
    draws: int = 4  # samples that the mean of the other tasks is taken of
    prompt: str = ""
    seed: int = 0
    device: str = AUTO

    def __post_init__(self) -> None:
        for what, value, lowest, highest in (
            ("noise", self.noise if self.noise is not None else 1, 0.0, LARGEST_NOISE),
            ("blur", self.blur, 0.2, LARGEST_BLUR),
            ("scale", self.scale, 2, LARGEST_SCALE),
            ("share of the sample", self.share, 0.0, 1.0),
            ("number of steps", self.steps, 1, MOST_STEPS),
            ("number of samples", self.draws, 1, MOST_DRAWS),
            ("seed", self.seed, 0, 2**62),
        ):
            if not lowest <= value <= highest:  # NaN is not
                raise BadRequest(f"The {what} is {value}", must_be_between(f"{lowest:g}", f"{highest:,g}"))
        if self.mask is not None and self.task is not RestoreTask.INPAINT:
            raise BadRequest("A mask was given", f"the task is {self.task}", "Give it with the task inpaint only")
        if self.mean_only and (self.share > 0 or self.task is not RestoreTask.DENOISE):
            raise BadRequest(
                "The sample cannot be left out",
                "its share is above 0" if self.share > 0 else f"the mean of {self.task} is one of samples",
                "Turn off mean only",
            )


def task_of(name: str) -> RestoreTask:
    """The task of this name. BadRequest."""
    try:
        return RestoreTask(name)
    except ValueError:
        raise BadRequest(
            f"There is no task called {name[:40]!r}", "", f"Choose one of {', '.join(RestoreTask)}"
        ) from None

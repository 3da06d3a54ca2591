"""ReverseRequest: the image whose reverse process is filmed. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diffstudio.studio.requests.checks import check_numbers

AUTO = "auto"
MOST_STEPS, MOST_PX = 200, 8192


@dataclass(frozen=True, slots=True)
class ReverseRequest:
    """Generate one image and keep every step. Fields of None or an empty text are the checkpoint's own."""

    checkpoint: str  # a name or a path
    prompt: str
    out: Path  # a folder for the result, in which a control file can stop the work
    negative: str = ""
    seed: int = 0
    steps: int | None = None
    sampler: str = ""
    spacing: str = ""  # or the name of a noise schedule saved in the Lab
    guidance: float | None = None  # CFG scale
    width: int | None = None  # px
    height: int | None = None
    device: str = AUTO

    def __post_init__(self) -> None:
        check_numbers(
            ("seed", self.seed, 0, 2**62),
            ("number of steps", 1 if self.steps is None else self.steps, 1, MOST_STEPS),
            ("CFG scale", self.guidance or 0, 0, 1000),
            ("width", 1 if self.width is None else self.width, 1, MOST_PX),
            ("height", 1 if self.height is None else self.height, 1, MOST_PX),
        )

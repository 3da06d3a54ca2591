"""AttentionRequest: an image to generate with the attention maps of its prompt's words. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diffstudio.errors import BadRequest
from diffstudio.studio.requests.checks import check_numbers

AUTO = "auto"
MAPS = (AUTO, "weights", "outputs")
MOST_WORDS, MOST_STEPS, MOST_PX = 75, 1000, 8192


@dataclass(frozen=True, slots=True)
class AttentionRequest:
    """Generate one image of `prompt` and record where its words act. Fields of None are the checkpoint's own."""

    checkpoint: str  # a name or a path
    prompt: str
    out: Path  # the folder for the result; a control file in it can stop the work
    negative: str = ""
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None  # CFG scale
    width: int | None = None  # px
    height: int | None = None
    maps: str = AUTO  # the source of maps: see models.inspection.layers.MapKind
    tested: int = 8  # words to mask in the deletion test, at most
    device: str = AUTO

    def __post_init__(self) -> None:
        check_numbers(
            ("seed", self.seed, 0, 2**62),
            ("number of steps", 1 if self.steps is None else self.steps, 1, MOST_STEPS),
            ("CFG scale", self.guidance or 0, 0, 1000),
            ("width", 1 if self.width is None else self.width, 1, MOST_PX),
            ("height", 1 if self.height is None else self.height, 1, MOST_PX),
            ("number of tested words", self.tested, 0, MOST_WORDS),
        )
        if self.maps not in MAPS:
            raise BadRequest(f"There are no maps of {self.maps!r}", remedy=f"Choose one of {', '.join(MAPS)}")
        if not self.prompt.strip():
            raise BadRequest("The prompt is empty", "it has no words to map", "Write a prompt")

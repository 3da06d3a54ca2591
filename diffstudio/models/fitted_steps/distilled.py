"""The teacher of a checkpoint distilled to few steps, in its header under `diffstudio.tuned`. No torch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from diffstudio.errors import BadRequest, CheckpointDamaged
from diffstudio.models.checkpoint import Checkpoint

KEY = "diffstudio.tuned"
_LONGEST_NAME = 300
ESTIMATES_NO_MEAN = "it was distilled to few steps and no longer estimates the expected image"


@dataclass(frozen=True, slots=True)
class Distilled:
    """The teacher, and the guidance that was distilled. ValueError for invalid values."""

    teacher: str  # its name
    sha256: str
    guidance: float  # CFG scale; 1: none

    def __post_init__(self) -> None:
        if not 0 <= self.guidance < math.inf:
            raise ValueError(f"its guidance is {self.guidance}")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def distilled(checkpoint: Checkpoint) -> Distilled | None:
    """None for a checkpoint that was not distilled. CheckpointDamaged."""
    if KEY not in checkpoint.metadata:
        return None
    match checkpoint.json("tuned"):
        case {"teacher": str(teacher), "sha256": str(sha256), "guidance": float() | int() as guidance} if (
            type(guidance) is not bool and 0 <= guidance < math.inf
        ):
            return Distilled(teacher[:_LONGEST_NAME], sha256, float(guidance))
    raise CheckpointDamaged(f"{checkpoint.path.name} has an invalid record of what it was distilled from")


def check_denoises(checkpoint: Checkpoint, what: str) -> None:
    """BadRequest for a distilled checkpoint, which does not estimate the expected image.

    `what` needs that estimate: `likelihoods`.
    """
    if (found := distilled(checkpoint)) is not None:
        raise BadRequest(
            f"{checkpoint.name} cannot be used for {what}",
            ESTIMATES_NO_MEAN,
            f"Choose the checkpoint that it was distilled from, {found.teacher}",
        )

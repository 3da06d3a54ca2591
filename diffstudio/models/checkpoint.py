"""Checkpoint: what a file of weights is, read from its header alone (no weights, no torch).

A checkpoint made here is one `.safetensors` file whose header metadata holds ModelSpec keys for other programs and,
under `diffstudio.*`, JSON that says how to rebuild it: the network, the schedule, the tokenizer, the recipe.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from diffstudio.errors import CheckpointDamaged
from diffstudio.models.detection.families_table import FAMILIES
from diffstudio.models.detection.types import Detection, Layout, Role
from diffstudio.models.files.header import Header
from diffstudio.networks.conditioning import Conditioning

FORMAT = 2  # of checkpoints made here; 1 has the state-dict keys of version 0.1 (networks.state_dict_keys)
LARGEST_SIDE = 65_536  # px, that a header is believed


class Origin(StrEnum):
    STARTER = "starter"  # ships with the program
    TRAINED = "trained"  # made by a run on this machine
    IMPORTED = "imported"  # a file from elsewhere


_DRAWING = (Role.CHECKPOINT, Role.NETWORK)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint on disk, as its header describes it."""

    path: Path
    name: str  # unique in a library; what `--checkpoint` takes
    title: str  # what a person reads
    family: str  # `pixel` for those made here
    conditioning: Conditioning
    classes: tuple[str, ...]  # for Conditioning.CLASS, in the order of their indices
    width: int  # px it was trained at
    height: int
    parameters: int
    dtype: str  # as stored: F16, BF16, F32
    size_bytes: int
    origin: Origin
    modified: float  # seconds since the epoch
    metadata: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)  # the header's, unparsed
    role: Role = Role.CHECKPOINT
    layout: Layout = Layout.OURS
    prediction: str = ""  # eps, v, flow or x0: what its network says; empty where that is not known
    inpainting: bool = False  # its network also sees a mask and what lies under it
    reason: str = ""  # why it was taken for what it is, in a sentence for a person
    edition: str = ""  # which one of its family, where its header says so: dev, schnell, 3.5 large
    headers: tuple[Header, ...] = field(
        default=(), compare=False, repr=False
    )  # of its files, where they were just read

    @property
    def header(self) -> Header | None:
        """That of its own file, where it was just read."""
        return next((header for header in self.headers if header.path == self.path), None)

    @property
    def draws(self) -> bool:
        """Whether pictures can be made with it: alone, or with parts that lie beside it."""
        return self.role in _DRAWING and self.family in FAMILIES

    def json(self, key: str) -> Any:
        """The value under `diffstudio.<key>` in the header. CheckpointDamaged when it is missing or not JSON."""
        try:
            return json.loads(self.metadata[f"diffstudio.{key}"])
        except (KeyError, ValueError, RecursionError) as error:
            raise CheckpointDamaged(
                f"{self.path.name} does not say what its {key} is", remedy="Train or download it again"
            ) from error


def with_detection(checkpoint: Checkpoint, found: Detection) -> Checkpoint:
    """The record with what was found out about its file."""
    checkpoint = replace(
        checkpoint,
        role=found.role,
        family=found.family,
        prediction=found.prediction,
        inpainting=found.inpainting,
        layout=found.layout,
        reason=found.reason,
        edition=found.edition,
    )
    if not checkpoint.draws:
        return checkpoint
    width, height = _resolution(checkpoint)
    return replace(checkpoint, conditioning=Conditioning.TEXT, width=width, height=height)


def _resolution(checkpoint: Checkpoint) -> tuple[int, int]:
    """px it was trained at: as ModelSpec says, or as its family is; 0 where neither is known."""
    said = re.fullmatch(
        r"(\d{2,5})(?:x(\d{2,5}))?", checkpoint.metadata.get("modelspec.resolution", "").lower().replace(" ", "")
    )
    if said is not None:
        width, height = int(said[1]), int(said[2] or said[1])
        if 64 <= width <= 4096 and 64 <= height <= 4096:
            return width, height
    side = FAMILIES[checkpoint.family].side
    if checkpoint.family == "sd2" and checkpoint.prediction == "eps":
        side = 512  # 2.0-base, 2.1-base and the one that paints
    return side, side

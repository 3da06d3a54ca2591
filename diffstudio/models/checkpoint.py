"""Checkpoint: the record of one model on disk, from its header. No weights are read and no torch is imported here.

A checkpoint trained with diffstudio is one `.safetensors` file. Its metadata has ModelSpec keys for other programs and,
under `diffstudio.*`, the JSON to rebuild the model from: network, schedule, tokenizer, training recipe.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from diffstudio.diffusion.objectives.parameterisation import CLEAN_IMAGE, Parameterisation
from diffstudio.errors import CheckpointDamaged
from diffstudio.models.detection.editions import is_unclear, named_edition
from diffstudio.models.detection.families_table import FAMILIES, PIXEL
from diffstudio.models.detection.types import Detection, Layout, Role
from diffstudio.models.files.header import Header
from diffstudio.models.output_format import OutputFormat
from diffstudio.networks.conditioning import Conditioning
from diffstudio.plurals import count_of

# Of checkpoints trained with diffstudio; format 1 has the state-dict keys of version 0.1 (networks.state_dict_keys).
# Format 3 says what the network predicts, or has an upper level (networks.cascade); other files are still written in
# format 2.
FORMAT = 3
FORMAT_OF_CLEAN_IMAGE = 2
TRAIN_OR_DOWNLOAD = "Train or download it again"
UNET_ARCHITECTURE = "diffstudio-pixel-unet"  # ModelSpec's, of U-Nets that were trained here
LARGEST_SIDE = 65_536  # px that a header may declare


class Origin(StrEnum):
    STARTER = "starter"  # the included checkpoint that the program begins with
    INCLUDED = "included"  # another one that ships with the program
    TRAINED = "trained"  # by a run on this machine
    IMPORTED = "imported"  # from elsewhere


_GENERATING = (Role.CHECKPOINT, Role.NETWORK)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One model on disk: a weights file of any role, or a diffusers folder."""

    path: Path
    name: str  # unique in a library; what `--checkpoint` takes
    title: str  # shown to the user
    family: str  # a key of FAMILIES; `pixel` for those trained here
    conditioning: Conditioning
    classes: tuple[str, ...]  # for Conditioning.CLASS, in the order of their indices
    width: int  # px it was trained at
    height: int
    parameters: int
    dtype: str  # as stored: F16, BF16, F32
    size_bytes: int
    origin: Origin
    modified: float  # seconds since the epoch
    metadata: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)  # of the header, unparsed
    role: Role = Role.CHECKPOINT
    layout: Layout = Layout.OURS
    prediction: str = ""  # eps, v, flow or x0, or edm of one trained here; empty if unknown
    inpainting: bool = False  # its network also takes a mask and the masked image
    reason: str = ""  # how it was detected, one sentence for the user
    edition: str = ""  # within the family: dev, schnell, 3.5 large
    control_types: int = 0  # of a union ControlNet: how many types of control image it was trained on
    supported: bool = True  # whether anything here can use it; for what generates images see `can_generate`
    headers: tuple[Header, ...] = field(default=(), compare=False, repr=False)  # of its files, if they were just read

    @property
    def header(self) -> Header | None:
        """The header of its file, if it was just read."""
        return next((header for header in self.headers if header.path == self.path), None)

    @property
    def is_included(self) -> bool:
        """Whether it ships with the program."""
        return self.origin in (Origin.STARTER, Origin.INCLUDED)

    @property
    def can_generate(self) -> bool:
        """Whether images can be generated with it: alone, or with components from other files."""
        return self.role in _GENERATING and self.family in FAMILIES

    @property
    def is_unet(self) -> bool:
        """Whether it is a U-Net that was trained here, the other network of its family."""
        return self.family == PIXEL.name and self.metadata.get("modelspec.architecture") == UNET_ARCHITECTURE

    @property
    def family_title(self) -> str:
        """Its family as shown to the user; empty if it is unknown."""
        if self.is_unet:
            return "pixel U-Net"
        return FAMILIES[self.family].title if self.family in FAMILIES else ""

    def json(self, key: str) -> Any:
        """The value of `diffstudio.<key>` in the metadata. CheckpointDamaged if it is missing or not JSON."""
        try:
            return json.loads(self.metadata[f"diffstudio.{key}"])
        except (KeyError, ValueError, RecursionError) as error:
            raise CheckpointDamaged(
                f"{self.path.name} has no valid {key} in its metadata", remedy=TRAIN_OR_DOWNLOAD
            ) from error

    @property
    def parameterisation(self) -> Parameterisation:
        """What the network of a diffusion model trained here predicts; the clean image if its header has no entry.

        CheckpointDamaged or ValueError for an invalid header.
        """
        if "diffstudio.prediction" not in self.metadata:
            return CLEAN_IMAGE
        return Parameterisation.from_json(self.json("prediction"))

    @property
    def enlarges(self) -> bool:
        """Whether it can enlarge any image: an upscaler, or a checkpoint trained here with an upper level."""
        if self.family != PIXEL.name:  # whose metadata need not be loaded
            return self.role is Role.UPSCALER
        return "diffstudio.upper" in self.metadata

    @property
    def upper_factor(self) -> int:
        """How many times as large as its base's the images of the upper level are; 0 for a checkpoint without one."""
        if "diffstudio.upper" not in self.metadata:
            return 0
        try:
            return int(self.json("upper")["network"]["size"]) // int(self.json("network")["size"])
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise CheckpointDamaged(
                f"The header of {self.path.name} has no valid upper", remedy=TRAIN_OR_DOWNLOAD
            ) from error

    def output_format(self, channels: int) -> OutputFormat:
        """The output format of a checkpoint trained here; 8 bits and the network's `channels` if its header has none.

        CheckpointDamaged, KeyError, TypeError or ValueError for an invalid header.
        """
        if "diffstudio.pixels" not in self.metadata:
            return OutputFormat(channels)
        output = OutputFormat.from_json(self.json("pixels"))
        if output.channels != channels:
            raise ValueError(f"its header says {count_of(output.channels, 'channel')}, but its network has {channels}")
        return output


def with_detection(checkpoint: Checkpoint, found: Detection) -> Checkpoint:
    """The record with the result of detection, and the size that goes with its family."""
    checkpoint = replace(
        checkpoint,
        role=found.role,
        family=found.family,
        prediction=found.prediction,
        inpainting=found.inpainting,
        layout=found.layout,
        reason=found.reason,
        edition=found.edition,
        control_types=found.control_types,
        supported=found.supported,
    )
    if not checkpoint.can_generate:
        return checkpoint
    width, height = _resolution(checkpoint)
    conditioning = Conditioning.NONE if FAMILIES[checkpoint.family].unconditional else Conditioning.TEXT
    checkpoint = replace(checkpoint, conditioning=conditioning, width=width, height=height)
    return checkpoint if checkpoint.edition else _with_named_edition(checkpoint)


def _with_named_edition(checkpoint: Checkpoint) -> Checkpoint:
    """Add the edition in its metadata or its name; a sentence in `reason` where neither has it and it matters."""
    texts = checkpoint.metadata.get("modelspec.architecture", ""), checkpoint.title, checkpoint.name
    edition = named_edition(checkpoint.family, *texts)
    if not is_unclear(checkpoint.family, edition):
        return replace(checkpoint, edition=edition)
    unclear = "Neither its name nor its metadata says whether it is Turbo or Base."
    return replace(checkpoint, reason=f"{checkpoint.reason} {unclear}")


def _resolution(checkpoint: Checkpoint) -> tuple[int, int]:
    """Training size in px: from ModelSpec, else the family's; 0 if unknown."""
    declared = re.fullmatch(
        r"(\d{2,5})(?:x(\d{2,5}))?", checkpoint.metadata.get("modelspec.resolution", "").lower().replace(" ", "")
    )
    if declared is not None:
        width, height = int(declared[1]), int(declared[2] or declared[1])
        if 64 <= width <= 4096 and 64 <= height <= 4096:
            return width, height
    side = FAMILIES[checkpoint.family].side
    if checkpoint.family == "sd2" and checkpoint.prediction == "eps":
        side = 512  # 2.0-base, 2.1-base and the inpainting model
    return side, side

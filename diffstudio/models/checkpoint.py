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
from diffstudio.models.detection.detect import detect
from diffstudio.models.detection.families_table import FAMILIES, UNKNOWN
from diffstudio.models.detection.prediction_type import prediction_from_weights, prediction_from_yaml
from diffstudio.models.detection.types import Detection, Layout, Role
from diffstudio.models.files.safetensors_header import DTYPE_BITS, TensorEntry, gc_paused, read_header
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


_CALLED_ALIKE = re.compile(
    r"(diffusion_pytorch_model|pytorch_model|model|adapter_model)([.-](fp16|fp32|bf16|non_ema))*"
)
_CONFIGS = ("config.json", "adapter_config.json")  # beside them: diffusers', transformers' and peft's


@gc_paused()
def read_checkpoint(path: Path, *, origin: Origin | None = None) -> Checkpoint:
    """The record of one `.safetensors` file. Raises CheckpointMissing, CheckpointDamaged.

    A file that was not made here is taken for what its tensors look like; `reason` says why, also where that is nothing known.
    """
    tensors, metadata = read_header(path)
    about = path.stat()
    held = _bytes_by_dtype(tensors)
    checkpoint = Checkpoint(
        path=path,
        name=name_of(path),
        title=metadata.get("modelspec.title", "").strip()[:200] or name_of(path),
        family=UNKNOWN,
        conditioning=Conditioning.NONE,
        classes=(),
        width=0,
        height=0,
        parameters=sum(size * 8 // DTYPE_BITS[dtype] for dtype, size in held.items()),
        dtype=max(held, key=lambda dtype: held[dtype], default="F32"),
        size_bytes=about.st_size,
        origin=origin or Origin.IMPORTED,
        modified=about.st_mtime,
        metadata=metadata,
    )
    if "diffstudio.format" in metadata:
        return _made_here(checkpoint, origin)
    found = detect({name: entry.shape for name, entry in tensors.items()}, metadata)
    return described(checkpoint, with_prediction(found, path, tensors))


def name_of(path: Path) -> str:
    """Of a file: its own, or its folder's where all are called alike (`control_canny/diffusion_pytorch_model.safetensors`)."""
    stem = path.name.removesuffix(path.suffix)
    alike = _CALLED_ALIKE.fullmatch(stem) is not None and any(path.with_name(name).is_file() for name in _CONFIGS)
    return path.absolute().parent.name if alike else stem


def described(checkpoint: Checkpoint, found: Detection) -> Checkpoint:
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


def with_prediction(
    found: Detection, path: Path, tensors: Mapping[str, TensorEntry], begin: int | None = None
) -> Detection:
    """Where the header leaves open what a U-Net predicts: what lies beside the file and in it, as `prediction_within` takes it."""
    if found.family not in ("sd1", "sd2", "sdxl") or found.prediction == "v" or found.role not in _DRAWING:
        return found
    prediction, why = prediction_from_yaml(path)
    if not prediction and not found.prediction:
        prediction, why = prediction_from_weights(path, tensors, begin)
    if not prediction and not found.prediction:
        prediction, why = "v", "whether it predicts eps or v is not said, and most of its kind predict v"
    return replace(found, prediction=prediction, reason=f"{found.reason.rstrip('.')}; {why}.") if prediction else found


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


def _bytes_by_dtype(tensors: Mapping[str, TensorEntry]) -> dict[str, int]:
    held: dict[str, int] = {}
    for dtype, _, start, end in tensors.values():
        held[dtype] = held.get(dtype, 0) + end - start
    return held


def _made_here(checkpoint: Checkpoint, origin: Origin | None) -> Checkpoint:
    written = checkpoint.json("format")
    if type(written) is not int:
        raise CheckpointDamaged(
            f"{checkpoint.path.name} does not say of what format it is", remedy="Train or download it again"
        )
    if written > FORMAT:
        raise CheckpointDamaged(f"{checkpoint.path.name} was made by a newer diffstudio", remedy="Update the program")
    about = checkpoint.json("model")
    try:
        width, height = int(about["width"]), int(about["height"])
        if not (1 <= width <= LARGEST_SIDE and 1 <= height <= LARGEST_SIDE):
            raise ValueError("its size makes no sense")
        return replace(
            checkpoint,
            family=str(about["family"]),
            conditioning=Conditioning(about["conditioning"]),
            classes=tuple(str(name) for name in about.get("classes", ())),
            width=width,
            height=height,
            origin=origin or Origin.TRAINED,
        )
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointDamaged(
            f"{checkpoint.path.name} does not describe its model", str(error)[:200], "Train or download it again"
        ) from error

"""What a person can ask of files of weights: convert, merge, fuse LoRAs, prune, export.

No torch before one is carried out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.types import Layout, Role
from diffstudio.models.tools.prune import prunable_bytes
from diffstudio.models.tools.spec import Method, Precision, ToolProgress, precision_of
from diffstudio.studio.library.importing import FOLDERS

_FAMILIES_IN_ONE = ("sd1", "sd2", "sdxl", "sdxl_refiner")  # that have a single-file format
_CONVERTED = (
    Role.CHECKPOINT,
    Role.NETWORK,
    Role.LORA,
    Role.EMBEDDING,
    Role.VAE,
    Role.CONTROLNET,
    Role.TEXT_ENCODER,
    Role.UPSCALER,
)


class Tool(StrEnum):
    CONVERT = "convert"
    MERGE = "merge"
    FUSE_LORA = "fuse-lora"
    PRUNE = "prune"
    EXPORT = "export"


@dataclass(frozen=True, slots=True)
class ConvertRequest:
    """A safetensors file with the same weights."""

    checkpoint: Checkpoint
    target: Path
    precision: Precision = Precision.KEEP


@dataclass(frozen=True, slots=True)
class MergeRequest:
    """One checkpoint of two, or of three where a difference is added. `beyond` allows shares outside 0 to 1."""

    inputs: tuple[Checkpoint, ...]
    target: Path
    share: float = 0.5
    method: Method = Method.WEIGHTED_SUM
    precision: Precision = Precision.KEEP
    beyond: bool = False


@dataclass(frozen=True, slots=True)
class FuseLoraRequest:
    """A checkpoint with LoRAs written into its weights, each with its factor."""

    checkpoint: Checkpoint
    loras: tuple[tuple[Checkpoint, float], ...]
    target: Path
    precision: Precision = Precision.KEEP


@dataclass(frozen=True, slots=True)
class PruneRequest:
    """What draws, alone. With `ema` the averaged weights take the place of the others."""

    checkpoint: Checkpoint
    target: Path
    precision: Precision = Precision.KEEP
    ema: bool = False


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """A diffusers folder."""

    checkpoint: Checkpoint
    target: Path
    precision: Precision = Precision.KEEP


WeightRequest: TypeAlias = ConvertRequest | MergeRequest | FuseLoraRequest | PruneRequest | ExportRequest


def carry_out(request: WeightRequest) -> ToolProgress:
    """How much is done, from 0 to 1; at last what was made. Closed before its end, it leaves nothing. DiffstudioError."""
    match request:
        case ConvertRequest():
            from diffstudio.models.tools.convert import convert

            yield from convert(request.checkpoint, request.target, request.precision)
        case MergeRequest():
            from diffstudio.models.tools.merge import merge

            yield from merge(
                request.inputs, request.target, request.share, request.method, request.precision, beyond=request.beyond
            )
        case FuseLoraRequest():
            from diffstudio.models.tools.fuse_lora import fuse_lora

            yield from fuse_lora(request.checkpoint, request.loras, request.target, request.precision)
        case PruneRequest():
            from diffstudio.models.tools.prune import prune

            yield from prune(request.checkpoint, request.target, request.precision, ema=request.ema)
        case ExportRequest():
            from diffstudio.models.library.library import Library
            from diffstudio.models.tools.export import export
            from diffstudio.studio.settings import load_settings

            library = Library(load_settings().folders)
            yield from export(request.checkpoint, request.target, request.precision, library=library)


# ---- what can be asked of a file, as its record tells ----------------------------------------------------------------


def offered(checkpoint: Checkpoint, others: Sequence[Checkpoint]) -> tuple[Tool, ...]:
    """`others` are the models beside it, without which nothing can be merged.

    Reads the header: not for the window's thread.
    """
    can = [
        (Tool.CONVERT, bool(precisions(checkpoint))),
        (Tool.MERGE, bool(mergeable(checkpoint, others))),
        (Tool.FUSE_LORA, bool(fusable(checkpoint, others))),
        (Tool.PRUNE, bool(prunable_bytes(checkpoint))),
        (Tool.EXPORT, exported(checkpoint)),
    ]
    return tuple(tool for tool, possible in can if possible)


def precisions(checkpoint: Checkpoint) -> tuple[Precision, ...]:
    """What it can be stored in that it is not; as it is, first, where another container is what changes."""
    if checkpoint.layout is Layout.GGUF or checkpoint.role not in _CONVERTED:
        return ()
    if checkpoint.layout is Layout.FOLDER and checkpoint.family not in _FAMILIES_IN_ONE:
        return ()
    small = checkpoint.layout is Layout.OURS or not checkpoint.can_generate
    other = [
        one
        for one in (Precision.FP16, Precision.BF16, Precision.FP32, *(() if small else (Precision.FP8,)))
        if one is not precision_of(checkpoint)
    ]
    return (Precision.KEEP, *other) if checkpoint.layout in (Layout.PICKLE, Layout.FOLDER) else tuple(other)


def mergeable(checkpoint: Checkpoint, others: Sequence[Checkpoint]) -> list[Checkpoint]:
    """Those it can be merged with."""
    if not _opened(checkpoint) or not checkpoint.can_generate or checkpoint.family == "diffusers":
        return []
    return [
        other
        for other in others
        if other.path != checkpoint.path
        and other.can_generate
        and _opened(other)
        and other.family == checkpoint.family
        and other.prediction in (checkpoint.prediction, "")
        and (checkpoint.inpainting or not other.inpainting)
        and (checkpoint.family != "pixel" or _alike(checkpoint, other))
    ]


def fusable(checkpoint: Checkpoint, others: Sequence[Checkpoint]) -> list[Checkpoint]:
    """The LoRAs that may be written into it."""
    if not _opened(checkpoint) or not checkpoint.can_generate or checkpoint.family in ("pixel", "diffusers"):
        return []
    return [
        other
        for other in others
        if other.role is Role.LORA
        and other.layout not in (Layout.GGUF, Layout.PICKLE)
        and other.family in (checkpoint.family, "unknown")
    ]


def exported(checkpoint: Checkpoint) -> bool:
    """Whether a diffusers folder can be made of it."""
    return (
        checkpoint.can_generate
        and checkpoint.family in _FAMILIES_IN_ONE
        and checkpoint.layout in (Layout.ORIGINAL, Layout.DIFFUSERS)
    )


def _opened(checkpoint: Checkpoint) -> bool:
    return checkpoint.layout not in (Layout.GGUF, Layout.PICKLE)


def _alike(one: Checkpoint, other: Checkpoint) -> bool:
    """Trained here, with one network and one tokenizer."""
    return one.classes == other.classes and all(
        one.metadata.get(f"diffstudio.{key}") == other.metadata.get(f"diffstudio.{key}")
        for key in ("network", "tokenizer", "schedule")
    )


# ---- where it goes ---------------------------------------------------------------------------------------------------


def home_of(role: Role, folder: Path) -> Path:
    """Where files of that role lie in a folder of models."""
    return folder / FOLDERS.get(role, "")


def proposed(name: str, home: Path, *, is_folder: bool = False) -> Path:
    """A free place for what is made: `name.safetensors`, or `name-2.safetensors`."""
    plain = re.sub(r'[\\/:*?"<>|\x00-\x1f]', "-", name).strip(" .")[:150] or "model"
    ending, number = "" if is_folder else ".safetensors", 1
    target = home / f"{plain}{ending}"
    while os.path.lexists(target):
        number += 1
        target = home / f"{plain}-{number}{ending}"
    return target

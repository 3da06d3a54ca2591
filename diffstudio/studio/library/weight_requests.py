"""Requests to the weight tools (convert, merge, fuse LoRAs, prune, export), and which tools fit a model file.

No torch is imported before a request is carried out.
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
from diffstudio.models.detection.families_table import family_of, has_weight_tools, is_trained_here
from diffstudio.models.detection.types import Layout, Role
from diffstudio.models.tools.prune import prunable_bytes
from diffstudio.models.tools.spec import Method, Precision, ToolProgress, precision_of
from diffstudio.studio.library.importing import FOLDERS

_SINGLE_FILE_FAMILIES = ("sd1", "sd2", "sdxl", "sdxl_refiner")  # whose diffusers folders have a single-file format
_CONVERTIBLE_ROLES = (
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
    FIT_STEPS = "fit-steps"  # is a job of its own, not a WeightRequest


@dataclass(frozen=True, slots=True)
class ConvertRequest:
    """Write the same weights to a safetensors file, in another precision if that is given."""

    checkpoint: Checkpoint
    target: Path
    precision: Precision = Precision.KEEP


@dataclass(frozen=True, slots=True)
class MergeRequest:
    """Merge two checkpoints, or three for add difference.

    `share` is the multiplier M; `beyond` allows values outside 0 to 1.
    """

    inputs: tuple[Checkpoint, ...]
    target: Path
    share: float = 0.5
    method: Method = Method.WEIGHTED_SUM
    precision: Precision = Precision.KEEP
    beyond: bool = False


@dataclass(frozen=True, slots=True)
class FuseLoraRequest:
    """Fuse LoRAs, each with its weight, into the weights of a new checkpoint."""

    checkpoint: Checkpoint
    loras: tuple[tuple[Checkpoint, float], ...]
    target: Path
    precision: Precision = Precision.KEEP


@dataclass(frozen=True, slots=True)
class PruneRequest:
    """Keep only the weights that inference needs; with `ema`, the EMA weights in place of the raw ones."""

    checkpoint: Checkpoint
    target: Path
    precision: Precision = Precision.KEEP
    ema: bool = False


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """Write a diffusers folder."""

    checkpoint: Checkpoint
    target: Path
    precision: Precision = Precision.KEEP


WeightRequest: TypeAlias = ConvertRequest | MergeRequest | FuseLoraRequest | PruneRequest | ExportRequest


def carry_out(request: WeightRequest) -> ToolProgress:
    """Yield the progress, 0 to 1, and finally the ToolResult. Closed early, it leaves no file. DiffstudioError."""
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


# ---- which tools fit a model file, judged by its record --------------------------------------------------------------


def available_tools(checkpoint: Checkpoint, others: Sequence[Checkpoint]) -> tuple[Tool, ...]:
    """The tools that can be used on a model; `others` are the models to merge it with, and the LoRAs to fuse into it.

    Reads the header: not for the window's thread.
    """
    possible = [
        (Tool.CONVERT, bool(available_precisions(checkpoint))),
        (Tool.MERGE, bool(mergeable(checkpoint, others))),
        (Tool.FUSE_LORA, bool(fusable(checkpoint, others))),
        (Tool.PRUNE, bool(prunable_bytes(checkpoint))),
        (Tool.EXPORT, is_exportable(checkpoint)),
        (Tool.FIT_STEPS, steps_can_be_fitted(checkpoint)),
    ]
    return tuple(tool for tool, fits in possible if fits)


def available_precisions(checkpoint: Checkpoint) -> tuple[Precision, ...]:
    """The precisions that a model can be converted to, except its present one; KEEP first where the file format changes."""
    if checkpoint.layout is Layout.GGUF or checkpoint.role not in _CONVERTIBLE_ROLES:
        return ()
    if checkpoint.layout is Layout.FOLDER and checkpoint.family not in _SINGLE_FILE_FAMILIES:
        return ()
    small = checkpoint.layout is Layout.OURS or not checkpoint.can_generate
    other = [
        one
        for one in (Precision.FP16, Precision.BF16, Precision.FP32, *(() if small else (Precision.FP8,)))
        if one is not precision_of(checkpoint)
    ]
    return (Precision.KEEP, *other) if checkpoint.layout in (Layout.PICKLE, Layout.FOLDER) else tuple(other)


def mergeable(checkpoint: Checkpoint, others: Sequence[Checkpoint]) -> list[Checkpoint]:
    """The checkpoints that it can be merged with."""
    if not _has_editable_layout(checkpoint) or not checkpoint.can_generate or not has_weight_tools(checkpoint.family):
        return []
    return [
        other
        for other in others
        if other.path != checkpoint.path
        and other.can_generate
        and _has_editable_layout(other)
        and other.family == checkpoint.family
        and other.prediction in (checkpoint.prediction, "")
        and (checkpoint.inpainting or not other.inpainting)
        and (not is_trained_here(checkpoint.family) or _have_same_network(checkpoint, other))
    ]


def fusable(checkpoint: Checkpoint, others: Sequence[Checkpoint]) -> list[Checkpoint]:
    """The LoRAs that can be fused into it."""
    if (
        not _has_editable_layout(checkpoint)
        or not checkpoint.can_generate
        or is_trained_here(checkpoint.family)
        or not has_weight_tools(checkpoint.family)
    ):
        return []
    return [
        other
        for other in others
        if other.role is Role.LORA
        and other.layout not in (Layout.GGUF, Layout.PICKLE)
        and other.family in (checkpoint.family, "unknown")
    ]


def steps_can_be_fitted(checkpoint: Checkpoint) -> bool:
    """Whether its images are sampled step by step here, from a prompt alone."""
    family = family_of(checkpoint.family)
    return (
        checkpoint.can_generate
        and not checkpoint.inpainting
        and family is not None
        and not family.one_call
        and not family.text_only
    )


def is_exportable(checkpoint: Checkpoint) -> bool:
    """Whether it can be exported as a diffusers folder."""
    return checkpoint.is_unet or (
        checkpoint.can_generate
        and checkpoint.family in _SINGLE_FILE_FAMILIES
        and checkpoint.layout in (Layout.ORIGINAL, Layout.DIFFUSERS)
    )


def _has_editable_layout(checkpoint: Checkpoint) -> bool:
    return checkpoint.layout not in (Layout.GGUF, Layout.PICKLE)


def _have_same_network(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether two checkpoints trained here have the same network, tokenizer, schedule and classes."""
    return one.classes == other.classes and all(
        one.metadata.get(f"diffstudio.{key}") == other.metadata.get(f"diffstudio.{key}")
        for key in ("network", "tokenizer", "schedule")
    )


# ---- output path -----------------------------------------------------------------------------------------------------


def folder_for(role: Role, folder: Path) -> Path:
    """The subfolder of a models folder for models of this role."""
    return folder / FOLDERS.get(role, "")


def free_path(name: str, folder: Path, *, is_folder: bool = False) -> Path:
    """A path for the new model that does not exist yet: `name.safetensors`, or `name-2.safetensors` and so on."""
    plain = re.sub(r'[\\/:*?"<>|\x00-\x1f]', "-", name).strip(" .")[:150] or "model"
    ending, number = "" if is_folder else ".safetensors", 1
    target = folder / f"{plain}{ending}"
    while os.path.lexists(target):
        number += 1
        target = folder / f"{plain}-{number}{ending}"
    return target

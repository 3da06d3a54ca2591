"""What the tools on files of weights are asked for and what they have made. No torch."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

from diffstudio.errors import BadRequest
from diffstudio.models.checkpoint import Checkpoint


class Precision(StrEnum):
    """How numbers are stored."""

    KEEP = "keep"  # as they are
    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    FP8 = "fp8"  # float8_e4m3fn for the matrices of networks and text encoders, 16 bits for all else


class Container(StrEnum):
    """What holds the weights."""

    FILE = "file"  # one .safetensors file
    FOLDER = "folder"  # a diffusers folder


class Method(StrEnum):
    """How checkpoints are merged: m is the share."""

    WEIGHTED_SUM = "weighted sum"  # a (1 - m) + b m
    ADD_DIFFERENCE = "add difference"  # a + m (b - c)


@dataclass(frozen=True, slots=True)
class Made:
    """What lies on the disk now, and what a person should know about it, in sentences."""

    path: Path
    size_bytes: int
    notes: tuple[str, ...] = ()


Making: TypeAlias = Generator["float | Made", None, None]  # how much is done, from 0 to 1; at last what was made

BITS = {Precision.FP32: 32, Precision.FP16: 16, Precision.BF16: 16, Precision.FP8: 8}
_STORED = {"F32": Precision.FP32, "F16": Precision.FP16, "BF16": Precision.BF16, "F8_E4M3": Precision.FP8}


def precision_of(checkpoint: Checkpoint) -> Precision | None:
    """What most of it is stored in; None for what is none of these."""
    return _STORED.get(checkpoint.dtype)


def estimated_bytes(checkpoint: Checkpoint, precision: Precision) -> int:
    """What the same weights would take, about."""
    return checkpoint.size_bytes if precision is Precision.KEEP else checkpoint.parameters * BITS[precision] // 8


def checked_file(target: Path) -> Path:
    """BadRequest for what is not called like a safetensors file, which is what would be in it."""
    if target.suffix.lower() != ".safetensors":
        raise BadRequest(
            f"{target.name[:80]!r} is no name for it",
            "what is written is a safetensors file",
            f"Call it {target.stem[:80] or 'model'}.safetensors",
        )
    return target.absolute()

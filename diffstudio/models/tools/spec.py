"""Precisions, merge methods and results of the tools that write weight files. No torch."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

from diffstudio.errors import BadRequest, must_be_between
from diffstudio.models.checkpoint import Checkpoint


class Precision(StrEnum):
    """The number format that weights are stored in."""

    KEEP = "keep"  # as stored
    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    FP8 = "fp8"  # float8_e4m3fn for the matrices of networks and text encoders, 16 bits for everything else


class Container(StrEnum):
    """The storage of a checkpoint."""

    FILE = "file"  # one .safetensors file
    FOLDER = "folder"  # a diffusers folder


class Method(StrEnum):
    """How checkpoints are merged, with m the share."""

    WEIGHTED_SUM = "weighted sum"  # a (1 - m) + b m
    ADD_DIFFERENCE = "add difference"  # a + m (b - c)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The file or folder that a tool has written, with notes for the user, a sentence each."""

    path: Path
    size_bytes: int
    notes: tuple[str, ...] = ()


ToolProgress: TypeAlias = Generator["float | ToolResult", None, None]  # progress from 0 to 1, then the result

LARGEST_FACTOR = 1000  # that weights are multiplied by
SPARE_BYTES = 32 << 20  # left free on the disk
BITS = {Precision.FP32: 32, Precision.FP16: 16, Precision.BF16: 16, Precision.FP8: 8}
_STORED = {"F32": Precision.FP32, "F16": Precision.FP16, "BF16": Precision.BF16, "F8_E4M3": Precision.FP8}


def precision_of(checkpoint: Checkpoint) -> Precision | None:
    """The precision that most of its weights are stored in; None for other formats."""
    return _STORED.get(checkpoint.dtype)


def estimated_bytes(checkpoint: Checkpoint, precision: Precision) -> int:
    """Roughly the size of the same weights in that precision."""
    return checkpoint.size_bytes if precision is Precision.KEEP else checkpoint.parameters * BITS[precision] // 8


def check_share(share: float, beyond: bool) -> None:
    """BadRequest for a share outside 0 to 1, or with `beyond` outside -1,000 to 1,000; NaN is."""
    if not abs(share) <= LARGEST_FACTOR:
        least, most = (-LARGEST_FACTOR, LARGEST_FACTOR) if beyond else (0, 1)
        raise BadRequest(f"The share is {share:g}", must_be_between(f"{least:,}", f"{most:,}"), "Choose another one")
    if not beyond and not 0 <= share <= 1:
        raise BadRequest(
            f"A share of {share:g} is not between 0 and 1",
            "it would extrapolate",
            "Choose a share from 0 to 1, or allow extrapolation",
        )


def checked_file(target: Path) -> Path:
    """The absolute path. BadRequest unless it ends in `.safetensors`."""
    if target.suffix.lower() != ".safetensors":
        raise BadRequest(
            f"{target.name[:80]!r} does not end in .safetensors",
            "the tool writes a safetensors file",
            f"Name it {target.stem[:80] or 'model'}.safetensors",
        )
    return target.absolute()

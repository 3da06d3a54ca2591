"""Guess, without loading torch, whether this machine has a GPU: good enough for a hint in the window."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

_DRIVER_FILES = {
    "linux": (Path("/dev/nvidia0"), Path("/dev/kfd")),  # NVIDIA's driver, AMD's compute driver
    "win32": (Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "nvcuda.dll",),
}

_GPUS = Path("/dev")


def gpu_count() -> int:
    """How many GPUs there seem to be that training can use side by side: NVIDIA's on Linux, else one or none."""
    found = sum(file.name.removeprefix("nvidia").isdecimal() for file in _GPUS.glob("nvidia*"))
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if found and chosen is not None:
        found = min(found, len([name for name in chosen.split(",") if name.strip()]))
    return found or int(seems_accelerated())


def seems_accelerated() -> bool:
    """Whether there seems to be a GPU that torch can use."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    return any(file.exists() for file in _DRIVER_FILES.get(sys.platform, ()))

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


def seems_accelerated() -> bool:
    """Whether there seems to be a GPU that torch can use."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    return any(file.exists() for file in _DRIVER_FILES.get(sys.platform, ()))

"""What this machine seems to have, told without loading torch: good enough for a sentence, not for arithmetic."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

_SIGNS = {
    "linux": (Path("/dev/nvidia0"), Path("/dev/kfd")),  # NVIDIA's driver, AMD's compute driver
    "win32": (Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "nvcuda.dll",),
}


def seems_accelerated() -> bool:
    """Whether there is a graphics processor that torch can usually compute on."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    return any(sign.exists() for sign in _SIGNS.get(sys.platform, ()))

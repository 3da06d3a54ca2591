"""Masks that were painted in the window, kept under the hash of what they are, so that a request that names one can be made again."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from diffstudio import paths
from diffstudio.errors import StorageProblem


def keep_mask(png: bytes) -> Path:
    """Where the mask lies now; the same mask lies in one place however often it is kept. StorageProblem when it cannot be written."""
    path = paths.data() / "masks" / f"{hashlib.sha256(png).hexdigest()[:24]}.png"
    if path.is_file() and path.stat().st_size == len(png):
        return path
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(png)
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise StorageProblem(
            "The mask cannot be kept",
            f"{path.parent}: {error.strerror or error}",
            "Free some space or allow writing there",
        ) from error
    return path

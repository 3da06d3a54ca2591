"""Store masks and images made in the window under their hash, so that requests that name them can be repeated."""

from __future__ import annotations

import hashlib
from pathlib import Path

from diffstudio import paths
from diffstudio.atomic import write_bytes
from diffstudio.storage_errors import storage_errors

_MASKS, _PASTED = "masks", "pasted"  # folders


def keep_mask(png: bytes) -> Path:
    """Save a mask and return its path; the same mask is stored once.

    StorageProblem when it cannot be written.
    """
    return _keep(png, _MASKS, "The mask could not be saved")


def is_kept_mask(path: Path) -> bool:
    """Whether a file is one that `keep_mask` wrote: its name is a hash, and means nothing to a person."""
    return path.parent == paths.data() / _MASKS


def is_pasted(path: Path) -> bool:
    """Whether `keep_pasted` saved it."""
    return path.parent == paths.data() / _PASTED


def keep_pasted(png: bytes) -> Path:
    """Save an image that was pasted or dropped without a file, as `keep_mask` does."""
    return _keep(png, _PASTED, "The pasted image could not be saved")


def _keep(png: bytes, folder: str, failed: str) -> Path:
    path = paths.data() / folder / f"{hashlib.sha256(png).hexdigest()[:24]}.png"
    if path.is_file() and path.stat().st_size == len(png):
        return path
    with storage_errors(failed, path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, png, failed)
    return path

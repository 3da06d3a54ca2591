"""The disk that training runs and their prepared images take, and clearing the latter. No torch."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from diffstudio import paths


@dataclass(frozen=True, slots=True)
class DiskUse:
    """In bytes. `prepared` images in the cache are shared by the runs on a folder, and made again when needed."""

    runs: tuple[tuple[Path, int], ...]  # the largest first
    prepared: int
    free: int


def disk_use(runs: Path) -> DiskUse:
    """What the runs in a folder, and all prepared images, take."""
    with contextlib.suppress(OSError):
        runs.mkdir(parents=True, exist_ok=True)
    folders = [path for path in _entries(runs) if path.is_dir()]
    sizes = sorted(((path, size_on_disk(path)) for path in folders), key=lambda item: (-item[1], item[0]))
    return DiskUse(tuple(sizes), size_on_disk(_prepared_folder()), _free(runs))


def size_on_disk(folder: Path) -> int:
    """The bytes that the files of a folder take; a file with several names in it counts once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                status = os.lstat(os.path.join(parent, name))
                if status.st_nlink > 1 and (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
                total += status.st_size
    return total


def clear_prepared_images() -> int:
    """Delete the prepared images of all folders; returns the bytes that were freed.

    A run that is training keeps those that it has open; a resumed run prepares its images again, from their folder.
    """
    before = size_on_disk(_prepared_folder())
    for file in _entries(_prepared_folder()):
        if file.suffix == ".npy":
            with contextlib.suppress(OSError):  # in use on Windows
                file.unlink()
    return before - size_on_disk(_prepared_folder())


def _prepared_folder() -> Path:
    return paths.prepared_images()


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _free(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0

"""The disk that training runs and their prepared images take, and clearing the latter. No torch."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from diffstudio import paths
from diffstudio.errors import StorageProblem
from diffstudio.storage_errors import storage_problem


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


@dataclass(frozen=True, slots=True)
class Cleared:
    """The bytes that were freed, and why some files could not be deleted."""

    freed: int
    problem: StorageProblem | None = None


def clear_prepared_images() -> Cleared:
    """Delete the prepared images of all folders.

    A run that is training keeps those that it has open; a resumed run prepares its images again, from their folder.
    """
    before, problem = size_on_disk(_prepared_folder()), None
    for file in _entries(_prepared_folder()):
        if file.suffix == ".npy":
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                if sys.platform != "win32":  # where a run has it open
                    what = f"{file.name} of the prepared images could not be deleted"
                    problem = storage_problem(what, file.parent, error)
    return Cleared(before - size_on_disk(_prepared_folder()), problem)


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

"""Checks where a Lab job may write. No torch."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from filelock import FileLock

from diffstudio import paths
from diffstudio.atomic import make_folder
from diffstudio.errors import BadRequest
from diffstudio.storage_errors import storage_errors
from diffstudio.studio.runs.process import is_locked

_SCRATCH, _LOCK = "scratch-", ".lock"
_JUST_MADE_SECONDS = 60  # the lock of a younger folder may not be taken yet
OTHER_FOLDER = "Choose another folder for the result"


def default_out(folder: Path) -> Path:
    """A new folder for a comparison of models of this folder."""
    name = f"compare {folder.resolve().name}"
    number = 1
    while (path := paths.lab() / (name if number == 1 else f"{name} {number}")).exists():
        number += 1
    return path


def check_place(out: Path | None, folders: Iterable[Path]) -> None:
    """BadRequest if the folder of a result is one of these folders of images, or inside one."""
    for folder in folders:
        if out is not None and not folder.is_file() and out.resolve().is_relative_to(folder.resolve()):
            raise BadRequest(
                not_written_to(out),
                f"it is inside the folder of images {folder}, and its files would be read as images of that folder",
                OTHER_FOLDER,
            )


def check_inputs(out: Path, names: Iterable[str], inputs: Iterable[Path]) -> None:
    """BadRequest if one of the inputs is among the files of a result, or inside one of its folders."""
    folder, names = out.resolve(), tuple(names)
    for path in inputs:
        if not (found := path.resolve()).is_relative_to(folder):
            continue
        if any(fnmatch(first, name) for first in found.relative_to(folder).parts[:1] for name in names):
            raise BadRequest(not_written_to(out), f"it would replace {path}, which it is made from", OTHER_FOLDER)


def not_written_to(out: Path) -> str:
    return f"The result cannot be written to {out}"


@contextmanager
def scratch_folder(job: str) -> Iterator[str]:
    """A folder for the files of a job that are deleted at its end, or by the next job if its process was killed.

    StorageProblem.
    """
    folder = make_folder(paths.cache())
    _delete_abandoned(folder)
    with storage_errors(f"No files can be written in {folder}", folder):
        made = tempfile.TemporaryDirectory(prefix=f"{_SCRATCH}{job}-", dir=folder, ignore_cleanup_errors=True)
    with made as path, FileLock(Path(path) / _LOCK, thread_local=False):
        yield path


def _delete_abandoned(folder: Path) -> None:
    """Delete scratch folders whose processes were killed: the system has released their locks."""
    for lock in folder.glob(f"{_SCRATCH}*/{_LOCK}"):
        with suppress(OSError):  # its job has just ended
            if time.time() - lock.stat().st_mtime > _JUST_MADE_SECONDS and not is_locked(lock):
                shutil.rmtree(lock.parent, ignore_errors=True)

"""Checks where a Lab job may write. No torch."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from diffstudio import paths
from diffstudio.atomic import make_folder
from diffstudio.errors import BadRequest
from diffstudio.storage_errors import storage_errors

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
        if out is not None and out.resolve().is_relative_to(folder.resolve()):
            raise BadRequest(
                not_written_to(out),
                f"it is inside the folder of images {folder}, and its files would be read as images of that folder",
                OTHER_FOLDER,
            )


def not_written_to(out: Path) -> str:
    return f"The result cannot be written to {out}"


def scratch_folder(job: str) -> tempfile.TemporaryDirectory[str]:
    """A folder for the files of a job that are deleted at its end, for a `with`. StorageProblem."""
    folder = make_folder(paths.cache())
    with storage_errors(f"No files can be written in {folder}", folder):
        return tempfile.TemporaryDirectory(prefix=f"{job}-", dir=folder, ignore_cleanup_errors=True)

"""Checks a file that an option names for a result, before the work for it begins."""

from __future__ import annotations

import os
from pathlib import Path

from diffstudio.atomic import check_writable
from diffstudio.errors import IS_A_FOLDER, BadRequest
from diffstudio.storage_errors import not_written, storage_errors


def check_output_file(path: Path, *, begins: str, force: bool) -> None:
    """Create the folder of a file of text that a verb is to write, and check that it can be written there.

    An earlier file of the same kind, whose text `begins` like the new one, is replaced. BadRequest for any other file
    that exists, unless `force`, and for a folder. StorageProblem.
    """
    from diffstudio.studio.generation.output_files import exists_without_force

    if path.is_dir():
        raise BadRequest(not_written(path), IS_A_FOLDER, "Name a file in it")
    if os.path.lexists(path) and not force and not _begins_with(path, begins.encode()):
        raise exists_without_force(path)
    with storage_errors(f"{path} cannot be written", path.parent):
        check_writable(path)


def _begins_with(path: Path, text: bytes) -> bool:
    if not path.is_file():  # a device could be read without an end
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(text)) == text
    except OSError:
        return False

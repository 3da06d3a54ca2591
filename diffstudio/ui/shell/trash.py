"""Moves files and folders to the system's trash."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from PySide6.QtCore import QFile, QStandardPaths

from diffstudio.errors import StorageProblem


def move_to_trash(paths: Sequence[Path]) -> None:
    """Move all of them, the first one first. StorageProblem names the one that stays where it is, and why."""
    with suppress(OSError):  # on a new account the folder that holds the trash may not exist yet
        Path(QStandardPaths.writableLocation(QStandardPaths.StandardLocation.GenericDataLocation)).mkdir(
            parents=True, exist_ok=True
        )
    for path in paths:
        if why := _why_not_moved(path):
            raise StorageProblem(
                f"{path.name} could not be moved to the trash", why, f"Delete {path} in the file manager"
            )


def _why_not_moved(path: Path) -> str:
    """Move a file or folder to the trash; returns why that is impossible, or an empty text."""
    file = QFile(str(path))
    if file.moveToTrash():
        return ""
    return "its drive has none" if file.error() is QFile.FileError.NoError else file.errorString().rstrip(".")

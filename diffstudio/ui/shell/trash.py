"""Moves files and folders to the desktop's trash."""

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
        file = QFile(str(path))
        if not file.moveToTrash():
            raise StorageProblem(
                f"{path.name} could not be moved to the trash",
                file.errorString().rstrip(".") if file.error() is not QFile.FileError.NoError else "its drive has none",
                f"Delete {path} in the file manager",
            )

"""Moves files and folders to the system trash."""

from __future__ import annotations

from pathlib import Path

from diffstudio.errors import StorageProblem


def move_to_system_trash(path: Path, failed: str, remedy: str = "") -> None:
    """Move a file or folder to the system trash. It may take as long as copying.

    StorageProblem(`failed`, the reason, `remedy`) when that is impossible, as on a drive without a trash.
    """
    from send2trash import send2trash

    try:
        send2trash(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageProblem(failed, reason, remedy or f"Delete {path} in the file manager") from error

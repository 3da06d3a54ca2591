"""What every reader of weights files needs: a file's size and stamp, and the errors for files that are missing or
damaged.

No torch.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from diffstudio.errors import CheckpointDamaged, CheckpointMissing

DOWNLOAD_AGAIN = "Download it again"
TRUNCATED = "it was cut short"


class FileStamp(NamedTuple):
    """By which it is known whether a file has changed since it was read."""

    size_bytes: int
    modified_ns: int  # since the epoch


def file_stamp(path: Path) -> FileStamp | None:
    """None for a file that is missing or cannot be reached."""
    try:
        about = path.stat()
    except OSError:
        return None
    return FileStamp(about.st_size, about.st_mtime_ns)


def regular_file_size(path: Path) -> int:
    """In bytes. CheckpointDamaged for a folder, a pipe or a device; OSError where there is no such file."""
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):  # opening a pipe would block forever
        raise CheckpointDamaged(
            f"{path.name} is not a weights file",
            "it is a folder" if stat.S_ISDIR(about.st_mode) else "it is not a plain file",
            "Choose another file",
        )
    return about.st_size


@contextmanager
def reading(path: Path, file_format: str = "") -> Iterator[None]:
    """Turns OSError into CheckpointMissing or, for a file that is there, CheckpointDamaged."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointMissing(
            f"There is no checkpoint at {path}", remedy="Check the name, or choose another"
        ) from None
    except OSError as error:
        raise damaged(path, f"it cannot be read ({(error.strerror or str(error)).lower()})", file_format) from error


def damaged(path: Path, why: str, file_format: str = "") -> CheckpointDamaged:
    """The error for a file that cannot be read, or is not of the format that its suffix promises."""
    what = f"{path.name} is damaged or not a {file_format} file" if file_format else f"{path.name} cannot be read"
    return CheckpointDamaged(what, why[:200].rstrip("."), DOWNLOAD_AGAIN)


def first_line(error: Exception) -> str:
    """Of its message, at most 200 characters: torch's go on for pages."""
    return (str(error).splitlines() or [""])[0][:200]

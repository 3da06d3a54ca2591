"""Shared by all readers of weights files: size and stamp of a file, JSON beside it, errors for missing and damaged files.

No torch is imported here.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from diffstudio.errors import (
    IS_A_FOLDER,
    NOT_A_JSON_OBJECT,
    NOT_A_PLAIN_FILE,
    CheckpointDamaged,
    CheckpointMissing,
    UnexpectedValue,
    why_unreadable,
)
from diffstudio.storage_errors import is_forbidden

DOWNLOAD_AGAIN = "Download it again"
CHOOSE_OR_DOWNLOAD = "Choose another file, or download it again if it was a model"
TRUNCATED = "it was cut short"
TOO_LARGE = "it is too large"
_LARGEST_JSON_BYTES = 8 << 20  # the index of a model in many files has some hundred thousand bytes
EARLIER_OR_DOWNLOAD = "Choose an earlier checkpoint of the run, or download it again"


class FileStamp(NamedTuple):
    """Size and time of a file, to detect whether it has changed since it was read."""

    size_bytes: int
    modified_ns: int  # since the epoch


def file_stamp(path: Path) -> FileStamp | None:
    """The stamp of a file; None if it is missing or cannot be reached."""
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
            not_weights(path), IS_A_FOLDER if stat.S_ISDIR(about.st_mode) else NOT_A_PLAIN_FILE, "Choose another file"
        )
    return about.st_size


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns OSError into CheckpointMissing or, for a file that is there, into what `refused` returns."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointMissing(
            f"There is no checkpoint at {path}", remedy="Check the name, or choose another"
        ) from None
    except OSError as error:
        raise refused(path, error) from error


def read_json(path: Path, most_bytes: int = _LARGEST_JSON_BYTES) -> Any:
    """What a JSON file holds. CheckpointMissing, and CheckpointDamaged for one that is too large as well."""
    try:
        if regular_file_size(path) > most_bytes:
            raise UnexpectedValue(TOO_LARGE)
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointMissing(f"{path} does not exist", remedy="Download the folder again") from None
    except OSError as error:
        raise refused(path, error) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointDamaged(f"{path} cannot be read", why_unreadable(error), DOWNLOAD_AGAIN) from error


def read_json_object(path: Path) -> dict[str, Any]:
    """As `read_json`, for a configuration. CheckpointDamaged for a list or a single value too."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise CheckpointDamaged(f"{path} cannot be read", NOT_A_JSON_OBJECT, DOWNLOAD_AGAIN)
    return found


def refused(path: Path, error: OSError) -> CheckpointDamaged:
    """The error for a file that the operating system does not read: it may be a healthy one."""
    remedy = "Change its permissions" if is_forbidden(error) else "Check the disk, or download it again"
    return CheckpointDamaged(f"{path.name} cannot be read", why_unreadable(error), remedy)


def not_read(path: Path, error: Exception) -> CheckpointDamaged:
    """The error for a file that a library cannot read."""
    return refused(path, error) if isinstance(error, OSError) else damaged(path, first_line(error))


def damaged(path: Path, why: str, file_format: str = "", remedy: str = DOWNLOAD_AGAIN) -> CheckpointDamaged:
    """The error for a file that cannot be read, or is not of the format that its suffix promises."""
    what = f"{path.name} is damaged or not a {file_format} file" if file_format else f"{path.name} cannot be read"
    return CheckpointDamaged(what, why[:200].rstrip("."), remedy)


def not_weights(path: Path) -> str:
    return f"{path.name} is not a weights file"


def nonfinite(name: str) -> str:
    return f"{name} contains NaN or Inf values"


def first_line(error: Exception) -> str:
    """The first line of an error's message, at most 200 characters; torch's messages can fill pages."""
    return (str(error).splitlines() or [""])[0][:200]

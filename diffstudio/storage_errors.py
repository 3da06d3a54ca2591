"""Turns errors of the operating system and SQLite when files are written into errors that can be shown to the user."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffstudio.errors import DISK_FULL, FREE_SPACE, BadRequest, StorageProblem

_DISK_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def storage_errors(what: str, path: Path) -> Iterator[None]:
    """Turn every OSError and SQLite error in the block into a StorageProblem: `what` failed, at `path`."""
    try:
        yield
    except sqlite3.Error as error:
        full = sqlite_code(error) == sqlite3.SQLITE_FULL
        remedy = FREE_SPACE if full else "Close other programs that use it, and try again"
        raise StorageProblem(what, DISK_FULL if full else str(error), remedy) from error
    except OSError as error:
        raise storage_problem(what, path, error) from error


def sqlite_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code for an error; 0 for errors that Python raises itself."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def disk_is_full(error: OSError) -> bool:
    """Whether a write failed because the disk or a quota is full."""
    return error.errno in _DISK_FULL


def is_forbidden(error: OSError) -> bool:
    """Whether permissions are what the system refuses a file for."""
    return error.errno in _FORBIDDEN


def storage_problem(what: str, path: Path, error: OSError) -> StorageProblem:
    """The StorageProblem for an OSError, with its reason and remedy."""
    if disk_is_full(error):
        return StorageProblem(what, DISK_FULL, FREE_SPACE)
    match error.errno:
        case _ if is_forbidden(error):
            return StorageProblem(
                what, f"no permission to write to {path}", "Change its permissions, or choose another folder"
            )
        case errno.EEXIST | errno.ENOTDIR:
            return StorageProblem(what, f"{path} is not a folder", "Choose another folder")
        case errno.ENAMETOOLONG:
            return StorageProblem(what, "its name is too long", "Choose a shorter one")
        case _:
            return StorageProblem(what, error.strerror or str(error), f"Check that {path} can be reached")


def not_written(path: Path) -> str:
    """The sentence of a StorageProblem, with the file's name without its folder."""
    return f"{path.name} could not be written"


def already_exists(path: Path) -> BadRequest:
    return BadRequest(f"{path} already exists", "existing files are never overwritten", "Choose another name")

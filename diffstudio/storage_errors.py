"""Turns errors of the operating system and SQLite when files are written into errors that can be shown to the user."""

from __future__ import annotations

import errno
import os
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


def storage_problem(
    what: str, path: Path, error: OSError, *, when_full: str = FREE_SPACE, elsewhere: str = "Choose another folder"
) -> StorageProblem:
    """The StorageProblem for an OSError at `path`, with its reason and remedy.

    `when_full` is what to do when the disk is full, and `elsewhere` how to write to another place.
    """
    if disk_is_full(error):
        return StorageProblem(what, DISK_FULL, when_full)
    match error.errno:
        case errno.EROFS:
            return StorageProblem(what, f"{path} is on a read-only file system", elsewhere)
        case _ if is_forbidden(error):
            return StorageProblem(
                what,
                f"no permission to write to {path}",
                f"Change its permissions, or {elsewhere[:1].lower()}{elsewhere[1:]}",
            )
        case errno.EEXIST | errno.ENOTDIR:
            return StorageProblem(what, f"{_in_the_way(path, error)} is not a folder", elsewhere)
        case errno.ELOOP:
            return StorageProblem(what, f"{_in_the_way(path, error)} is a link that leads back to itself", elsewhere)
        case errno.ENAMETOOLONG:
            return StorageProblem(what, "its name is too long", "Choose a shorter one")
        case _:
            return StorageProblem(what, error.strerror or str(error), f"Check that {path} can be reached")


def _in_the_way(path: Path, error: OSError) -> Path:
    """What is not a folder where one is needed: in the path that the system names, if it names one."""
    named = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else path
    found = next((one for one in (named, *named.parents) if os.path.lexists(one)), path)
    return path if os.path.isdir(found) else found


def not_written(path: Path) -> str:
    """The sentence of a StorageProblem, with the file's name without its folder."""
    return f"{path.name} could not be written"


def already_exists(path: Path) -> BadRequest:
    return BadRequest(f"{path} already exists", "existing files are never overwritten", "Choose another name")

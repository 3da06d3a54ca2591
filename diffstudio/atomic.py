"""Small files written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from diffstudio.errors import StorageProblem

_TRIES = 20  # at 10 ms each


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8 beside `path` and renames it: a reader, or a crash, meets the old file or the new one.

    StorageProblem, with the old file as it was and nothing left beside it, when that cannot be done.
    """
    beside = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")  # two may write at once
    try:
        with beside.open("w", encoding="utf-8", errors="surrogatepass") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        _rename(beside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise StorageProblem(
            f"{path} cannot be written", error.strerror or str(error), "Free some space, or choose another place"
        ) from error


def _rename(beside: Path, path: Path) -> None:
    """Windows refuses to replace a file while someone reads it, which nobody does for long."""
    for _ in range(_TRIES - 1):
        try:
            beside.replace(path)
            return
        except PermissionError:
            if os.name != "nt":
                raise
            time.sleep(0.01)
    beside.replace(path)


_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


@contextmanager
def told(what: str, place: Path) -> Iterator[None]:
    """Turn what disks and databases raise into a StorageProblem that says which, why, and what to do."""
    try:
        yield
    except sqlite3.Error as error:
        full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
        remedy = "Free some space and try again" if full else "Close other programs that use it, and try again"
        raise StorageProblem(what, "the disk is full" if full else str(error), remedy) from error
    except OSError as error:
        if error.errno in _FULL:
            raise StorageProblem(what, "the disk is full", "Free some space and try again") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StorageProblem(what, f"{place} may not be written to", "Choose another folder in Settings") from error
        raise StorageProblem(what, error.strerror or str(error), f"Look whether {place} can be reached") from error


def write_new(folder: Path, name: str, suffix: str, write: Callable[[BinaryIO], None]) -> Path:
    """Write `folder/name.suffix`, or `name-2.suffix` when that is taken. The file appears whole or not at all."""
    part = folder / f".{os.getpid()}-{threading.get_ident()}.part"
    try:
        with part.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        return move_new(part, folder / f"{name}{suffix}")
    finally:
        part.unlink(missing_ok=True)


def move_new(source: Path, target: Path) -> Path:
    """Move a file to where none is: to `target`, or to the next free name like it. Atomic, and never over another."""
    number = 1
    while True:
        candidate = target if number == 1 else target.with_name(f"{target.stem}-{number}{target.suffix}")
        try:
            os.link(source, candidate)
        except FileExistsError:
            number += 1
        except OSError as error:
            if error.errno in _FULL or not source.exists():
                raise
            return _move_without_links(source, target, number)  # FAT and some network disks have none
        else:
            source.unlink()
            return candidate


def _move_without_links(source: Path, target: Path, number: int) -> Path:
    while True:
        candidate = target if number == 1 else target.with_name(f"{target.stem}-{number}{target.suffix}")
        try:
            os.close(os.open(candidate, os.O_CREAT | os.O_EXCL | os.O_WRONLY))  # the name is ours from here on
        except FileExistsError:
            number += 1
        else:
            try:
                shutil.move(source, candidate)
            except OSError:
                candidate.unlink(missing_ok=True)
                raise
            return candidate

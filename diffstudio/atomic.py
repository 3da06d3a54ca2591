"""Atomic writes: a file appears whole or not at all, even if the program is killed or the disk is full.

A file is first written under another name in the same folder (a *part file*), flushed to the disk, and then renamed.
Part files have random names, so that two writers never share one, and are locked while they are written:
`remove_part_files` deletes those that a killed process left behind, and leaves the others alone.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from diffstudio.storage_errors import already_exists, disk_is_full, storage_errors

if sys.platform != "win32":  # pragma: no branch
    import fcntl

_WINDOWS = sys.platform == "win32"
_PART_NAME = re.compile(r"\.diffstudio-[0-9a-f]{16}\.part")
_OLD_PART_NAME = re.compile(r".*\.(\d+-\d{6,}|(npy|png)\.\d+)\.part")  # of version 0.1, which did not lock them
_ABANDONED_SECONDS = 86_400.0  # without locks, a part file unchanged for this long counts as abandoned
_RENAME_TRIES = 20  # at 10 ms each


# ---- writing ---------------------------------------------------------------------------------------------------------


def write_text(path: Path, text: str, what: str = "", *, private: bool = False) -> None:
    """Write a file of UTF-8 text, replacing an older one. StorageProblem, with the older one intact, on failure."""
    with atomic_write(path, what, private=private) as file:
        file.write(text.encode("utf-8", "surrogatepass"))


def write_bytes(path: Path, data: bytes, what: str = "") -> None:
    """Write a file, replacing an older one. StorageProblem, with the older one intact, on failure."""
    with atomic_write(path, what) as file:
        file.write(data)


@contextmanager
def atomic_write(path: Path, what: str = "", *, overwrite: bool = True, private: bool = False) -> Iterator[BinaryIO]:
    """Open a binary file that becomes `path` at the end of the block; if the block raises, nothing changes.

    `file.name` is its name until then. A `private` file has mode 0600 from the start. StorageProblem (`what` failed) for
    every OSError, including those of the block; without `overwrite`, BadRequest if `path` exists.
    """
    with storage_errors(what or f"{path} cannot be written", path.parent):
        file = _new_part_file(path.parent, private)
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if sys.platform == "win32":  # pragma: no cover - an open file cannot be renamed there
                    file.close()
                _publish(Path(file.name), path, overwrite)
        finally:
            _remove(Path(file.name))


@contextmanager
def atomic_folder(path: Path, what: str = "") -> Iterator[Path]:
    """Create an empty folder that becomes `path` at the end of the block; if the block raises, it is deleted.

    BadRequest if `path` exists, StorageProblem (`what` failed) for every OSError, including those of the block.
    """
    with storage_errors(what or f"{path} cannot be written", path.parent):
        part, lock = _new_part_folder(path.parent)
        try:
            yield part
            for folder, _, names in os.walk(part):
                for name in names:
                    _sync(Path(folder, name), os.O_RDWR)
                _sync(Path(folder), os.O_RDONLY)
            _publish(part, path, overwrite=False)
        finally:
            if lock is not None:  # pragma: no branch - on Windows only
                os.close(lock)
            _remove(part)


def write_numbered(path: Path, write: Callable[[BinaryIO], None], what: str = "") -> Path:
    """Write `path`, or `name-2.suffix` and so on if it exists; returns the path. Never overwrites. StorageProblem."""
    with storage_errors(what or f"{path} cannot be written", path.parent):
        file = _new_part_file(path.parent)
        try:
            with file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
                if sys.platform == "win32":  # pragma: no cover - an open file cannot be renamed there
                    file.close()
                return move_numbered(Path(file.name), path)
        finally:
            _remove(Path(file.name))


def make_folder(path: Path) -> Path:
    """Create a folder and its missing parents; returns its path. StorageProblem."""
    with storage_errors(f"The folder {path} cannot be created", path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def check_writable(path: Path) -> None:
    """Create the folder of `path`, and raise OSError if no file can be written there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _new_part_file(path.parent) as file:
        pass
    _remove(Path(file.name))


def make_private(path: Path) -> None:
    """Let only its owner read and write a file (mode 0600), where the file system can. Never raises."""
    with suppress(OSError):
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            path.chmod(0o600)


def make_database_private(path: Path) -> None:
    """Create the file of an SQLite database with mode 0600, or give an existing one that mode. OSError.

    SQLite creates `-wal`, `-shm` and `-journal` files with the mode of the database; older ones are changed too.
    """
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT, 0o600))  # an empty file is an empty database
    for ending in ("", "-wal", "-shm", "-journal"):
        make_private(path.with_name(path.name + ending))


# ---- moving ----------------------------------------------------------------------------------------------------------


def replace(source: Path, target: Path) -> None:
    """Rename a file or folder, replacing an older file. OSError.

    On Windows that fails while another program reads the older file, so there it is retried for 0.2 s.
    """
    for _ in range(_RENAME_TRIES - 1):
        try:
            os.replace(source, target)
            break
        except PermissionError:
            if not _WINDOWS:
                raise
            time.sleep(0.01)
    else:
        os.replace(source, target)
    _sync(target.parent, os.O_RDONLY)


def rename(source: Path, target: Path) -> None:
    """Rename a file or folder within its disk; FileExistsError if `target` exists, also if it has only just appeared. OSError.

    On POSIX a plain rename overwrites, so there the new name is taken first: by a hard link, or an empty file or folder.
    """
    if _WINDOWS or is_same_but_for_case(source, target):
        os.rename(source, target)
    elif stat.S_ISDIR(source.lstat().st_mode):
        target.mkdir()
        _rename_onto(source, target, target.rmdir)
    else:
        try:
            os.link(source, target, follow_symlinks=False)
        except FileExistsError:
            raise
        except OSError:  # no hard links, as on FAT
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            _rename_onto(source, target, target.unlink)
        else:
            source.unlink()
    _sync(target.parent, os.O_RDONLY)


def is_same_but_for_case(source: Path, target: Path) -> bool:
    """Whether both names are entries of one file: where case is ignored, `Ink` exists when `ink` does."""
    with suppress(OSError):
        return source.name.casefold() == target.name.casefold() and os.path.samefile(source, target)
    return False


def _rename_onto(source: Path, reserved: Path, remove: Callable[[], None]) -> None:
    """Replace the empty file or folder that reserves a name; `remove` deletes it if that fails."""
    try:
        os.replace(source, reserved)
    except OSError:
        remove()
        raise


def link(source: Path, target: Path) -> bool:
    """Create a hard link. False where that is impossible: on another disk, on FAT, on some network shares."""
    try:
        os.link(source, target)
    except OSError:
        return False
    _sync(target.parent, os.O_RDONLY)
    return True


def replace_with_copy(source: Path, target: Path) -> None:
    """Replace `target` with `source`, by a hard link where possible and else by a copy. StorageProblem.

    OSError where `source` cannot be opened.
    """
    part = target.with_name(_part_name())
    if link(source, part):
        with storage_errors(f"{target} cannot be written", target.parent):
            try:
                replace(part, target)
            finally:
                _remove(part)  # renaming onto a hard link of the same file does nothing, and leaves both names
    else:
        with source.open("rb") as original, atomic_write(target) as copy:
            shutil.copyfileobj(original, copy)


def move_numbered(source: Path, target: Path) -> Path:
    """Move a file to `target`, or to `name-2.suffix` and so on if it exists; returns the path. Never overwrites. OSError.

    Atomic where the file system has hard links; else the target's name is reserved by an empty file first.
    """
    number = 1
    while True:
        candidate = _numbered(target, number)
        try:
            os.link(source, candidate)
        except FileExistsError:
            number += 1
        except OSError as error:
            if disk_is_full(error) or not source.exists():
                raise
            return _move_without_links(source, target, number)
        else:
            source.unlink()
            _sync(candidate.parent, os.O_RDONLY)
            return candidate


def _move_without_links(source: Path, target: Path, number: int) -> Path:
    """As `move_numbered`, from this number on."""
    while True:
        candidate = _numbered(target, number)
        try:
            os.close(os.open(candidate, os.O_CREAT | os.O_EXCL | os.O_WRONLY))  # reserves the name
        except FileExistsError:
            number += 1
        else:
            try:
                shutil.move(source, candidate)
            except OSError:
                candidate.unlink(missing_ok=True)
                raise
            return candidate


def free_name(path: Path) -> Path:
    """`path`, or the first of `name-2.suffix` and so on that does not exist."""
    number = 1
    while os.path.lexists(_numbered(path, number)):
        number += 1
    return _numbered(path, number)


def _numbered(path: Path, number: int) -> Path:
    return path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")


def _publish(part: Path, path: Path, overwrite: bool) -> None:
    """Rename a complete part file to its final name."""
    if overwrite:
        replace(part, path)
    elif os.path.lexists(path):
        raise already_exists(path)
    elif part.is_dir() or not link(part, path):
        if os.path.lexists(path):  # created by someone else in the meantime; renaming would overwrite it
            raise already_exists(path)
        replace(part, path)


# ---- part files ------------------------------------------------------------------------------------------------------


def remove_part_files(folders: Iterable[Path], cancelled: Callable[[], bool] = lambda: False) -> int:
    """Delete the part files below these folders whose writers were killed; returns their number. Never raises."""
    removed = 0
    for folder in folders:
        for current, subfolders, files in os.walk(folder):
            if cancelled():
                return removed
            parts = [name for name in (*subfolders, *files) if name.endswith(".part")]
            subfolders[:] = [name for name in subfolders if not name.endswith(".part")]
            removed += sum(_removed_if_abandoned(Path(current, name)) for name in parts)
    return removed


def _removed_if_abandoned(part: Path) -> bool:
    """Delete a part file if no writer holds its lock; without locks, if it is old."""
    try:
        if part.is_symlink() or not (_PART_NAME.fullmatch(part.name) or _OLD_PART_NAME.fullmatch(part.name)):
            return False
        with _lock_of(part) as locked:
            if locked is None or _OLD_PART_NAME.fullmatch(part.name):
                locked = _is_old(part)
            if locked:
                _remove(part)
    except OSError:
        return False
    return not part.exists()


@contextmanager
def _lock_of(part: Path) -> Iterator[bool | None]:
    """Try to lock a part file for the block: whether that succeeded, None where locks do not work."""
    if sys.platform == "win32":  # pragma: no cover - open files cannot be deleted there, which has the same effect
        yield part.is_file() or None
        return
    descriptor = os.open(part, os.O_RDONLY if part.is_dir() else os.O_RDWR)
    try:
        yield _locked(descriptor)
    finally:
        os.close(descriptor)


def _is_old(part: Path) -> bool:
    inside = part.rglob("*") if part.is_dir() else ()
    newest: float = max(path.lstat().st_mtime for path in (part, *inside))
    return time.time() - newest > _ABANDONED_SECONDS


def _part_name() -> str:
    return f".diffstudio-{secrets.token_hex(8)}.part"


def _new_part_file(folder: Path, private: bool = False) -> BinaryIO:
    """A new, locked part file, open for writing."""
    mode = 0o600 if private else 0o666  # less the umask
    while True:
        opened = open(folder / _part_name(), "xb", opener=lambda name, flags: os.open(name, flags, mode))  # noqa: SIM115
        file: BinaryIO = opened
        if _locked(file.fileno()) is not False and os.path.exists(file.name):
            return file
        file.close()  # `remove_part_files` deleted it between its creation and its locking


def _new_part_folder(folder: Path) -> tuple[Path, int | None]:
    """A new part folder and the descriptor that locks it; None on Windows, where folders cannot be opened."""
    while True:
        part = folder / _part_name()
        part.mkdir()
        if sys.platform == "win32":  # pragma: no cover
            return part, None
        with suppress(FileNotFoundError):  # `remove_part_files` deleted it between its creation and its locking
            descriptor = os.open(part, os.O_RDONLY)
            if _locked(descriptor) is not False and part.exists():
                return part, descriptor
            os.close(descriptor)


def _locked(descriptor: int) -> bool | None:
    """Lock an open file. False if someone else holds the lock, None if the file system has no locks."""
    if sys.platform == "win32":  # pragma: no cover
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _remove(path: Path) -> None:
    """Delete a part file or folder if possible."""
    with suppress(OSError):
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _sync(path: Path, flags: int) -> None:
    """Flush a file, or the entries of a folder, to the disk, where the system supports it."""
    if sys.platform == "win32" and flags == os.O_RDONLY:  # pragma: no cover - folders cannot be opened there
        return
    with suppress(OSError):
        descriptor = os.open(path, flags)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

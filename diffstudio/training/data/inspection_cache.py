"""What was found in the pixels of each image of a folder, kept in SQLite so that unchanged files are not read again.

The cache is one database for each folder, with a row for each image: its size and time of modification, and what was
found. Rows are written while the inspection runs, so one that was killed goes on where it was. A database that cannot
be used is deleted or done without: nothing depends on it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from diffstudio.imaging.value_range import Depth, SampleType
from diffstudio.training.data.folder_layout import ImageFile
from diffstudio.training.data.folder_report import ImageRecord, Skipped

FORMAT = 4  # raise it when the same file gives something else
COMMIT_SECONDS = 2.0  # between two; at most this much work is lost when the program is killed
KEPT_DAYS = 90  # since the last use of a database
_GIVEN_BY_FOLDER = ("path", "captions", "group", "split", "repeats", "mask")  # not derived from the pixels
_LIBRARIES = ("pillow", "imagecodecs", "pillow-heif")
_CREATE = (
    "CREATE TABLE IF NOT EXISTS images "
    "(path BLOB PRIMARY KEY, size INTEGER, modified INTEGER, found TEXT, prints BLOB) WITHOUT ROWID"
)


@dataclass(frozen=True, slots=True)
class Found:
    """What decoding one image gave."""

    record: ImageRecord | Skipped  # without captions and class
    fingerprint: bytes = b""
    notes: tuple[str, ...] = ()
    depth: Depth | None = None
    channels: tuple[Depth, ...] = ()  # of an array that is not an image
    lasting: bool = True  # False for a failure that may be gone the next time, such as a missing permission


class InspectionCache:
    """A database, or nothing where it cannot be opened. Used by one thread at a time."""

    def __init__(self, cache_folder: Path, folder: Path) -> None:
        self._unwritten: list[tuple[bytes, int, int, str, bytes]] = []
        self._committed = time.monotonic()
        self._database: sqlite3.Connection | None = None
        name = hashlib.sha256(os.fsencode(folder.resolve()) + _reader().encode()).hexdigest()[:32]
        file = cache_folder / f"{name}.sqlite"
        with contextlib.suppress(OSError):
            cache_folder.mkdir(parents=True, exist_ok=True)
            _delete_old(cache_folder)
            self._database = _opened(file)
            if self._database is None and file.exists():
                _delete(file)
                self._database = _opened(file)
            with contextlib.suppress(OSError):
                os.utime(file)  # the time of its last use

    def get(self, file: ImageFile) -> Found | None:
        """What was found in a file that has not changed since."""
        if self._database is None:
            return None
        try:
            row = self._database.execute(
                "SELECT found, prints FROM images WHERE path = ? AND size = ? AND modified = ?", _key(file)
            ).fetchone()
            return None if row is None else _from_row(file.path, *row)
        except (sqlite3.Error, ValueError, TypeError, KeyError):
            return None

    def put(self, file: ImageFile, found: Found) -> None:
        if self._database is None or not found.lasting or file.modified_ns < 0:
            return
        self._unwritten.append((*_key(file), json.dumps(_to_json(found)), found.fingerprint))
        if time.monotonic() - self._committed >= COMMIT_SECONDS:
            self._commit()

    def close(self) -> None:
        if self._database is not None:
            self._commit()
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = None

    def _commit(self) -> None:
        assert self._database is not None
        with contextlib.suppress(sqlite3.Error), self._database:  # a full disk: what was found is used all the same
            self._database.executemany("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?)", self._unwritten)
        self._unwritten.clear()
        self._committed = time.monotonic()


def _opened(file: Path) -> sqlite3.Connection | None:
    database = None
    try:
        database = sqlite3.connect(file, timeout=5, check_same_thread=False)  # a generator goes from thread to thread
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute(_CREATE)
        database.execute("SELECT found FROM images LIMIT 1").fetchone()
        return database
    except sqlite3.Error:
        if database is not None:
            database.close()
        return None


def _reader() -> str:
    """Changes when the same file may be read in another way."""
    return json.dumps([FORMAT, [field.name for field in dataclasses.fields(ImageRecord)], *map(_version, _LIBRARIES)])


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""


def _key(file: ImageFile) -> tuple[bytes, int, int]:
    return os.fsencode(file.path.as_posix()), file.size_bytes, file.modified_ns


def _to_json(found: Found) -> dict[str, Any]:
    if isinstance(found.record, Skipped):
        return {"why": found.record.why}
    values = {name: value for name, value in dataclasses.asdict(found.record).items() if name not in _GIVEN_BY_FOLDER}
    depth = dataclasses.astuple(found.depth) if found.depth is not None else None
    channels = [dataclasses.astuple(channel) for channel in found.channels]
    return {"record": values, "notes": found.notes, "depth": depth, "channels": channels}


def _from_row(path: Path, found: str, fingerprint: bytes) -> Found:
    values: Mapping[str, Any] = json.loads(found)
    if "why" in values:
        return Found(Skipped(path, values["why"]))
    pixels: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values["record"].items()
    }
    record = dataclasses.replace(ImageRecord(path, 0, 0, (), "", False), **pixels)
    depth = None if values["depth"] is None else _depth(values["depth"])
    return Found(record, fingerprint, tuple(values["notes"]), depth, tuple(map(_depth, values["channels"])))


def _depth(values: Sequence[Any]) -> Depth:
    kind, low, high, declared, not_numbers, inner = values
    return Depth(SampleType(kind), low, high, tuple(declared) if declared else None, not_numbers, tuple(inner))


def _delete_old(cache_folder: Path) -> None:
    for file in cache_folder.glob("*.sqlite"):
        with contextlib.suppress(OSError):
            if time.time() - file.stat().st_mtime > KEPT_DAYS * 86400:
                _delete(file)


def _delete(file: Path) -> None:
    for ending in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            file.with_name(file.name + ending).unlink()

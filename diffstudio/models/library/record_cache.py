"""A cache of the records of model files, from one run of the program to the next. No torch.

Parsing the header of Stable Diffusion XL takes tens of milliseconds, and a thousand files took many seconds at every
start. A record is valid while its file and the code that reads it are unchanged. Where the cache cannot be read or
written, headers are read.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from diffstudio import __version__, paths
from diffstudio.models.checkpoint import Checkpoint, Origin
from diffstudio.models.detection.types import Layout, Role
from diffstudio.networks.conditioning import Conditioning

FORMAT = 1
Stamp = tuple[Path, int, int]  # path, time of last change in ns, size in bytes
_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    path TEXT PRIMARY KEY, changed_ns INTEGER NOT NULL, size_bytes INTEGER NOT NULL, suggested TEXT NOT NULL,
    record TEXT NOT NULL, metadata TEXT NOT NULL) WITHOUT ROWID
"""
_ENUMS = {"conditioning": Conditioning, "origin": Origin, "role": Role, "layout": Layout}
_FIELDS = tuple(field.name for field in fields(Checkpoint) if field.name not in ("path", "metadata", "headers"))


class RecordCache:
    """The records of model files, in an SQLite database.

    A record also depends on what was known of its file before it was read (`suggested`): role, origin, config next to
    it.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file or paths.cache() / "library.sqlite"

    def records(self) -> dict[tuple[Stamp, str], Checkpoint]:
        """All records. Their metadata is loaded when it is first used."""
        found: dict[tuple[Stamp, str], Checkpoint] = {}
        with suppress(sqlite3.Error, OSError), closing(self._open()) as database:
            for path, changed, size, suggested, record in database.execute(
                "SELECT path, changed_ns, size_bytes, suggested, record FROM files"
            ):
                with suppress(ValueError, TypeError, KeyError, RecursionError):
                    stamp = Path(path), changed, size
                    found[stamp, suggested] = _checkpoint(Path(path), json.loads(record), _Metadata(self._file, path))
        return found

    def keep(self, new: Iterable[tuple[Stamp, str, Checkpoint]], gone: Iterable[Path]) -> None:
        """Store the records of new or changed files and drop those of deleted ones."""
        rows = [
            (str(path), changed, size, suggested, _to_json(checkpoint), json.dumps(dict(checkpoint.metadata)))
            for (path, changed, size), suggested, checkpoint in new
            if _is_text(str(path))
        ]
        with suppress(sqlite3.Error, OSError), closing(self._open()) as database, database:
            database.executemany(
                "DELETE FROM files WHERE path = ?", [(str(path),) for path in gone if _is_text(str(path))]
            )
            database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", rows)

    def _open(self) -> sqlite3.Connection:
        """An empty database if it was written by other code or is damaged."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        try:
            return self._prepared()
        except sqlite3.DatabaseError:
            self._file.unlink(missing_ok=True)
            return self._prepared()

    def _prepared(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._file, timeout=5)
        try:
            version = _version()
            if database.execute("PRAGMA user_version").fetchone()[0] != version:
                with database:
                    database.execute("DROP TABLE IF EXISTS files")
                    database.execute(_SCHEMA)
                    database.execute(f"PRAGMA user_version = {version}")
        except BaseException:  # whatever happened, an open connection would keep the file locked
            database.close()
            raise
        return database


class _Metadata(Mapping[str, str]):
    """A header's metadata, loaded from the cache on first use; some trainers write megabytes."""

    def __init__(self, file: Path, path: str) -> None:
        self._file, self._path = file, path
        self._metadata: dict[str, str] | None = None

    def _all(self) -> dict[str, str]:
        if self._metadata is None:
            self._metadata = {}
            with (
                suppress(sqlite3.Error, ValueError, RecursionError),
                closing(sqlite3.connect(self._file, timeout=5)) as database,
            ):
                for (text,) in database.execute("SELECT metadata FROM files WHERE path = ?", [self._path]):
                    stored = json.loads(text)
                    self._metadata = (
                        {str(key): str(value) for key, value in stored.items()} if isinstance(stored, dict) else {}
                    )
        return self._metadata

    def __getitem__(self, key: str) -> str:
        return self._all()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


def _to_json(checkpoint: Checkpoint) -> str:
    return json.dumps({name: getattr(checkpoint, name) for name in _FIELDS})


def _checkpoint(path: Path, stored: dict[str, Any], metadata: Mapping[str, str]) -> Checkpoint:
    values = {name: _ENUMS[name](stored[name]) if name in _ENUMS else stored[name] for name in _FIELDS}
    return Checkpoint(path=path, metadata=metadata, **values | {"classes": tuple(stored["classes"])})


def code_of_records() -> list[Path]:
    """The modules that a record depends on."""
    models = Path(__file__).parents[1]
    readers = sorted(file for package in ("files", "detection") for file in (models / package).glob("*.py"))
    return [
        models / "checkpoint.py",
        *(models / "library" / name for name in ("records.py", "folder_records.py", "blank_record.py")),
        models / "state_dicts" / "prefixes.py",
        *readers,
    ]


def _version() -> int:
    """31 bits that change when the format of the cache or the code that makes records does."""
    import zlib

    changed = [f"{file.name}{file.stat().st_mtime_ns}" for file in code_of_records() if file.is_file()]
    return zlib.crc32(f"{FORMAT} {__version__} {' '.join(changed)}".encode()) & 0x7FFFFFFF


def _is_text(name: str) -> bool:
    """SQLite stores no names that are not valid Unicode."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True

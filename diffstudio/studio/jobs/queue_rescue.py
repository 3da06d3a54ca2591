"""Put what can be read of a damaged queue into a new database, which then takes its place.

The new database is written first, whole or not at all, and the damaged one is moved aside last: a program that is killed
meanwhile loses nothing, and continues at its next start.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path

from diffstudio.atomic import free_name, make_database_private, replace

_COLUMNS = ("id", "place", "done", "attempts", "submitted", "request", "paused", "token", "kind", "restart")
_FILES_OF_A_DATABASE = ("-wal", "-shm", "")  # a log left behind would be read into the new database


def rescued_file(path: Path) -> Path:
    """Where the new database waits until it takes the place of the damaged one, `path`."""
    return path.with_name(f"{path.name}.rescued")


def write_rescued(path: Path, make_tables: Callable[[sqlite3.Connection], None]) -> None:
    """Write the new database beside the damaged one. SQLite's errors or OSError when that fails."""
    rows, paused = _readable(path)
    part = path.with_name(f"{path.name}.rescuing")
    _delete(part)
    make_database_private(part)
    with closing(sqlite3.connect(part, isolation_level=None)) as database:
        make_tables(database)
        database.execute("BEGIN")
        database.executemany(
            f"INSERT OR IGNORE INTO jobs ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})", rows
        )
        database.execute("UPDATE queue SET paused = ?", (paused,))
        database.execute("COMMIT")
    replace(part, rescued_file(path))


def swap_in_rescued(path: Path) -> Path:
    """Move the damaged database aside and the new one into its place; returns the damaged one's new path. OSError."""
    damaged = free_name(path.with_name(path.name + ".damaged"))
    for ending in _FILES_OF_A_DATABASE:
        if (file := Path(f"{path}{ending}")).exists():
            replace(file, Path(f"{damaged}{ending}"))
    replace(rescued_file(path), path)
    return damaged


def _readable(path: Path) -> tuple[Iterable[tuple[object, ...]], bool]:
    """The rows that can be read, from the first job on and from the last one back, and whether the queue was paused."""
    rows: dict[int, tuple[object, ...]] = {}
    paused = False
    for order in ("ASC", "DESC"):
        with suppress(sqlite3.Error, UnicodeDecodeError), closing(sqlite3.connect(path)) as database:
            database.text_factory = text_or_bytes
            present = {row[1] for row in database.execute("PRAGMA table_info(jobs)")}
            columns = (name if name in present else "''" for name in _COLUMNS)  # of older versions, which had fewer
            for row in database.execute(f"SELECT {', '.join(columns)} FROM jobs NOT INDEXED ORDER BY id {order}"):
                rows[row[0]] = row
    with suppress(sqlite3.Error, UnicodeDecodeError), closing(sqlite3.connect(path)) as database:
        paused = bool(database.execute("SELECT MAX(paused) FROM queue").fetchone()[0])
    return rows.values(), paused


def _delete(database: Path) -> None:
    for ending in (*_FILES_OF_A_DATABASE, "-journal"):
        Path(f"{database}{ending}").unlink(missing_ok=True)


def text_or_bytes(data: bytes) -> str | bytes:
    """A text of the database; one that is damaged stays as it is, so that its row alone cannot be read."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data

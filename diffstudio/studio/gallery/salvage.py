"""Rows that can still be read from a damaged gallery database.

Damage is local: SQLite refuses the pages that it hits, and reads the others. Every value is checked before it is used.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from diffstudio.studio.gallery.file_names import SUFFIXES, is_inside
from diffstudio.studio.gallery.sidecar import LONGEST_NOTE

_ERRORS = (sqlite3.Error, UnicodeDecodeError)  # the latter: SQLite quotes the damaged schema
_LARGEST_ID = 1 << 24
_MOST_FAILURES = 50_000  # queries that hit a damaged page, before the rest is given up


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 0


def _is_time(value: object) -> bool:
    return isinstance(value, (int, float)) and -1e11 < value < 1e11


def _is_image_path(value: object) -> bool:
    return isinstance(value, str) and (is_inside(value) or _is_place(value)) and value.lower().endswith(SUFFIXES)


def _is_place(value: object) -> bool:
    """Whether it is the path of a file or folder elsewhere."""
    return isinstance(value, str) and "\0" not in value and Path(value).is_absolute() and ".." not in Path(value).parts


def _is_request(value: object) -> bool:
    with suppress(ValueError, RecursionError):
        return value is None or (isinstance(value, str) and isinstance(json.loads(value), dict))
    return False


def _is_tags(value: object) -> bool:
    with suppress(ValueError, RecursionError):
        tags = json.loads(value) if isinstance(value, str) else None
        return isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)
    return False


_CHECKS: dict[str, Callable[[object], bool]] = {
    "id": lambda value: isinstance(value, int) and 0 < value < 1 << 62,
    "path": _is_image_path,
    "created": _is_time,
    "modified_ns": lambda value: isinstance(value, int),
    "size_bytes": _is_count,
    "width": _is_count,
    "height": _is_count,
    "prompt": _is_text,
    "negative": _is_text,
    "checkpoint": _is_text,
    "request": _is_request,
    "starred": lambda value: value in (0, 1),
    "trashed": lambda value: value is None or _is_time(value),
    "home": lambda value: value is None or _is_image_path(value),
    "note": lambda value: isinstance(value, str) and len(value) <= LONGEST_NOTE,
    "folder_id": lambda value: value is None or _is_text(value),
    "tags": _is_tags,
}
_DEFAULTS = {"note": "", "folder_id": None, "tags": "[]"}  # of columns that older databases lack
SALVAGED_COLUMNS = tuple(_CHECKS)


def salvaged_rows(database: Path) -> list[tuple[Any, ...]]:
    """The sound rows of `images`, as SALVAGED_COLUMNS; empty when nothing can be read. Never raises."""
    with suppress(*_ERRORS), closing(sqlite3.connect(database, timeout=5.0)) as connection:
        connection.execute("PRAGMA query_only = ON")
        names = [column[0] for column in connection.execute("SELECT * FROM images LIMIT 0").description]
        rows = (dict(zip(names, row, strict=True)) for row in _readable(connection, _last_id(connection)))
        folders = [Path(path) for path, _ in salvaged_folders(database)]
        return [values for row in rows if _is_in(row, folders) and (values := _checked(row)) is not None]
    return []


def salvaged_folders(database: Path) -> list[tuple[str, int]]:
    """The sound rows of `folders`. Never raises."""
    with suppress(*_ERRORS), closing(sqlite3.connect(database, timeout=5.0)) as connection:
        connection.execute("PRAGMA query_only = ON")
        rows = connection.execute("SELECT path, current FROM folders").fetchall()
        return [(path, current) for path, current in rows if _is_place(path) and current in (0, 1)]
    return []


def _is_in(row: dict[str, Any], folders: list[Path]) -> bool:
    """Whether an absolute path is in a folder of the gallery."""
    places = [Path(row[name]) for name in ("path", "home") if _is_place(row.get(name))]
    return all(any(place.is_relative_to(folder) for folder in folders) for place in places)


def _checked(row: dict[str, Any]) -> tuple[Any, ...] | None:
    values = _DEFAULTS | row
    if not all(name in values and check(values[name]) for name, check in _CHECKS.items()):
        return None
    return tuple(values[name] for name in SALVAGED_COLUMNS)


def _last_id(connection: sqlite3.Connection) -> int:
    for statement in ("SELECT max(id) FROM images", "SELECT seq FROM sqlite_sequence WHERE name = 'images'"):
        with suppress(*_ERRORS):
            for (last,) in connection.execute(statement):
                if isinstance(last, int) and 0 < last < _LARGEST_ID:
                    return last
    return _LARGEST_ID


def _readable(connection: sqlite3.Connection, last: int) -> Iterator[tuple[Any, ...]]:
    """The rows, by halving each range of ids that meets a damaged page."""
    failures = 0
    ranges = [(1, last)]
    while ranges and failures < _MOST_FAILURES:
        low, high = ranges.pop()
        try:
            rows = connection.execute("SELECT * FROM images NOT INDEXED WHERE id BETWEEN ? AND ?", (low, high))
            found = rows.fetchall()
        except _ERRORS:
            failures += 1
            if low < high:
                middle = (low + high) // 2
                ranges += [(middle + 1, high), (low, middle)]
        else:
            yield from found

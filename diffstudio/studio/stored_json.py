"""Small JSON files of the program, each with a format version: read without trust, and set aside when unreadable."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffstudio.atomic import free_name, make_private, write_text
from diffstudio.atomic import replace as replace_file
from diffstudio.errors import NOT_A_JSON_OBJECT, why_unreadable, wrong_format
from diffstudio.storage_errors import storage_errors


@dataclass(frozen=True, slots=True)
class StoredObject:
    values: dict[str, Any] = field(default_factory=dict)  # empty without a file, or with one that cannot be read
    why: str = ""  # why the file cannot be read; otherwise empty


def read_object(path: Path, newest_format: int) -> StoredObject:
    """The JSON object in a private file, which may be missing, damaged, or of a newer program. Never raises."""
    make_private(path)  # it holds prompts
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return StoredObject()
    except (OSError, ValueError, RecursionError) as error:
        return StoredObject(why=why_unreadable(error))
    if not isinstance(values, dict):
        return StoredObject(why=NOT_A_JSON_OBJECT)
    stored = values.get("format", newest_format)
    if not isinstance(stored, int) or stored > newest_format:
        return StoredObject(why=wrong_format(stored, newest_format))
    return StoredObject(values)


def write_object(path: Path, values: dict[str, Any], what: str) -> None:
    """Write a private file. StorageProblem, beginning with `what`, when it cannot be written."""
    failed = f"{what} could not be written to {path}"
    with storage_errors(failed, path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(values, indent=2) + "\n", failed, private=True)


def set_aside(path: Path, what: str, why: str, instead: str) -> str:
    """Rename a file that cannot be read to `name.damaged`, and say so: `what` could not be read, so `instead`."""
    aside = free_name(path.with_name(path.name + ".damaged"))
    try:
        replace_file(path, aside)
        where = f" The old file is kept as {aside.name}."
    except OSError:
        where = ""
    return f"{what} could not be read ({why}), so {instead}.{where}"

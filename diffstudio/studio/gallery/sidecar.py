"""Sidecars: what is known of an image that its file does not hold, its star, note and tags, in a JSON file beside it.

`name.png.diffstudio.json`: `{"format": 1, "starred": true, "note": "…", "tags": ["…"]}`. The image itself is never rewritten: its
SHA-256 stays, and any format and any other program's image can have one. Keys that are unknown here are kept, and a
sidecar that cannot be read is renamed before another one takes its place. In the trash, `home` is the path that the
image had, and `deleted` the time when it was deleted.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from diffstudio.atomic import free_name, replace, write_text
from diffstudio.storage_errors import storage_errors
from diffstudio.studio.gallery.file_names import is_inside
from diffstudio.studio.metadata.metadata import storable
from diffstudio.studio.stored_values import StoredValues

SUFFIX = ".diffstudio.json"
FORMAT = 1
LONGEST_NOTE = 20_000  # characters
LONGEST_TAG = 100
MOST_TAGS = 200  # of one image
_LARGEST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Sidecar:
    starred: bool = False
    note: str = ""
    home: str = ""  # below the gallery's folder, with forward slashes
    deleted: float = 0.0  # seconds since the epoch
    tags: tuple[str, ...] = ()

    def with_tags(self, add: Iterable[str] = (), remove: Iterable[str] = ()) -> Sidecar:
        """The same with other tags. `Cat` and `cat` are the same tag."""
        gone = {tag.casefold() for tag in remove}
        return dataclasses.replace(
            self, tags=clean_tags([*(tag for tag in self.tags if tag.casefold() not in gone), *add])
        )


def clean_tags(tags: Iterable[object]) -> tuple[str, ...]:
    """Tags on one line each, without those that are there already; what is not text is left out."""
    cleaned: dict[str, str] = {}
    for tag in tags:
        text = " ".join(tag.split())[:LONGEST_TAG].strip() if isinstance(tag, str) else ""
        text = text.encode("utf-8", "ignore").decode().replace("\0", "")
        if text:
            cleaned.setdefault(text.casefold(), text)
    return tuple(cleaned.values())[:MOST_TAGS]


def tags_from_json(text: str) -> tuple[str, ...]:
    """The tags in a column of the gallery's database."""
    with suppress(ValueError, RecursionError):
        values = json.loads(text)
        return clean_tags(values) if isinstance(values, list) else ()
    return ()


def annotation_columns(sidecar: Sidecar) -> tuple[int, str, str]:
    """The columns starred, note and tags."""
    return int(sidecar.starred), sidecar.note, json.dumps(sidecar.tags, ensure_ascii=False)


def sidecar_of(image: Path) -> Path:
    return image.with_name(image.name + SUFFIX)


def read_sidecar(image: Path) -> Sidecar | None:
    """The sidecar of an image; None without one, or when it is damaged. A value of the wrong type is left out.

    What a database cannot hold, as half a surrogate pair, is replaced in the note, and left out of the rest.
    """
    values = _values(sidecar_of(image))
    if values is None:
        return None
    home, deleted = values.get("home"), values.get("deleted")
    return dataclasses.replace(
        _annotation(StoredValues(values)),
        home=home if isinstance(home, str) and is_inside(home) and home == storable(home) else "",
        deleted=float(deleted) if isinstance(deleted, (int, float)) and 0 < deleted < 1e11 else 0.0,
    )


def unusable_values(image: Path) -> list[str]:
    """What of the star, note and tags in the sidecar of an image is left out, by name."""
    values = StoredValues(_values(sidecar_of(image)) or {})
    _annotation(values)
    return values.unusable


def _annotation(values: StoredValues) -> Sidecar:
    return Sidecar(
        values.flag("starred", label="star"),
        storable(values.read("note", "", _text))[:LONGEST_NOTE],
        tags=clean_tags(values.each("tags", _text)),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def current_sidecar(image: Path, starred: object, note: str, tags: str) -> Sidecar:
    """What is known of an image now: its sidecar, which another program may have changed, or else its record's values."""
    found = read_sidecar(image)
    if found is None:
        return Sidecar(bool(starred), note, tags=tags_from_json(tags))
    return dataclasses.replace(found, home="", deleted=0.0)


def write_sidecar(image: Path, sidecar: Sidecar, *, moved_from: Path | None = None) -> None:
    """Write the sidecar of an image, or delete it if it would hold nothing. StorageProblem.

    `moved_from` is where the image was: the unknown keys of the sidecar there are kept too.
    """
    path = sidecar_of(image)
    kept = {name: value for name, value in asdict(sidecar).items() if value}
    before = (_values(sidecar_of(moved_from)) or {}) if moved_from is not None else {}
    values = before | (_values(path) or {}) | {"format": FORMAT}
    values = {name: value for name, value in values.items() if name not in Sidecar.__dataclass_fields__} | kept
    with storage_errors(f"{path} cannot be written", path.parent):
        set_aside_if_damaged(image)
        if values.keys() != {"format"}:
            text = json.dumps(values, ensure_ascii=False)
            write_text(path, (text if text == storable(text) else json.dumps(values)) + "\n")
        elif os.path.lexists(path):
            path.unlink(missing_ok=True)


def set_aside_if_damaged(image: Path) -> Path | None:
    """Rename a sidecar that cannot be read, so that nothing overwrites it: its new path, or None. OSError."""
    path = sidecar_of(image)
    if not path.is_file() or _values(path) is not None:
        return None
    aside = free_name(path.with_name(f"{path.name}.damaged"))
    replace(path, aside)
    return aside


def modified_ns(image: Path) -> int:
    """When the sidecar of an image was changed; 0 without one."""
    with suppress(OSError):
        return sidecar_of(image).stat().st_mtime_ns
    return 0


def _values(path: Path) -> dict[str, Any] | None:
    with suppress(OSError, ValueError, RecursionError):
        if path.is_file() and path.stat().st_size <= _LARGEST_BYTES:
            values = json.loads(path.read_text(encoding="utf-8"))
            return values if isinstance(values, dict) else None
    return None

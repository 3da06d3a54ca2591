"""Reads files with the captions of many images. No torch, and no trust.

`metadata.csv` and `metadata.jsonl` are those of Hugging Face's ImageFolder, in any subfolder: a `file_name` relative to
the file itself, and one of the keys of `caption_files` (https://huggingface.co/docs/datasets/image_dataset). Rows that
name the same image are alternatives. `meta_cap.json` and its like are kohya-ss's: an object whose keys are images.
"""

from __future__ import annotations

import csv
import json
import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import BinaryIO

from diffstudio.errors import NOT_A_JSON_OBJECT, NOT_A_PLAIN_FILE, NOT_UTF_8, unreadable
from diffstudio.training.data.captions.caption_files import (
    EMPTY,
    MAX_CAPTIONS,
    TAG_KEYS,
    TEXT_KEYS,
    captions_in,
    same_name,
)
from diffstudio.training.data.folder_report import Skipped

MAX_LINE_BYTES = 1024 * 1024
MAX_KOHYA_BYTES = 256 * 1024 * 1024  # read as a whole
FILE_NAME = "file_name"
_NAMES = re.compile(r"metadata\.(csv|jsonl)|(meta_[\w-]+|metadata)\.json", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Entry:
    """The captions of one image in one file."""

    path: str  # of the image inside the folder, with `/`; as kohya-ss writes it, perhaps without its suffix
    texts: tuple[str, ...]
    source: str  # `metadata.csv, key text`
    file: Path  # inside the folder


@dataclass(slots=True)
class Metadata:
    """The captions in all such files of a folder. Mutable: it is filled file by file, and entries are taken out."""

    entries: dict[str, Entry] = field(default_factory=dict)
    problems: list[Skipped] = field(default_factory=list)
    _matched: set[str] = field(default_factory=set)

    def of(self, path: Path) -> Entry | None:
        """The entry of an image inside the folder: the first with a caption, by its whole name or without its suffix."""
        keys = (same_name(path.as_posix()), same_name(path.with_suffix("").as_posix()))
        found = [key for key in keys if key in self.entries]
        self._matched.update(found)
        entries = [self.entries[key] for key in found]
        return next((entry for entry in entries if entry.texts), entries[0] if entries else None)

    def unmatched(self) -> Iterator[Skipped]:
        """Entries without an image; call it after `of` for every image."""
        for key, entry in self.entries.items():
            if key not in self._matched:
                yield Skipped(Path(entry.path), f"named in {entry.file.name}, but there is no such image")


def is_metadata(name: str) -> bool:
    return _NAMES.fullmatch(name) is not None


def read_metadata(folder: Path, file: Path, metadata: Metadata) -> None:
    """Add the entries of `file`, a path inside `folder`, to `metadata`. Never raises."""
    problems: Counter[str] = Counter()
    try:
        if not (folder / file).is_file():  # a pipe would block
            raise _Unusable(NOT_A_PLAIN_FILE)
        with (folder / file).open("rb") as opened:
            if not opened.peek(1):
                raise _Unusable(EMPTY)
            rows = {".csv": _csv_rows, ".jsonl": _jsonl_rows}.get(file.suffix.lower(), _kohya_rows)
            for row in rows(opened, problems):
                _add(folder, file, row, metadata, problems)
    except OSError as error:
        problems[unreadable(error)] += 1
    except _Unusable as error:
        problems[str(error)] += 1
    for why, count in problems.items():
        metadata.problems.append(Skipped(file, why if count == 1 else f"{why}, {count:,} times"))


class _Unusable(Exception):
    """A file or its rest that cannot be read; the text is a clause."""


def _add(folder: Path, file: Path, row: Mapping[object, object], metadata: Metadata, problems: Counter[str]) -> None:
    name = next((value for key, value in row.items() if str(key).strip().casefold() == FILE_NAME), None)
    if not isinstance(name, str) or not name.strip():
        problems[f"a row has no {FILE_NAME}"] += 1
        return
    path = path_in_folder(folder, file, name.strip())
    if path is None:
        metadata.problems.append(Skipped(Path(name), f"{file.name} names a file outside the folder"))
        return
    found = captions_in({key: value for key, value in row.items() if str(key).strip().casefold() != FILE_NAME})
    if found.problem or not found.texts:
        problems[found.problem or "a row has no caption"] += 1
    key = same_name(path)
    before = metadata.entries.get(key)
    texts = tuple(dict.fromkeys((*(before.texts if before else ()), *found.texts)))[:MAX_CAPTIONS]
    source = f"{file.name}, {found.source}" if found.source else before.source if before else ""
    metadata.entries[key] = Entry(path, texts, source, file)


def path_in_folder(folder: Path, file: Path, name: str) -> str | None:
    """The path of an image inside the folder, with `/`; None for one that leads outside."""
    name = name.replace("\\", "/")
    if PureWindowsPath(name).drive or name.startswith("/"):
        try:
            return Path(name).resolve().relative_to(folder.resolve()).as_posix()
        except (OSError, ValueError, RuntimeError):
            return None
    path = posixpath.normpath(posixpath.join(file.parent.as_posix(), name))
    return None if path == ".." or path.startswith("../") else path


def _lines(opened: BinaryIO) -> Iterator[str]:
    """Lines of UTF-8, with their ends. _Unusable for other text, and for a line of more than MAX_LINE_BYTES."""
    for number, line in enumerate(iter(lambda: opened.readline(MAX_LINE_BYTES + 1), b""), start=1):
        if len(line) > MAX_LINE_BYTES:
            raise _Unusable(f"its line {number:,} is longer than {MAX_LINE_BYTES // 1024:,} KiB; the rest is not used")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise _Unusable(f"its line {number:,} is not text in UTF-8; the rest is not used") from None


def _csv_rows(opened: BinaryIO, problems: Counter[str]) -> Iterator[dict[object, object]]:
    lines = _lines(opened)
    first = next(lines, "")
    separator = max(",;\t", key=first.count)
    rows = csv.reader(_rejoined(first, lines), delimiter=separator)
    try:
        header = next(rows, [])
        _check_columns(header)
        for row in rows:
            if row:
                yield dict(zip(header, row, strict=False))
                problems["a row has more cells than the first line"] += len(row) > len(header)
    except csv.Error as error:
        raise _Unusable(f"its line {rows.line_num:,} is not CSV ({error}); the rest is not used") from None
    finally:
        problems += Counter()  # drops zeros


def _rejoined(first: str, lines: Iterator[str]) -> Iterator[str]:
    yield first
    yield from lines


def _check_columns(header: list[str]) -> None:
    names = {name.strip().casefold() for name in header}
    if FILE_NAME not in names:
        raise _Unusable(f"it has no column {FILE_NAME}")
    if not names & {*TEXT_KEYS, *TAG_KEYS}:
        raise _Unusable(f"it has no column with captions, such as {', '.join((*TEXT_KEYS, *TAG_KEYS))}")


def _jsonl_rows(opened: BinaryIO, problems: Counter[str]) -> Iterator[dict[object, object]]:
    for number, line in enumerate(_lines(opened), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            problems[f"its line {number:,} is not JSON"] += 1
            continue
        if isinstance(row, dict):
            yield row
        else:
            problems["a line is not a JSON object"] += 1


def _kohya_rows(opened: BinaryIO, problems: Counter[str]) -> Iterator[dict[object, object]]:
    data = opened.read(MAX_KOHYA_BYTES + 1)
    if len(data) > MAX_KOHYA_BYTES:
        raise _Unusable(f"it is larger than {MAX_KOHYA_BYTES // 2**20:,} MiB")
    try:
        values = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise _Unusable(NOT_UTF_8) from None
    except (ValueError, RecursionError):
        raise _Unusable("it is not JSON") from None
    if not isinstance(values, dict):
        raise _Unusable(NOT_A_JSON_OBJECT)
    for name, about in values.items():
        if isinstance(about, dict) and {*TEXT_KEYS, *TAG_KEYS} & about.keys():
            yield {**about, FILE_NAME: name}
        else:
            problems["an entry is not an object with the caption of an image"] += 1

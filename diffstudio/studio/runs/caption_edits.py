"""Changes captions of training images in the files that they came from.

Each file is written atomically, in its own format: `.txt` and `.caption` with one caption a line, `.json` with its other
keys kept, rows of `metadata.csv` and `metadata.jsonl`, and kohya-ss's `meta_cap.json`. A caption that was put together
from a text and tags is split again. An image without a caption gets a `.txt` file next to it. Captions that cannot be
written without losing data are refused by name.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import os
import re
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffstudio.atomic import write_text
from diffstudio.errors import NOT_A_JSON_OBJECT, DiffstudioError, unreadable
from diffstudio.imaging.formats import looks_like_an_image
from diffstudio.paths import valid_utf8
from diffstudio.studio.runs.caption_values import set_captions
from diffstudio.training.data.captions.caption_files import CAPTION_SUFFIXES, clean, read_caption, same_name
from diffstudio.training.data.captions.caption_tables import (
    FILE_NAME,
    Entry,
    Metadata,
    is_metadata,
    path_in_folder,
    read_metadata,
)
from diffstudio.training.data.folder_layout import CaptionNames, is_caption_file
from diffstudio.training.data.folder_report import Skipped

Texts = tuple[str, ...]  # the captions of one image
FILES_AT_A_TIME = 50  # written between two progress reports


@dataclass(frozen=True, slots=True)
class EditResult:
    written: int  # images whose captions were changed
    refused: tuple[Skipped, ...] = ()  # images whose captions were left as they are


def with_replaced(texts: Iterable[str], find: str, replacement: str, *, match_case: bool = False) -> Texts:
    """Captions with every occurrence of `find` replaced, as plain text; captions that become empty are left out."""
    pattern = re.compile(re.escape(find), 0 if match_case else re.IGNORECASE)
    return cleaned_captions(pattern.sub(lambda _: replacement, text) for text in texts)


def with_added(texts: Texts, tag: str, *, at_start: bool = False) -> Texts:
    """Append a tag or words after a comma to captions without them; an image without a caption gets one."""
    tag = clean(tag).strip(", ")
    if not texts or not tag:
        return (tag,) if tag else texts
    result = []
    for text in texts:
        has = tag.casefold() in (part.strip().casefold() for part in text.split(","))
        result.append(text if has else f"{tag}, {text}" if at_start else f"{text.rstrip(', ')}, {tag}")
    return tuple(result)


def write_captions(folder: Path, edits: Mapping[Path, Texts]) -> Generator[int, None, EditResult]:
    """Write the new captions of images inside `folder`; yields how many are done. Never raises for a single file.

    The generator's value is the result. Images that share one caption file must get the same captions.
    """
    refused: list[Skipped] = []
    written = 0
    files: dict[Path, _Files] = {}
    for inside in {parent for image in edits for parent in image.parents}:
        files[inside] = _Files(folder, inside)
    metadata = Metadata()
    for file in sorted(file for one in files.values() for file in one.metadata):
        read_metadata(folder, file, metadata)
    in_files: defaultdict[Path, dict[Path, Texts]] = defaultdict(dict)
    in_metadata: defaultdict[Path, dict[Path, Texts]] = defaultdict(dict)
    for image, texts in edits.items():
        own = files[image.parent].caption_of(image)
        entry = metadata.of(image)
        if own is None and entry is not None and entry.texts:
            if others := _of_the_same_entry(entry, files[image.parent], image, edits):
                refused.append(Skipped(image, f"its caption in {entry.file.name} is shared with {', '.join(others)}"))
                continue
            in_metadata[entry.file][image] = cleaned_captions(texts)
        else:
            in_files[own or files[image.parent].new_caption(image)][image] = cleaned_captions(texts)
    for number, (file, images) in enumerate(in_files.items(), start=1):
        why = _written_beside(folder, file, files[file.parent], images)
        if why:
            refused += (Skipped(image, why) for image in images)
        else:
            written += len(images)
        if number % FILES_AT_A_TIME == 0:
            yield written + len(refused)
    for file, images in in_metadata.items():
        not_written = _written_in_metadata(folder, file, images)
        refused += not_written
        written += len(images) - len(not_written)
        yield written + len(refused)
    return EditResult(written, tuple(refused))


def _of_the_same_entry(entry: Entry, files: _Files, image: Path, edits: Mapping[Path, Texts]) -> list[str]:
    """Other images that share a kohya-ss entry without suffix by their name, but do not get the same captions."""
    if same_name(entry.path) == same_name(image.as_posix()):
        return []
    new = cleaned_captions(edits[image])
    others = (image.with_name(name) for name in files.images_of(image) if name != image.name)
    return [other.name for other in others if other not in edits or cleaned_captions(edits[other]) != new]


def cleaned_captions(texts: Iterable[str]) -> Texts:
    """The captions that are written for these texts: one a line, each once, without what files of text cannot hold."""
    lines = (clean(line) for text in texts for line in text.splitlines())
    return tuple(dict.fromkeys(line for line in lines if line))


# ---- files beside the images -----------------------------------------------------------------------------------------


class _Files:
    """The files of one folder, read once for all edits in it."""

    def __init__(self, folder: Path, inside: Path) -> None:
        self._folder = folder / inside
        self.inside = inside
        try:
            entries = {entry.name: entry.is_dir() for entry in os.scandir(self._folder)}
        except OSError:
            entries = {}
        found = sorted(entries)
        self._folders = {name for name, is_folder in entries.items() if is_folder}
        self.metadata = [inside / name for name in found if is_metadata(name)]
        self._captions = CaptionNames(name for name in found if is_caption_file(name) and name not in self._folders)
        self._others: defaultdict[str, list[str]] = defaultdict(list)
        for name in found:
            stem, suffix = os.path.splitext(name)
            if suffix.lower() not in CAPTION_SUFFIXES:
                for key in {same_name(stem), same_name(name)}:
                    self._others[key].append(name)

    def caption_of(self, image: Path) -> Path | None:
        """The caption file that is used for an image: the first that has a caption, else the first."""
        files = [self.inside / name for name in self._captions.of(image.name)]
        with_text = (file for file in files if read_caption(self._folder / file.name).texts)
        return next(with_text, files[0] if files else None)

    def new_caption(self, image: Path) -> Path:
        """A caption file for an image without one, which is not that of another image too."""
        file = image.with_suffix(".txt")
        usable = is_caption_file(file.name) and file.name not in self._folders and self.images_of(file) == [image.name]
        return file if usable else image.with_name(f"{image.name}.txt")

    def images_of(self, file: Path) -> list[str]:
        """The images that a caption file belongs to."""
        names = self._others.get(same_name(file.stem), ())
        return [name for name in names if looks_like_an_image(self._folder / name)]


def _written_beside(folder: Path, file: Path, files: _Files, images: Mapping[Path, Texts]) -> str:
    """Write the captions to one file; why not, if they cannot be written."""
    texts = next(iter(images.values()))
    others = [name for name in files.images_of(file) if file.parent / name not in images]
    if others or len(set(images.values())) > 1:
        named = ", ".join([*(image.name for image in images), *others][:3])
        return f"its caption file {file.name} is that of several images ({named})"
    before = read_caption(folder / file) if (folder / file).exists() else None
    if before is not None and before.problem:
        return f"{file.name}: {before.problem}"
    try:
        if file.suffix.lower() == ".json":
            return _written_to_json(folder / file, texts)
        write_text(folder / file, "".join(f"{text}\n" for text in texts))
    except DiffstudioError as error:
        return f"{error.what}: {error.why}"
    return ""


def _written_to_json(path: Path, texts: Texts) -> str:
    try:
        values = _parsed(path.read_text(encoding="utf-8-sig"))
    except _Unwritable as error:
        return _not_written(path, str(error))
    except (OSError, ValueError, RecursionError) as error:
        return unreadable(error) if isinstance(error, OSError) else f"{path.name} is not JSON"
    if isinstance(values, str):
        write_text(path, _json_of("\n".join(texts)))
        return ""
    if not isinstance(values, dict) or not set_captions(values, texts):
        return f"these captions do not fit the keys that {path.name} has"
    write_text(path, _json_of(values, indent=2) + "\n")
    return ""


def _not_written(file: Path, why: str) -> str:
    return f"{file.name} could not be written ({why})"


class _Unwritable(ValueError):
    """Data that would change when it is written again; the text is a clause."""


def _parsed(text: str) -> Any:
    """The values of JSON that can be written again unchanged. _Unwritable; ValueError for invalid JSON."""
    return json.loads(text, object_pairs_hook=_with_each_key_once, parse_float=_number, parse_constant=_number)


def _with_each_key_once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _Unwritable(f"it has two keys '{next(key for key in keys if keys.count(key) > 1)}' in one object")
    return values


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _Unwritable(f"its number {text} is larger than a float can be, or not JSON")
    return number


def _json_of(values: object, *, indent: int | str | None = None) -> str:
    """JSON with unescaped letters; escaped if UTF-8 cannot encode one, such as half of a cut emoji (a surrogate)."""
    text = json.dumps(values, ensure_ascii=False, indent=indent, allow_nan=False)
    return text if valid_utf8(text) == text else json.dumps(values, indent=indent, allow_nan=False)


# ---- metadata --------------------------------------------------------------------------------------------------------


def _written_in_metadata(folder: Path, file: Path, images: Mapping[Path, Texts]) -> list[Skipped]:
    """Write rows of a table; the images that cannot be written, with the reason."""
    edits = {same_name(image.as_posix()): (image, texts) for image, texts in images.items()}
    writers: dict[str, Callable[..., tuple[str, set[str]]]] = {".csv": _csv, ".jsonl": _jsonl, ".json": _kohya}
    writer = writers[file.suffix.lower()]
    try:
        data = (folder / file).read_bytes()
        text, done = writer(folder, file, data.decode("utf-8-sig"), edits)
        write_text(folder / file, "\ufeff" * data.startswith(codecs.BOM_UTF8) + text)  # spreadsheets need the mark
    except (OSError, ValueError, RecursionError, csv.Error, DiffstudioError) as error:
        why = error.why if isinstance(error, DiffstudioError) else str(error)
        return [Skipped(image, _not_written(file, why)) for image in images]
    return [
        Skipped(image, f"its captions in {file.name} are combined from several rows or columns")
        for key, (image, _) in edits.items()
        if key not in done
    ]


def _jsonl(folder: Path, file: Path, text: str, edits: Mapping[str, tuple[Path, Texts]]) -> tuple[str, set[str]]:
    lines = text.split("\n")  # not `splitlines`: JSON may hold other separators of lines
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for number, line in enumerate(lines):
        values = _object(line)
        key = _image_of(folder, file, values) if values is not None else None
        if key in edits:
            rows[str(key)].append(number)
    done = set()
    for key, numbers in rows.items():
        found = [_parsed(lines[number]) for number in numbers]
        if _set_in_rows(found, edits[key][1]):
            for number, values in zip(numbers, found, strict=True):
                lines[number] = _json_of(values) + "\r" * lines[number].endswith("\r")
            done.add(key)
    return "\n".join(lines), done


def _set_in_rows(rows: Sequence[dict[str, object]], texts: Texts) -> bool:
    """Set the captions in the rows of one image: all in a single row, or one caption per row if the numbers match."""
    if len(rows) == 1:
        return set_captions(rows[0], texts)
    return len(rows) == len(texts) and all(set_captions(row, (text,)) for row, text in zip(rows, texts, strict=True))


def _kohya(folder: Path, file: Path, text: str, edits: Mapping[str, tuple[Path, Texts]]) -> tuple[str, set[str]]:
    """An object with an entry for each image, which may be named without its suffix. ValueError for other JSON."""
    values = _parsed(text)
    if not isinstance(values, dict):
        raise ValueError(NOT_A_JSON_OBJECT)
    named: defaultdict[str, list[str]] = defaultdict(list)
    for key, (image, _) in edits.items():
        for name in {key, same_name(image.with_suffix("").as_posix())}:
            named[name].append(key)
    done: set[str] = set()
    for name, about in values.items():
        path = path_in_folder(folder, file, name.strip())
        keys = [] if path is None else named.get(same_name(path), [])
        if keys and isinstance(about, dict) and set_captions(about, edits[keys[0]][1]):
            done.update(keys)
    indentation = re.match(r"\{\s*\n([ \t]+)", text)
    return _json_of(values, indent=indentation[1] if indentation else None), done


def _csv(folder: Path, file: Path, text: str, edits: Mapping[str, tuple[Path, Texts]]) -> tuple[str, set[str]]:
    """Rows without changes and cells of other columns stay as they are, under any column names."""
    separator = max(",;\t", key=text.split("\n", 1)[0].count)
    lines, table = _csv_rows(text, separator)
    header = table[0]
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(table[1:], start=1):
        key = _image_of(folder, file, dict(zip(header, row, strict=False)))
        if key in edits:
            rows[str(key)].append(number)
    done = set()
    for key, numbers in rows.items():
        before = [dict(zip(header, table[number], strict=False)) for number in numbers]
        values: list[dict[str, object]] = [dict(row) for row in before]
        if _set_in_rows(values, edits[key][1]):
            for number, old, changed in zip(numbers, before, values, strict=True):
                columns = {_column(header, name): str(text) for name, text in changed.items() if text != old[name]}
                if columns:
                    row = [columns.get(index, cell) for index, cell in enumerate(table[number])]
                    lines[number] = _csv_line(row, separator, lines[number])
            done.add(key)
    return "".join(lines), done


def _csv_rows(text: str, separator: str) -> tuple[list[str], list[list[str]]]:
    """The text of each row, which may have several lines, and its cells."""
    lines = list(io.StringIO(text, newline=""))
    reader = csv.reader(lines, delimiter=separator)
    texts, table, first = [], [], 0
    for row in reader:
        texts.append("".join(lines[first : reader.line_num]))
        table.append(row)
        first = reader.line_num
    return texts, table


def _csv_line(row: Sequence[str], separator: str, before: str) -> str:
    """A row with its original line ending."""
    out = io.StringIO(newline="")
    ending = before[len(before.rstrip("\r\n")) :]
    csv.writer(out, delimiter=separator, lineterminator=ending).writerow(row)
    return out.getvalue()


def _column(header: Sequence[str], name: str) -> int:
    """The index of the only column with this name. _Unwritable if there are several."""
    if header.count(name) > 1:
        raise _Unwritable(f"it has {header.count(name)} columns named '{name}'")
    return header.index(name)


def _object(line: str) -> dict[str, object] | None:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def _image_of(folder: Path, file: Path, values: Mapping[str, object]) -> str | None:
    name = next((value for key, value in values.items() if key.strip().casefold() == FILE_NAME), None)
    path = path_in_folder(folder, file, name.strip()) if isinstance(name, str) else None
    return None if path is None else same_name(path)

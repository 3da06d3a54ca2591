"""Annotations: notes, tags and favourites for model files, kept apart from the files themselves."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from diffstudio import paths
from diffstudio.atomic import free_name, make_private, replace, write_text
from diffstudio.errors import StorageProblem, wrong_format
from diffstudio.models.files.file_access import file_stamp
from diffstudio.storage_errors import storage_errors
from diffstudio.studio.stored_values import StoredValues, as_object, as_text, partly_unreadable

FORMAT = 1
LONGEST_NOTE = 20_000  # characters
LONGEST_TAG = 60
MOST_TAGS = 50

_Stamp = tuple[str, int, int]  # name, bytes, ns of the last change: by these a file that was moved is recognised


@dataclass(frozen=True, slots=True)
class Annotation:
    note: str = ""
    tags: tuple[str, ...] = ()
    favourite: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "note", self.note[:LONGEST_NOTE])
        object.__setattr__(self, "tags", tidy_tags(self.tags))

    def __bool__(self) -> bool:
        return bool(self.note or self.tags or self.favourite)


def tidy_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Trimmed, without empty ones and duplicates (ignoring case), in the same order."""
    tidy: dict[str, str] = {}
    for tag in tags:
        trimmed = " ".join(tag.split())[:LONGEST_TAG]
        if trimmed:
            tidy.setdefault(trimmed.casefold(), trimmed)
    return tuple(tidy.values())[:MOST_TAGS]


NO_ANNOTATION = Annotation()


class Annotations:
    """The annotations of all files, in one JSON file. A file that was moved keeps its annotation.

    Safe to call from any thread. If the JSON file cannot be read, it is set aside, and there are no annotations. `problem` says
    so, and names single values that are not used.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file or paths.data() / "annotations.json"
        self._lock = threading.Lock()
        self.problem = ""
        self._annotations: dict[Path, tuple[_Stamp, Annotation]] = {}
        self._read()

    def of(self, path: Path) -> Annotation:
        """The annotation of a file; empty if it has none."""
        with self._lock:
            path = path.absolute()
            if (found := self._annotations.get(path)) is not None:
                return found[1]
            stamps = {known: stamp for known, (stamp, _) in self._annotations.items() if stamp[0] == path.name}
            stamp = _stamp(path) if stamps else None  # the disk is read for a file of the same name only
            moved = [known for known, known_stamp in stamps.items() if known_stamp == stamp and not known.exists()]
            if not moved:
                return NO_ANNOTATION
            self._annotations[path] = self._annotations.pop(moved[0])
            return self._annotations[path][1]

    def put(self, path: Path, annotation: Annotation) -> None:
        """Replace a file's annotation. StorageProblem, with the old one kept, when it cannot be saved."""
        with self._lock:
            path = path.absolute()
            before = dict(self._annotations)
            if annotation:
                self._annotations[path] = (_stamp(path) or (path.name, 0, 0), annotation)
            else:
                self._annotations.pop(path, None)
            try:
                self._write()
            except StorageProblem:
                self._annotations = before
                raise

    def moved(self, old: Path, new: Path) -> None:
        """The file at `old` is now at `new`. StorageProblem, with nothing changed, when that cannot be saved."""
        with self._lock:
            before = dict(self._annotations)
            if (entry := self._annotations.pop(old.absolute(), None)) is None:
                return
            self._annotations[new.absolute()] = (_stamp(new) or (new.name, 0, 0), entry[1])
            try:
                self._write()
            except StorageProblem:
                self._annotations = before
                raise

    def tags(self) -> list[str]:
        """Every tag in use, the most frequent first."""
        count: dict[str, int] = {}
        with self._lock:
            for _, annotation in self._annotations.values():
                for tag in annotation.tags:
                    count[tag] = count.get(tag, 0) + 1
        return sorted(count, key=lambda tag: (-count[tag], tag.casefold()))

    def _read(self) -> None:
        try:
            stored = json.loads(self._file.read_text(encoding="utf-8"))
            if stored["format"] != FORMAT:
                raise ValueError(wrong_format(stored["format"], FORMAT))
            unusable: list[str] = []
            for path, entry in stored["files"].items():
                values = StoredValues(as_object(entry))
                annotation = Annotation(
                    values.read("note", "", as_text), values.each("tags", as_text), values.flag("favourite")
                )
                name, size, changed = entry["stamp"]
                self._annotations[Path(path)] = (str(name), int(size), int(changed)), annotation
                unusable += [f"{label} of {name}" for label in values.unusable]
            self.problem = partly_unreadable(f"The notes on models in {self._file}", unusable)
            make_private(self._file)
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self._annotations = {}
            self._put_aside(str(error)[:200])

    def _put_aside(self, why: str) -> None:
        aside = free_name(self._file.with_suffix(".damaged.json"))
        try:
            replace(self._file, aside)
            where = f"it is kept as {aside}"
        except OSError:
            where = "no notes can be saved until it is moved away"
        self.problem = f"The notes on models in {self._file} cannot be read ({why}); {where}."

    def _write(self) -> None:
        files: dict[str, Any] = {
            str(path): {"stamp": stamp} | asdict(annotation)
            for path, (stamp, annotation) in sorted(self._annotations.items())
        }
        with storage_errors(f"{self._file} cannot be written", self._file.parent):
            self._file.parent.mkdir(parents=True, exist_ok=True)
        write_text(
            self._file, json.dumps({"format": FORMAT, "files": files}, indent=1, ensure_ascii=False), private=True
        )


def _stamp(path: Path) -> _Stamp | None:
    stamp = file_stamp(path)
    return None if stamp is None else (path.name, *stamp)

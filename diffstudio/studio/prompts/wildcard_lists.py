"""Wildcards in files: text with one choice a line, and lists by name in YAML or JSON, within bounds of time and memory.

A YAML alias repeats what it stands for, so that a few lines can describe billions of entries. The file is first read as
a stream of events, which takes time in proportion to its size, and refused if what it describes is too large.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynamicprompts.wildcards.collection.list import ListWildcardCollection
    from dynamicprompts.wildcards.collection.text_file import WildcardTextFile
    from dynamicprompts.wildcards.item import WildcardItem

LARGEST_YAML_BYTES = 8 << 20
_MOST_ENTRIES = 500_000  # of a YAML file with its aliases written out
_MOST_CHARACTERS = 16 << 20  # likewise
_DEEPEST = 50


def wildcard_text_file(file: Path) -> WildcardTextFile:
    """The wildcard in a text file, which is read when it is first used: UnicodeError where it is not UTF-8 or UTF-16."""
    return _text_file_type()(file)


@lru_cache(maxsize=1)
def _text_file_type() -> type[WildcardTextFile]:
    from dynamicprompts.utils import is_empty_line
    from dynamicprompts.wildcards.collection.text_file import WildcardTextFile

    class TextFile(WildcardTextFile):
        """Says what cannot be decoded; the library leaves it out, so that `rosé` in another encoding becomes `ros`."""

        def get_values(self) -> list[str]:
            if self._cache is None:
                lines = _decoded(self._path).split("\n")
                self._cache = [line.strip() for line in lines if not is_empty_line(line)]
            return self._cache

    return TextFile


def _decoded(file: Path) -> str:
    """The text of a file in UTF-8 or, where it starts with a byte order mark, UTF-16. OSError, UnicodeError."""
    data = file.read_bytes()
    try:
        return data.decode("utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnicodeError(f"{file.name} is not UTF-8 text") from error


def read_wildcard_lists(file: Path) -> dict[str, ListWildcardCollection]:
    """The wildcards of a file by name, as the dynamicprompts library reads them.

    A file that is one list is a wildcard with the file's name; in one of nested objects, the names are joined with `/`.
    OSError, ValueError and RecursionError for a file that cannot be read.
    """
    from dynamicprompts.wildcards.collection.list import ListWildcardCollection

    text = _decoded(file)
    data = json.loads(text) if file.suffix == ".json" else _yaml(text)
    if isinstance(data, list):
        entries = [entry for one in data if (entry := _entry(one))]
        return {file.stem: ListWildcardCollection(entries=entries, source=file)} if entries else {}
    return {
        name: ListWildcardCollection(entries=entries, source=(file, name))
        for name, entries in _lists(data if isinstance(data, dict) else {}, "")
    }


def _lists(data: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, list[str | WildcardItem]]]:
    for name, value in data.items():
        if not isinstance(name, str):
            continue
        if isinstance(value, dict):
            yield from _lists(value, f"{prefix}{name}/")
        else:
            entries = [entry for one in (value if isinstance(value, list) else [value]) if (entry := _entry(one))]
            if entries:
                yield f"{prefix}{name}", entries


def _entry(value: Any) -> str | WildcardItem | None:
    """A text, one with a weight in front (`2::red`), a number, or an object with `text` and `weight`; None for others."""
    from dynamicprompts.wildcards.item import WildcardItem

    value = _text(value)
    if isinstance(value, dict):
        content, weight = _text(value.get("text") or value.get("content")), value.get("weight", 1)
    elif isinstance(value, str):
        before, separator, after = value.rpartition("::") if value[:1].isdigit() else ("", "", "")
        content, weight = (after, before) if separator else (value, 1)
    else:
        return None
    try:
        weight = float(weight)
    except (TypeError, ValueError):
        return value if isinstance(value, str) else None
    if not isinstance(content, str) or not content:
        return None
    return content if weight == 1 else WildcardItem(content, weight)


def _text(value: Any) -> Any:
    """A number, `true` or `false` of a JSON file as text; anything else as it is."""
    return json.dumps(value) if isinstance(value, (int, float)) else value


def _yaml(text: str) -> Any:
    """ValueError for what is not YAML, or describes too much."""
    import yaml  # type: ignore[import-untyped]

    if len(text) > LARGEST_YAML_BYTES:
        raise ValueError(f"it has more than {LARGEST_YAML_BYTES >> 20} MiB")
    loader = _text_loader()
    try:
        _check_size(yaml.parse(text, Loader=loader))
        return yaml.load(text, Loader=loader)  # noqa: S506 - either is a safe loader
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _text_loader() -> Any:
    """A safe YAML loader that reads plain scalars as text: `1990`, `no` and `on` are words here."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # written in C, where it was built
    kept = ("tag:yaml.org,2002:merge", "tag:yaml.org,2002:null")
    resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag in kept]
        for first, known in base.yaml_implicit_resolvers.items()
    }
    return type("TextLoader", (base,), {"yaml_implicit_resolvers": resolvers})


def _check_size(events: Iterator[Any]) -> None:
    """ValueError where the events describe too much, counting each alias as what it stands for."""
    import yaml

    known: dict[str, tuple[int, int]] = {}  # entries and characters by anchor
    open_collections: list[tuple[str | None, int, int]] = []  # anchor, and the totals before
    entries = characters = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in known:
                raise ValueError(f"the alias *{event.anchor[:20]} stands for what it is part of, or for nothing")
            entries, characters = entries + known[event.anchor][0], characters + known[event.anchor][1]
        elif isinstance(event, yaml.ScalarEvent):
            entries, characters = entries + 1, characters + len(event.value)
            if event.anchor:
                known[event.anchor] = 1, len(event.value)
        elif isinstance(event, yaml.CollectionStartEvent):
            open_collections.append((event.anchor, entries, characters))
            entries += 1
            if event.anchor:
                known.pop(event.anchor, None)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, entries_before, characters_before = open_collections.pop()
            if anchor:
                known[anchor] = entries - entries_before, characters - characters_before
        if len(open_collections) > _DEEPEST:
            raise ValueError(f"it has more than {_DEEPEST} levels")
        if entries > _MOST_ENTRIES or characters > _MOST_CHARACTERS:
            raise ValueError("its aliases describe too much")

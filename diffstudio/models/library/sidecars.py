"""What other programs keep beside a file of weights: a picture, and what its makers say of it. No torch.

AUTOMATIC1111 and Forge: `name.json`, `name.txt`, `name.preview.png`. Civitai's helpers: `name.civitai.info`. Stability Matrix:
`name.cm-info.json`. LoRA Manager: `name.metadata.json`. SwarmUI: `name.swarm.json`. ComfyUI's managers: `name.jpg`.
All of it is somebody's text: of limited length, without markup, and never believed to be anything else.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

_LARGEST_BYTES = 4 << 20
_LONGEST_TEXT, _LONGEST_WORD, _MOST_WORDS = 4000, 200, 50
_PICTURES = (
    ".preview.png",
    ".preview.jpg",
    ".preview.jpeg",
    ".preview.webp",
    ".png",
    ".jpg",
    ".jpeg",
    ".webp",
    ".swarmpreview.jpg",
)
_TABLES = (
    ".json",
    ".civitai.info",
    ".cm-info.json",
    ".metadata.json",
    ".swarm.json",
)  # a person's own words come first

# Where each thing stands in those tables: the first that is there. Points lead into a table.
_DESCRIPTIONS = (
    "description",
    "notes",
    "ModelDescription",
    "VersionDescription",
    "modelDescription",
    "civitai.description",
)
_WORDS = (
    "activation text",
    "trainedWords",
    "TrainedWords",
    "civitai.trainedWords",
    "trigger_phrase",
    "modelspec.trigger_phrase",
)
_BASES = ("sd version", "baseModel", "BaseModel", "base_model", "civitai.baseModel")
_TITLES = ("model.name", "ModelName", "model_name", "title", "modelspec.title")
_TAGS = ("tags", "Tags", "civitai.model.tags", "model.tags")
_NOT_SAID = ("", "unknown", "other", "none")


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What is said beside a file; what nobody says is empty."""

    picture: Path | None = None
    title: str = ""
    description: str = ""
    words: tuple[str, ...] = ()  # that call it up
    tags: tuple[str, ...] = ()
    base: str = ""  # what it was trained from
    negative: str = ""  # a negative prompt that goes with it
    strength: float = 0.0  # that its maker prefers; 0 where nobody says


NO_SIDECAR = Sidecar()


def read_sidecar(path: Path) -> Sidecar:
    """Of a file of weights, or of a diffusers folder."""
    stem = path.name if path.is_dir() else path.stem
    try:
        there = {entry.name for entry in os.scandir(path.parent) if entry.name.startswith(f"{stem}.")}
    except OSError:
        return NO_SIDECAR
    if len(there) < 2 and not path.is_dir():
        return NO_SIDECAR
    picture = next((path.parent / (stem + ending) for ending in _PICTURES if stem + ending in there), None)
    told = [table for ending in _TABLES if stem + ending in there if (table := _table(path.parent / (stem + ending)))]
    description = _first_text(told, _DESCRIPTIONS)
    if not description and f"{stem}.txt" in there:
        description = _tidy(_read(path.parent / f"{stem}.txt"))
    strength = next((number for table in told if (number := _number(table.get("preferred weight")))), 0.0)
    return Sidecar(
        picture,
        _first_text(told, _TITLES)[:_LONGEST_WORD],
        description,
        _first_words(told, _WORDS),
        _first_words(told, _TAGS),
        next((base for base in _texts(told, _BASES) if base.casefold() not in _NOT_SAID), "")[:100],
        _first_text(told, ("negative text",))[:_LONGEST_TEXT],
        strength,
    )


def _table(file: Path) -> dict[str, Any]:
    try:
        told = json.loads(_read(file) or "{}")
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _read(file: Path) -> str:
    """Empty for what cannot be read, or is too long to be about anything."""
    try:
        if not file.is_file() or file.stat().st_size > _LARGEST_BYTES:
            return ""
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _found(table: Mapping[str, Any], place: str) -> Any:
    if place in table:
        return table[place]
    value: Any = table
    for key in place.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _texts(told: list[dict[str, Any]], places: tuple[str, ...]) -> Iterator[str]:
    for table in told:
        for place in places:
            if isinstance(value := _found(table, place), str) and (text := _tidy(value)):
                yield text


def _first_text(told: list[dict[str, Any]], places: tuple[str, ...]) -> str:
    return next(_texts(told, places), "")


def _first_words(told: list[dict[str, Any]], places: tuple[str, ...]) -> tuple[str, ...]:
    """A list of them, or one text with commas; each once."""
    for table in told:
        for place in places:
            value = _found(table, place)
            said = value if isinstance(value, list) else [value]
            pieces = [piece for one in said if isinstance(one, str) for piece in _tidy(one).split(",")]
            if words := tuple(
                dict.fromkeys(word for piece in pieces if (word := " ".join(piece.split())[:_LONGEST_WORD]))
            ):
                return words[:_MOST_WORDS]
    return ()


def _number(value: Any) -> float:
    return float(value) if type(value) in (int, float) and math.isfinite(value) and abs(value) <= 100 else 0.0


class _Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("p", "br", "li", "div", "h1", "h2", "h3", "tr"):
            self.text.append("\n")


def _tidy(text: str) -> str:
    """Without markup, which Civitai's descriptions are full of, and without empty lines."""
    text = text[:100_000]
    if re.search(r"</?[a-zA-Z][^<>]{0,200}>", text):
        parser = _Words()
        parser.feed(text)
        parser.close()
        text = "".join(parser.text)
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n".join(line for line in lines if line)[:_LONGEST_TEXT]

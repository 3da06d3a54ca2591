"""Sidecar files next to a model, by AUTOMATIC1111, Civitai helpers and others. No torch.

They hold a preview image, a description and trigger words.

AUTOMATIC1111 and Forge: `name.json`, `name.txt`, `name.preview.png`. Civitai's helpers: `name.civitai.info`. Stability
Matrix: `name.cm-info.json`. LoRA Manager: `name.metadata.json`. SwarmUI: `name.swarm.json`. ComfyUI's managers:
`name.jpg`. All of it is untrusted text: it is shortened and stripped of markup.
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
_LONGEST_TEXT, _LONGEST_WORD, _MOST_TRIGGER_WORDS = 4000, 200, 50
_IMAGES = (
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
)  # the user's own notes come first

# Keys of each field, the first that exists. Dots lead into nested objects.
_DESCRIPTIONS = (
    "description",
    "notes",
    "ModelDescription",
    "VersionDescription",
    "modelDescription",
    "civitai.description",
)
_TRIGGER_WORDS = (
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
_UNSPECIFIED = ("", "unknown", "other", "none")


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What the sidecars of one model say; unknown fields are empty."""

    image: Path | None = None
    title: str = ""
    description: str = ""
    trigger_words: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    base: str = ""  # base model
    negative: str = ""  # recommended negative prompt
    lora_weight: float = 0.0  # recommended; 0 if none is given


NO_SIDECAR = Sidecar()


def read_sidecar(path: Path) -> Sidecar:
    """The sidecars of a weights file or a diffusers folder, merged."""
    stem = path.name if path.is_dir() else path.stem
    try:
        names = {entry.name for entry in os.scandir(path.parent) if entry.name.startswith(f"{stem}.")}
    except OSError:
        return NO_SIDECAR
    if len(names) < 2 and not path.is_dir():
        return NO_SIDECAR
    image = next((path.parent / (stem + ending) for ending in _IMAGES if stem + ending in names), None)
    tables = [table for ending in _TABLES if stem + ending in names if (table := _table(path.parent / (stem + ending)))]
    description = _first_text(tables, _DESCRIPTIONS)
    if not description and f"{stem}.txt" in names:
        description = _plain_text(_read(path.parent / f"{stem}.txt"))
    lora_weight = next((number for table in tables if (number := _number(table.get("preferred weight")))), 0.0)
    return Sidecar(
        image,
        _first_text(tables, _TITLES)[:_LONGEST_WORD],
        description,
        _first_list(tables, _TRIGGER_WORDS),
        _first_list(tables, _TAGS),
        next((base for base in _texts(tables, _BASES) if base.casefold() not in _UNSPECIFIED), "")[:100],
        _first_text(tables, ("negative text",))[:_LONGEST_TEXT],
        lora_weight,
    )


def _table(file: Path) -> dict[str, Any]:
    try:
        table = json.loads(_read(file) or "{}")
    except (ValueError, RecursionError):
        return {}
    return table if isinstance(table, dict) else {}


def _read(file: Path) -> str:
    """The text of a file; empty if it cannot be read or is too large."""
    try:
        if not file.is_file() or file.stat().st_size > _LARGEST_BYTES:
            return ""
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _value(table: Mapping[str, object], dotted: str) -> object:
    if dotted in table:
        return table[dotted]
    value: object = table
    for key in dotted.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _texts(tables: list[dict[str, Any]], keys: tuple[str, ...]) -> Iterator[str]:
    for table in tables:
        for key in keys:
            if isinstance(value := _value(table, key), str) and (text := _plain_text(value)):
                yield text


def _first_text(tables: list[dict[str, Any]], keys: tuple[str, ...]) -> str:
    return next(_texts(tables, keys), "")


def _first_list(tables: list[dict[str, Any]], keys: tuple[str, ...]) -> tuple[str, ...]:
    """The first non-empty value of these keys: a list, or a text with commas; without duplicates."""
    for table in tables:
        for key in keys:
            value = _value(table, key)
            values = value if isinstance(value, list) else [value]
            parts = [part for one in values if isinstance(one, str) for part in _plain_text(one).split(",")]
            if found := tuple(
                dict.fromkeys(text for part in parts if (text := " ".join(part.split())[:_LONGEST_WORD]))
            ):
                return found[:_MOST_TRIGGER_WORDS]
    return ()


def _number(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return 0.0
    return float(value) if math.isfinite(value) and abs(value) <= 100 else 0.0


class _TextOnly(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("p", "br", "li", "div", "h1", "h2", "h3", "tr"):
            self.text.append("\n")


def _plain_text(text: str) -> str:
    """The text without HTML (Civitai's descriptions are HTML) and without empty lines."""
    text = text[:100_000]
    if re.search(r"</?[a-zA-Z][^<>]{0,200}>", text):
        parser = _TextOnly()
        parser.feed(text)
        parser.close()
        text = "".join(parser.text)
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n".join(line for line in lines if line)[:_LONGEST_TEXT]

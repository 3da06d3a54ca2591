"""Reads the captions of an image from the text or JSON file beside it. No torch, and no trust.

`.txt` and `.caption` files are UTF-8, or UTF-16 with a byte-order mark, with one caption a line: lines are
alternatives, as kohya-ss has them with `enable_wildcard`; the boxes of YOLO are no captions. `.json` files are an object
with one of the keys in TEXT_KEYS, as img2dataset, kohya-ss, gallery-dl and Civitai write them.
"""

from __future__ import annotations

import codecs
import json
import re
import stat
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffstudio.errors import NOT_A_JSON_OBJECT, NOT_A_PLAIN_FILE, NOT_UTF_8, unreadable

CAPTION_SUFFIXES = (".txt", ".caption", ".json")  # the first is preferred
MAX_CAPTION_BYTES = 64 * 1024  # read from a caption file
MAX_JSON_BYTES = 1024 * 1024
EMPTY = "it is empty"
_BOXES = "it has the boxes of objects, not a caption"
TOO_DEEP = "its JSON is nested too deeply"
MAX_CAPTIONS = 64  # alternatives of one image

# Keys of JSON objects and columns of tables, in the order in which they are looked for. `tags` and `tag_string` are
# appended to a caption, as kohya-ss does.
TEXT_KEYS = ("caption", "captions", "text", "prompt", "description")
TAG_KEYS = ("tags", "tag_string")
# A class and coordinates: https://docs.ultralytics.com/datasets/detect
_BOX = re.compile(r"\d+(?: -?\d*\.?\d+(?:e-?\d+)?){4,}")
_NESTED = ("meta", "metadata", "sd-metadata")  # objects in which Civitai and InvokeAI keep the prompt


@dataclass(frozen=True, slots=True)
class Captions:
    """What a file or a row says about an image."""

    texts: tuple[str, ...] = ()  # alternatives
    source: str = ""  # `key caption`; empty for plain text
    problem: str = ""  # a clause: why there are none, or not all


def read_caption(path: Path) -> Captions:
    """The captions in a text or JSON file. Never raises."""
    is_json = path.suffix.lower() == ".json"
    limit = MAX_JSON_BYTES if is_json else MAX_CAPTION_BYTES
    text, problem = _text_of(path, limit)
    if text is None:
        return Captions(problem=problem)
    if is_json and problem:
        return Captions(problem=f"it is larger than {MAX_JSON_BYTES // 1024:,} KiB")
    if is_json:
        return _from_json(text)
    texts, too_many = _alternatives(text.splitlines())
    if texts and all(map(_BOX.fullmatch, texts)):
        return Captions(problem=_BOXES)
    return Captions(texts, problem=problem or too_many or ("" if texts else EMPTY))


def captions_in(values: Mapping[Any, object]) -> Captions:
    """The captions in a JSON object or in the row of a table: by the first of TEXT_KEYS it has, with its tags."""
    found = {str(key).strip().casefold(): value for key, value in values.items()}
    tag_key = next((key for key in TAG_KEYS if _given(found.get(key))), "")
    tags = _tags(tag_key, found[tag_key]) if tag_key else ""
    wrong = ""
    for key in TEXT_KEYS:
        value = found.get(key)
        if not _given(value):
            continue
        lines = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        texts, problem = _alternatives(part for line in lines if isinstance(line, str) for part in line.splitlines())
        if texts:
            if tags:
                return Captions(
                    tuple(f"{text.rstrip('. ')}, {tags}" for text in texts), f"keys {key} and {tag_key}", problem
                )
            return Captions(texts, f"key {key}", problem)
        wrong = wrong or f"its {key} is not text"
    if tags:
        return Captions((tags,), f"key {tag_key}")
    for key in _NESTED:
        inner = found.get(key)
        if (
            isinstance(inner, Mapping)
            and (nested := captions_in({k: v for k, v in inner.items() if k not in _NESTED})).texts
        ):
            return Captions(nested.texts, f"{nested.source} in {key}", nested.problem)
    return Captions(problem=wrong)


def clean(text: str) -> str:
    """Text with normalised white space, and without control characters and what UTF-8 cannot hold."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    text = "".join(" " if unicodedata.category(letter) == "Cc" else letter for letter in text)
    return " ".join(text.split())


def same_name(name: str) -> str:
    """The same for names that differ in case or in how Unicode composes their letters (NFC, NFD)."""
    return unicodedata.normalize("NFC", name).casefold()


def as_one_caption(text: str) -> str:
    """The same for captions that the caption tokenizer of a network reads alike: see `CaptionTokenizer`."""
    return " ".join(unicodedata.normalize("NFKC", text).lower().replace(",", " ").split())


def _alternatives(lines: Iterable[str]) -> tuple[tuple[str, ...], str]:
    """Clean captions without repetitions and empty ones; and a problem if there are too many."""
    found = list(dict.fromkeys(cleaned for line in lines if (cleaned := clean(line)[:MAX_CAPTION_BYTES])))
    problem = f"only the first {MAX_CAPTIONS} of its {len(found):,} lines are used" if len(found) > MAX_CAPTIONS else ""
    return tuple(found[:MAX_CAPTIONS]), problem


def _given(value: object) -> bool:
    return value is not None and value not in ("", [], {})


def _tags(key: str, value: object) -> str:
    """Tags after commas from a list, an object with probabilities, or text; Danbooru separates them with spaces."""
    if isinstance(value, str):
        separated = value.split() if key == "tag_string" else value.split(",")
        value = [tag.replace("_", " ") for tag in separated] if key == "tag_string" else separated
    tags = [clean(tag).strip(",") for tag in value if isinstance(tag, str)] if isinstance(value, list | dict) else []
    return ", ".join(dict.fromkeys(tag for tag in tags if tag))[:MAX_CAPTION_BYTES]


def _from_json(text: str) -> Captions:
    if not text.strip():
        return Captions(problem=EMPTY)
    try:
        values = json.loads(text)
    except RecursionError:
        return Captions(problem=TOO_DEEP)
    except ValueError as error:
        return Captions(problem=f"it is not JSON ({str(error).split(':')[0].lower()})")
    if isinstance(values, str):
        texts, problem = _alternatives(values.splitlines())
        return Captions(texts, problem=problem or ("" if texts else EMPTY))
    if not isinstance(values, Mapping):
        return Captions(problem=NOT_A_JSON_OBJECT)
    found = captions_in(values)
    if not found.texts and not found.problem and any(str(key).strip().casefold() in TEXT_KEYS for key in values):
        return Captions(problem="its caption is empty")
    if not found.texts and not found.problem:
        return Captions(problem=f"it has none of the keys {', '.join((*TEXT_KEYS, *TAG_KEYS))}")
    return found


def _text_of(path: Path, limit: int) -> tuple[str | None, str]:
    """The first `limit` bytes of a file as text, and a problem, if any."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would block
            return None, NOT_A_PLAIN_FILE
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        return None, unreadable(error)
    whole = len(data) <= limit
    utf_16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # `Unicode` in Windows Notepad
    decoder = codecs.getincrementaldecoder("utf-16" if utf_16 else "utf-8-sig")()
    try:
        text = decoder.decode(data[:limit], final=whole)
    except UnicodeDecodeError:
        return None, NOT_UTF_8
    if "\0" in text:
        return None, "it is not text"
    return text, "" if whole else f"only its first {limit // 1024:,} KiB are used"

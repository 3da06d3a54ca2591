"""What was found in an image of another program, before it becomes a request."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

LARGEST_JSON_CHARACTERS = 2 << 20
_DEEPEST_JSON = 100
_LONGEST_NAME = 200  # characters of a file's name
FILE_ENDINGS = (".safetensors", ".ckpt", ".gguf", ".sft", ".pt", ".pth", ".bin")


@dataclass
class FoundSettings:
    """Settings by the names that `import_settings` uses, of any type: they come from an untrusted file."""

    source: str  # the program that wrote them
    values: dict[str, Any] = field(default_factory=dict)
    loras: list[str] = field(default_factory=list)  # tags of the prompt, in the order in which they are applied
    others: dict[str, Any] = field(
        default_factory=dict
    )  # settings that a request has no field for, by the program's names
    not_imported: list[str] = field(default_factory=list)  # the same, as phrases
    explained: set[str] = field(default_factory=set)  # settings without a value that `not_imported` says more about
    reads_lora_tags: bool = True  # whether `<lora:name:1>` in a prompt applies a LoRA there, or is text

    def add_lora(self, file: str | None, weight: Any) -> None:
        """Append `<lora:name:weight>`, as prompts name a LoRA; a name or weight that was not found is named."""
        if file is None:
            self.not_imported.append("a LoRA, whose name the file does not hold")
            return
        name = stem(file)[:_LONGEST_NAME]
        if not is_number(weight):
            self.not_imported.append(f"the weight of the LoRA {name}")
        self.loras.append(f"<lora:{name}:{weight if is_number(weight) else 1:g}>")


def stem(file: str) -> str:
    """The name of a weights file without its folder and ending."""
    name = file.replace("\\", "/").rpartition("/")[2]
    ending = next((one for one in FILE_ENDINGS if name.lower().endswith(one)), "")
    return name[: len(name) - len(ending)]


def is_number(value: Any) -> bool:
    """Whether a value is a finite number that a float can hold."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -1e300 < value < 1e300


def json_value(text: str) -> Any:
    """The JSON value in a text; None when it is not JSON, too long, or nested so deeply that showing it would fail."""
    try:
        value = json.loads(text) if len(text) <= LARGEST_JSON_CHARACTERS else None
    except (ValueError, RecursionError):
        return None
    level = [value]
    for _ in range(_DEEPEST_JSON):
        level = [inner for one in level if isinstance(one, (dict, list)) for inner in _inside(one)]
        if not level:
            return value
    return None


def _inside(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def json_object(text: str | None) -> dict[str, Any] | None:
    """The JSON object in a text; None when it is something else."""
    values = json_value(text) if text else None
    return values if isinstance(values, dict) else None


def as_object(value: Any) -> Mapping[str, Any]:
    """A JSON object, empty where a file holds something else in its place."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


_SIZE = re.compile(r"\D*(\d{1,6})\s*[x×,]\s*(\d{1,6})\D*")


def size(value: Any) -> tuple[int, int] | None:
    """Width and height out of `832x1216`, `(832, 1216)` and the like."""
    match = _SIZE.fullmatch(value[:40]) if isinstance(value, str) else None
    return (int(match[1]), int(match[2])) if match else None


def as_number(value: Any, kind: type[int] | type[float]) -> int | float | None:
    """None where a value is not a number, or not a whole one where `kind` is int."""
    if not isinstance(value, (int, float, str)) or isinstance(value, bool):
        return None
    if kind is int and isinstance(value, (int, str)):
        with suppress(ValueError):
            return int(value)
    try:
        number = float(value)
        return number if kind is float else int(number) if number == int(number) else None
    except (ValueError, OverflowError):
        return None

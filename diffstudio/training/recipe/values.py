"""Reads the tables of a recipe file into dataclasses, with type checks and a message for every mistake."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from diffstudio.errors import RunProblem

# Keys in files that differ from the names of the fields.
KEYS = {"augment_labels": "tell_augmentation"}

_T = TypeVar("_T")


def build(cls: type[_T], values: Mapping[str, Any], where: str) -> _T:
    """The dataclass with these values; `where` is its name in messages. RunProblem for unknown keys and wrong types."""
    fields = {KEYS.get(name, name): (name, hint) for name, hint in get_type_hints(cls).items()}
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            raise RunProblem(f"Unknown key {key!r} in the {where}", f"the known keys are {', '.join(fields)}")
        name, hint = fields[key]
        arguments[name] = _converted(hint, value, f"{where}.{key}")
    return cls(**arguments)


def _converted(hint: Any, value: object, where: str) -> Any:
    try:
        if get_origin(hint) is tuple:  # tuple[str, ...] and tuple[float, float]
            if not isinstance(value, (list, tuple)):
                raise TypeError
            kinds = get_args(hint)
            each = kinds[:1] * len(value) if kinds[-1] is Ellipsis else kinds
            return tuple(_converted(kind, item, where) for kind, item in zip(each, value, strict=True))
        if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
            return build(hint, value, where)
        if hint in (int, float):
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError
            if not math.isfinite(value) or hint(value) != value:
                raise ValueError
            return hint(value)
        if isinstance(value, hint):  # str, bool or a StrEnum
            return value
        if isinstance(hint, type) and issubclass(hint, StrEnum) and isinstance(value, str):
            return hint(value)
        raise TypeError
    except (TypeError, ValueError, OverflowError):
        raise RunProblem(f"{where} is {shortened(value)}", f"it must be {_needed(hint)}") from None


def _needed(hint: Any) -> str:
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return f"one of {', '.join(hint)}"
    return _TYPE_NAMES.get(hint, "a table")  # all others are dataclasses


_TYPE_NAMES = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    tuple[str, ...]: "a list of strings",
    tuple[float, float]: "a list of two numbers",
    tuple[float, ...]: "a list of numbers",
    tuple[int, ...]: "a list of whole numbers",
}


def shortened(value: object) -> str:
    """A value for a message, shortened to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"

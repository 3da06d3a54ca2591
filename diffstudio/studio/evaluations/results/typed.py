"""Builds a dataclass from JSON that is not trusted: every value must have the type of its field. No torch."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from diffstudio.errors import UnexpectedValue

_T = TypeVar("_T")
_LARGEST = 2**63 - 1  # what Qt and NumPy can hold
_NAMES = {  # of the types in JSON
    type(None): "null",
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "an object",
}


def typed_fields(kind: type[_T], values: Mapping[str, Any], where: str = "") -> _T:
    """A dataclass from the JSON object of its fields; unknown names are ignored.

    Types may be str, int, float, bool, object, enumerations, dataclasses, and sequences, mappings and unions of them.
    UnexpectedValue, with the name of the field, for a missing value or one of another type.
    """
    if not isinstance(values, dict):
        raise UnexpectedValue(f"{where or 'the result'} is not an object")
    hints, found = get_type_hints(kind), {}
    for field in fields(kind):  # type: ignore[arg-type]
        inner = f"{where}.{field.name}" if where else field.name
        if field.name in values:
            found[field.name] = _typed(hints[field.name], values[field.name], inner)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise UnexpectedValue(f"{inner} is missing")
    return kind(**found)


def _typed(kind: Any, value: Any, where: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if kind in (object, Any):
        return value
    if origin in (Union, types.UnionType):
        return _one_of(inner, value, where)
    if kind in (str, bool, type(None)) and isinstance(value, kind):
        return value
    if kind in (int, float) and isinstance(value, int | float) and not isinstance(value, bool):
        return _number(kind, value, where)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _member(kind, value, where)
    if isinstance(kind, type) and is_dataclass(kind):
        return typed_fields(kind, value, where)
    if origin in (Sequence, list, tuple) and isinstance(value, list):
        items = [_typed(inner[0], item, f"{where}[{number}]") for number, item in enumerate(value)]
        return tuple(items) if origin is tuple else items
    if origin in (Mapping, dict) and isinstance(value, dict):
        return {key: _typed(inner[1], item, f"{where}.{key[:80]}") for key, item in value.items()}
    raise UnexpectedValue(f"{where} is {_NAMES.get(type(value), 'of an unknown type')}")


def _member(kind: type[Enum], value: Any, where: str) -> Enum:
    try:
        return kind(value)
    except ValueError:
        raise UnexpectedValue(f"{where} has a value that this version of the program does not know") from None


def _number(kind: type, value: float, where: str) -> float:
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise UnexpectedValue(f"{where} is too large")
    if kind is int and not isinstance(value, int):
        raise UnexpectedValue(f"{where} is not an integer")
    return float(value) if kind is float else value


def _one_of(kinds: Sequence[Any], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    others = [kind for kind in kinds if kind is not type(None)]
    for kind in others[:-1]:
        try:
            return _typed(kind, value, where)
        except UnexpectedValue:
            continue
    return _typed(others[-1], value, where)

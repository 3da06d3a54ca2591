"""Checks of a request's fields: their declared types, ranges and lengths. Each raises BadRequest that names the field."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import fields
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from diffstudio.errors import BadRequest, must_be_between, unknown_name
from diffstudio.studio.requests.field_names import FIELD_NAMES
from diffstudio.studio.requests.limits import LARGEST_SIDE, LONGEST_PROMPT

_Name = TypeVar("_Name", bound=StrEnum)

_EXPECTED = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    types.NoneType: "nothing",
}


def check_types(record: Any) -> None:
    """Refuse a record with a field whose value is not of its declared type."""
    for name, declared in _field_types(record.__class__).items():
        value = getattr(record, name)
        if not has_type(value, declared):
            kinds = get_args(declared) if get_origin(declared) is types.UnionType else (declared,)
            expected = " or ".join(_EXPECTED[kind] for kind in kinds if kind in _EXPECTED)
            raise BadRequest(f"The setting “{FIELD_NAMES.get(name, name)}” is {shown(value)}", f"{expected} is needed")


@lru_cache(maxsize=64)
def _field_types(kind: type) -> Mapping[str, Any]:
    """The declared type of each field of a dataclass."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def has_type(value: object, declared: Any) -> bool:
    """Whether a value is of a declared type: a class, a union, or a tuple. A bool is not a number; an int is a float."""
    origin, arguments = get_origin(declared), get_args(declared)
    if origin is types.UnionType:
        return any(has_type(value, one) for one in arguments)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if arguments[-1] is Ellipsis:
            return all(has_type(one, arguments[0]) for one in value)
        return len(value) == len(arguments) and all(map(has_type, value, arguments))
    if declared in (int, float):
        return isinstance(value, (int, declared)) and not isinstance(value, bool)
    return isinstance(value, declared)


def shown(value: object) -> str:
    """A value in a message: at most 80 characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an int of more than 4,300 digits, a list nested too deeply
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:79]}…"


def named(names: type[_Name], what: str, value: str) -> _Name:
    """The member of an enumeration with this value, which may be a plain string from the command line or JSON."""
    try:
        return names(value)
    except ValueError:
        name = value if isinstance(value, str) else shown(value)
        raise BadRequest(unknown_name(what, name[:80]), remedy=f"Choose one of {', '.join(names)}") from None


def four_sides(sides: Any) -> tuple[int, int, int, int]:
    """Left, top, right, bottom; a list in JSON."""
    if not isinstance(sides, (list, tuple)) or len(sides) != 4:
        raise BadRequest(
            f"The outpainting margins are {shown(sides)}", remedy="Give four numbers in px: left, top, right, bottom"
        )
    for name, side in zip(("left", "top", "right", "bottom"), sides, strict=True):
        what = f"The outpainting margin at the {name}"
        if not has_type(side, int):
            raise BadRequest(f"{what} is {shown(side)}", "a whole number is needed")
        check_range(what, side, 0, LARGEST_SIDE)
    left, top, right, bottom = sides
    return left, top, right, bottom


def interval_of(interval: Any) -> tuple[float, float] | None:
    """The two ends of a guidance interval, which is a list in JSON. BadRequest unless 0 <= low < high <= 1."""
    if interval is None:
        return None
    if (
        not isinstance(interval, (list, tuple))
        or len(interval) != 2
        or not all(has_type(end, float) for end in interval)
    ):
        raise BadRequest(f"The guidance interval is {shown(interval)}", remedy="Give two numbers, as in 0.1,0.8")
    check_fractions("The guidance interval", *interval)
    return float(interval[0]), float(interval[1])


def times_of(times: Any, steps: object) -> tuple[float, ...]:
    """The times of a spacing that a request carries; a list in JSON. BadRequest unless they fall from at most 1 to above 0.

    () where there is not one for each of the `steps`, which are 0 for a spacing that computes its own.
    """
    numbers = isinstance(times, (list, tuple)) and all(has_type(time, float) for time in times)
    if not numbers or max(times, default=0.0) > 1.0 or not all(low < high for high, low in pairwise((*times, 0.0))):
        raise BadRequest(
            f"The times of the steps are {shown(times)}", "they must be numbers that fall, above 0 and at most 1"
        )
    return tuple(map(float, times)) if len(times) == steps else ()


def check_fractions(what: str, low: float, high: float) -> None:
    """BadRequest for two noise levels that are out of range or in the wrong order."""
    if not 0.0 <= low < high <= 1.0:
        raise BadRequest(
            f"{what} has the noise levels {shown(low)} and {shown(high)}",
            "both must be between 0 and 1, and the first must be lower than the second",
        )


def check_range(what: str, value: float, lowest: float, highest: float) -> None:
    """Refuse a number out of range, or NaN."""
    if not lowest <= value <= highest:
        raise BadRequest(f"{what} is {shown(value)}", must_be_between(lowest, highest))


def check_numbers(*numbers: tuple[str, float, float, float]) -> None:
    """Refuse the first number that is out of range; each has a name, a value, and the lowest and highest one allowed."""
    for what, value, lowest, highest in numbers:
        if not lowest <= value <= highest:
            raise BadRequest(f"The {what} is {value}", must_be_between(lowest, f"{highest:,}"))


def check_each_once(what: str, values: Sequence[object]) -> None:
    """Refuse a value that is given twice; `what` names one of them."""
    if twice := [value for value in values if values.count(value) > 1]:
        raise BadRequest(f"The {what} {twice[0]} was given twice", remedy="Give each once")


def check_steps(steps: int, most: int) -> None:
    check_range("The number of steps", steps, 1, most)


def check_strength(what: str, value: float) -> None:
    if not 0.0 < value <= 1.0:
        raise BadRequest(f"{what} is {shown(value)}", "it must be above 0 and at most 1")


def check_text(what: str, value: str) -> None:
    if not value:
        raise BadRequest(f"{what} is {value!r}", "a name is needed")


def check_prompts(prompt: str, negative: str) -> None:
    for name, text in (("The prompt", prompt), ("The negative prompt", negative)):
        if len(text) > LONGEST_PROMPT:
            raise BadRequest(f"{name} has {len(text):,} characters", f"the limit is {LONGEST_PROMPT:,}", "Shorten it")

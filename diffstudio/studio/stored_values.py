"""Values of stored JSON objects, read without trust: those that cannot be used are named, and the others are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, TypeVar

from diffstudio.errors import BadRequest, DiffstudioError
from diffstudio.studio.stored_json import read_object, set_aside

LONGEST_TEXT = 32_767  # characters: what a field of one line takes

_Value = TypeVar("_Value")
_Number = TypeVar("_Number", float, float | None)
_Choice = TypeVar("_Choice", bound=StrEnum)


class StoredValues:
    """Reads values by their keys. One that is missing, has the wrong type or is out of range becomes its default.

    None is of the right type where it is the default. `unusable` names the values that were stored and are not used,
    by the label that the window has for them if there is one.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self.unusable: list[str] = []

    def read(self, key: str, default: _Value, convert: Callable[[Any], _Value], label: str = "") -> _Value:
        """`convert` raises TypeError, ValueError or BadRequest for a value that cannot be used."""
        value = self._values.get(key, default)
        if value is default:
            return default
        try:
            return convert(value)
        except (TypeError, ValueError, BadRequest):
            self.unusable.append(label or _label(key))
            return default

    def raw(self, key: str) -> Any:
        """The value as it is stored, for a reader that names what is wrong with it; None without one."""
        return self._values.get(key)

    def flag(self, key: str, default: bool = False, label: str = "") -> bool:
        return self.read(key, default, as_flag, label)

    def text(self, key: str, default: str = "", label: str = "") -> str:
        return self.read(key, default, as_text, label)

    def optional_text(self, key: str, label: str = "") -> str | None:
        return self.read(key, None, lambda value: as_text(value) or None, label)

    def optional_path(self, key: str, label: str = "") -> Path | None:
        return self.read(key, None, lambda value: as_path(value) if value != "" else None, label)

    def choice(self, key: str, default: _Choice, label: str = "") -> _Choice:
        """One of the names of an enumeration."""
        return self.read(key, default, type(default), label)

    def whole(self, key: str, default: int, least: int, most: int, label: str = "") -> int:
        return self.read(key, default, lambda value: as_whole(value, least, most), label)

    def number(self, key: str, default: _Number, least: float, most: float, label: str = "") -> _Number:
        return self.read(key, default, lambda value: as_number(value, least, most), label)

    def each(self, key: str, convert: Callable[[Any], _Value], label: str = "") -> tuple[_Value, ...]:
        """The usable items of a list; `1 of 3 tags` names the others."""
        items: list[Any] = self.read(key, [], as_list, label)
        inside = StoredValues({str(index): item for index, item in enumerate(items)})
        found = [inside.read(str(index), None, convert) for index in range(len(items))]
        if count := found.count(None):
            self.unusable.append(f"{count} of {len(items)} {label or _label(key)}")
        return tuple(item for item in found if item is not None)


def as_flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(value)
    return value


def as_text(value: Any, longest: int = LONGEST_TEXT) -> str:
    if not isinstance(value, str) or "\0" in value or len(value) > longest:
        raise TypeError(value)
    return value


def as_path(value: Any) -> Path:
    return Path(as_text(value))


def as_whole(value: Any, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(value)
    return value


def as_number(value: Any, least: float, most: float) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:  # NaN is not
        raise ValueError(value)
    return float(value)


def as_list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(value)
    return value


def as_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(value)
    return value


def partly_unreadable(what: str, unusable: list[str]) -> str:
    """The sentence about values that are not used; empty without any. `what` is plural."""
    some = f"Some of {what[:1].lower()}{what[1:]} could not be read and are not used"
    return f"{some}: {', '.join(unusable)}." if unusable else ""


@dataclass(frozen=True, slots=True)
class Loaded(Generic[_Value]):
    state: _Value
    problem: str = ""  # a sentence to show when the file, or values in it, could not be read


def load(
    path: Path, newest_format: int, read: Callable[[StoredValues], _Value], default: _Value, *, what: str, instead: str
) -> Loaded[_Value]:
    """What a file keeps of a person's choices. Never raises.

    A file that is damaged or of a newer program, or for which `read` raises an error, is set aside: `what` (plural)
    could not be read, so `instead`.
    """
    stored = read_object(path, newest_format)
    why = stored.why
    if not why:
        values = StoredValues(stored.values)
        try:
            state = read(values) if stored.values else default
            return Loaded(state, partly_unreadable(what, values.unusable))
        except DiffstudioError as error:
            why = str(error).rstrip(".")
    return Loaded(default, set_aside(path, what, why, instead))


def _label(key: str) -> str:
    return key.replace("_", " ")

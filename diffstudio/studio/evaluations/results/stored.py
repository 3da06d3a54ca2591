"""Reads the stored result of a Lab verb without trusting it: format, fields, files and damage. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from diffstudio.errors import RunProblem, UnexpectedValue, newer_format, why_unreadable
from diffstudio.studio.evaluations.results.typed import typed_fields

START_AGAIN = "Start the job again"
_T = TypeVar("_T")
_DAMAGES = (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError)


@contextmanager
def damage_named(what: str) -> Iterator[None]:
    """Raise RunProblem instead of the errors of reading a damaged result; it names `what` is damaged, and why."""
    try:
        yield
    except _DAMAGES as error:
        raise RunProblem(f"{what} is damaged", why_unreadable(error), START_AGAIN) from error


def typed_result(kind: type[_T], values: Mapping[str, Any], newest_format: int) -> _T:
    """The dataclass that `asdict` wrote. RunProblem as for `known_fields`; UnexpectedValue for other types."""
    known = known_fields(kind, values, newest_format, "The result")
    known.pop("problem", None)  # it is not stored
    return typed_fields(kind, known)


def known_fields(kind: type, values: Mapping[str, Any], newest_format: int, what: str) -> dict[str, Any]:
    """The values of a dataclass's fields. RunProblem if a newer version of the program wrote them."""
    written = values.get("format")
    if not isinstance(written, int) or written > newest_format:
        raise newer_format(what, written, newest_format)
    known = {one.name for one in fields(kind)}
    return {name: value for name, value in values.items() if name in known}


def file_inside(folder: Path, name: str) -> Path:
    """The file of a result in its folder. UnexpectedValue for one outside it, which a result of somebody else may name."""
    file = folder / name
    if not file.resolve().is_relative_to(folder.resolve()):
        raise UnexpectedValue(f"the file {name[:80]!r} is outside its folder")
    return file

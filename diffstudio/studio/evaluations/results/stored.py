"""Reads the stored result of a Lab verb without trusting it: format, fields, files and damage. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from diffstudio.errors import DiffstudioError, RunProblem, UnexpectedValue, newer_format, why_unreadable
from diffstudio.studio.evaluations.results.typed import typed_fields

START_AGAIN = "Start the job again"
_PROBLEM = "problem"
_T = TypeVar("_T")
_DAMAGES = (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, RecursionError)


@contextmanager
def damage_named(what: str) -> Iterator[None]:
    """Raise RunProblem instead of the errors of reading a damaged result; it names `what` is damaged, and why."""
    try:
        yield
    except _DAMAGES as error:
        raise RunProblem(f"{what} is damaged", why_unreadable(error), START_AGAIN) from error


def typed_result(kind: type[_T], values: Mapping[str, Any], newest_format: int) -> _T:
    """The dataclass that `asdict` wrote. RunProblem as for `known_fields`; UnexpectedValue for other types."""
    return typed_fields(kind, known_fields(kind, values, newest_format, "The result"))


def known_fields(kind: type, values: Mapping[str, Any], newest_format: int, what: str) -> dict[str, Any]:
    """The values of a dataclass's fields, except its problem, which is stored as a sentence.

    RunProblem if a newer version of the program wrote them.
    """
    check_format(values, newest_format, what)
    known = {one.name for one in fields(kind)} - {_PROBLEM}
    return {name: value for name, value in values.items() if name in known}


def check_format(values: Mapping[str, Any], newest_format: int, what: str = "The result") -> None:
    """RunProblem if a newer version of the program wrote the values, or if they do not say which one did."""
    written = values.get("format")
    if not isinstance(written, int):
        raise RunProblem(f"{what} is damaged", "it does not say its format", START_AGAIN)
    if written > newest_format:
        raise newer_format(what, written, newest_format)


def problem_of(values: Mapping[str, Any]) -> DiffstudioError | None:
    """The problem that a result stores as a sentence; None for an empty one. UnexpectedValue for anything else."""
    sentence = values.get(_PROBLEM, "")
    if not isinstance(sentence, str):
        raise UnexpectedValue("problem is not a text")
    return DiffstudioError(sentence.rstrip(".")) if sentence else None


def file_inside(folder: Path, name: str) -> Path:
    """The file of a result in its folder. UnexpectedValue for one outside it, which a result of somebody else may name."""
    file = folder / name
    if not file.resolve().is_relative_to(folder.resolve()):
        raise UnexpectedValue(f"the file {name[:80]!r} is outside its folder")
    return file

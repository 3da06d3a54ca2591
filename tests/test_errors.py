"""Why a stored file cannot be read, in words for the user; names in a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diffstudio.errors import WRONG_VALUE, UnexpectedValue, listed, why_unreadable


def raise_unexpected() -> None:
    raise UnexpectedValue("its size is 0")


@pytest.mark.parametrize(
    ("read", "why"),
    [
        (raise_unexpected, "its size is 0"),
        (lambda: {}["width"], "“width” is missing"),
        (lambda: Path("no such file").read_text(), "no such file or directory"),
        (lambda: json.loads('{\n"a" 1}'), "it is not valid JSON (line 2, column 5)"),
        (lambda: b"\xff".decode(), "it is not text in UTF-8"),
        (lambda: json.loads("[" * 100_000), "its values are nested too deeply"),
        (lambda: [] < 1, WRONG_VALUE),  # type: ignore[operator]
        (lambda: int("x"), WRONG_VALUE),
        (lambda: [][1], WRONG_VALUE),
        (lambda: None.name, WRONG_VALUE),  # type: ignore[attr-defined]
    ],
)
def test_no_name_of_an_exception_is_shown(read: Callable[[], Any], why: str) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - each of another kind
        read()
    assert why_unreadable(raised.value) == why


@pytest.mark.parametrize(
    ("count", "expected"), [(0, ""), (1, "0"), (2, "0, 1"), (3, "0, 1 and 1 more"), (2002, "0, 1 and 2,000 more")]
)
def test_of_many_names_the_first_are_listed_and_the_others_counted(count: int, expected: str) -> None:
    assert listed([str(number) for number in range(count)], 2) == expected


def test_only_names_that_are_shown_are_made() -> None:
    made: list[int] = []
    assert listed(range(1_000_000), 1, lambda number: made.append(number) or "first") == "first and 999,999 more"
    assert made == [0]

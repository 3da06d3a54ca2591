"""Results that are damaged, that a newer version wrote, and that have fields of other versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from diffstudio.errors import RunProblem
from diffstudio.studio.evaluations.results.stored import damage_named, known_fields


@dataclass
class Stored:
    count: int
    name: str = ""


def test_other_fields_and_the_format_are_left_out() -> None:
    assert known_fields(Stored, {"format": 1, "count": 3, "how_to_read": "So."}, 2, "The search") == {"count": 3}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"format": 3}, "The search has format 3: this program reads formats up to 2. Update diffstudio"),
        ({"format": "1"}, "The search is damaged: it does not say its format. Start the job again"),
        ({}, "The search is damaged: it does not say its format"),
    ],
)
def test_a_newer_format_says_what_to_do(values: dict[str, Any], said: str) -> None:
    with pytest.raises(RunProblem, match=said):
        known_fields(Stored, values, 2, "The search")


@pytest.mark.parametrize("read", ["{}['a']", "None + 1", "int('x')", "None.name", "[][1]", "1 / 0", "int(1e400)"])
def test_each_kind_of_damage_is_named(read: str) -> None:
    with (
        pytest.raises(
            RunProblem,
            match="^The result of x is damaged: (“a” is missing|a value in it is .* range). Start the job again.$",
        ),
        damage_named("The result of x"),
    ):
        eval(read)  # noqa: S307


def test_other_errors_are_not_damage() -> None:
    with pytest.raises(RuntimeError), damage_named("The result of x"):
        raise RuntimeError

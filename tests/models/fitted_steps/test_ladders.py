"""Ladders as records: what is valid, what is looked up, and JSON that is read without trust."""

from __future__ import annotations

import json
from typing import Any

import pytest

from diffstudio.models.fitted_steps.ladders import FORMAT, NONE, FittedSteps, Ladder, from_json
from tests.models.fitted_steps.some_ladders import ladder


@pytest.mark.parametrize(
    "changes",
    [
        {"sampler": "nonsense"},
        {"times": ()},
        {"times": (0.5, 0.5)},
        {"times": (1.2, 0.5)},
        {"times": (1.0, 0.0)},
        {"times": (1.0, float("nan"))},
        {"times": tuple(1 - index / 200 for index in range(101))},
        {"guidance": float("inf")},
        {"difference": -1.0},
        {"usual_difference": float("nan")},
        {"width": 0},
        {"images": 0},
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="out of range"):
        ladder(**changes)


def test_a_ladder_is_found_by_sampler_and_steps() -> None:
    fitted = NONE.with_ladders([ladder("euler", 4), ladder("euler", 2), ladder("heun", 3)])
    assert fitted.of("euler", 4) == ladder("euler", 4) and fitted.of("euler", 3) is None
    assert fitted.of("ddim", 2) == ladder("euler", 2)  # the same algorithm
    assert fitted.step_counts("ddim") == (2, 4) and fitted.step_counts("unipc") == ()


def test_new_ladders_replace_those_of_the_same_sampler_and_steps() -> None:
    fitted = NONE.with_ladders([ladder("euler", 4), ladder("euler", 2)])
    better = ladder("euler", 4, difference=1e-6)
    assert fitted.with_ladders([better]).ladders == (ladder("euler", 2), better)


def test_only_one_ladder_is_recommended() -> None:
    first, second = ladder("euler", 4, recommended=True), ladder("heun", 3, recommended=True)
    assert NONE.with_ladders([first]).recommended == first
    both = NONE.with_ladders([first]).with_ladders([second])
    assert both.recommended == second and both.of("euler", 4) == ladder("euler", 4)
    assert NONE.recommended is None


def test_a_recommended_ladder_that_is_fitted_again_stays_recommended() -> None:
    first = NONE.with_ladders([ladder("euler", 4, recommended=True), ladder("heun", 3)])
    again = first.with_ladders([ladder("euler", 4, difference=1e-6), ladder("euler", 2)])
    assert again.recommended == ladder("euler", 4, difference=1e-6, recommended=True)
    other = first.with_ladders([ladder("euler", 4, difference=1e-6), ladder("euler", 2, recommended=True)])
    assert [one.recommended for one in other.ladders] == [True, False, False]


def test_json_keeps_them_to_the_bit() -> None:
    fitted = NONE.with_ladders([ladder("euler", 3, recommended=True), ladder("unipc", 7)])
    assert from_json(fitted.to_json()) == fitted


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "damaged"),
        ("[]", "not a JSON object"),
        ("{}", "format"),
        ('{"format": true}', "format"),
        (json.dumps({"format": FORMAT + 1, "ladders": []}), "reads formats up to"),
        (json.dumps({"format": FORMAT, "ladders": {}}), "no list"),
        (json.dumps({"format": FORMAT, "ladders": [{}] * 2000}), "no list"),
        (json.dumps({"format": FORMAT, "ladders": [{}]}), "missing"),
        (json.dumps({"format": FORMAT, "ladders": [7]}), "missing"),
        ('{"format":' * 100_000, "damaged"),
    ],
)
def test_what_cannot_be_read_is_said(text: str, why: str) -> None:
    found = from_json(text)
    assert found.ladders == () and why in found.problem


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("times", [True, 0.5]),
        ("times", ["1", 0.5]),
        ("sampler", 3),
        ("width", "64"),
        ("times", [1e999]),
        ("usual", None),
    ],
)
def test_a_value_of_a_wrong_type_spoils_the_file(key: str, value: object) -> None:
    values = json.loads(NONE.with_ladders([ladder("euler", 2)]).to_json())
    values["ladders"][0][key] = value
    assert isinstance(from_json(json.dumps(values)), FittedSteps)
    assert from_json(json.dumps(values)).problem


def test_whole_numbers_are_read_as_numbers() -> None:
    values = json.loads(NONE.with_ladders([ladder("euler", 2)]).to_json())
    values["ladders"][0] |= {"times": [1, 0.5], "guidance": 3}
    (found,) = from_json(json.dumps(values)).ladders
    assert found == Ladder("euler", (1.0, 0.5), 3.0, 16, 16, 4, 1e-4, "karras", 1e-3)


@pytest.mark.parametrize(
    ("key", "value"),
    [("guidance", 10**400), ("times", [10**400]), ("width", 10**4000), ("usual", "<b>x</b>"), ("usual", "a\nb")],
    ids=["guidance", "times", "width", "markup", "lines"],
)
def test_a_number_that_is_too_large_or_a_text_that_is_no_name_spoils_the_file(key: str, value: object) -> None:
    values = json.loads(NONE.with_ladders([ladder("euler", 2)]).to_json())
    values["ladders"][0][key] = value
    assert "damaged" in from_json(json.dumps(values)).problem

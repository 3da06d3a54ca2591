"""Values of a stored file, one by one: what cannot be used is named, and the rest is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diffstudio.errors import BadRequest
from diffstudio.studio.settings import Theme
from diffstudio.studio.stored_values import Loaded, StoredValues, as_text, load

_WHAT = "The sizes of things"


def test_usable_values_are_read_and_missing_ones_are_not_named() -> None:
    values = StoredValues(
        {
            "on": True,
            "text": "a",
            "path": "/a",
            "theme": "light",
            "count": 3,
            "share": 1,
            "list": ["a", "b"],
            "no": None,
        }
    )
    assert values.flag("on") and values.flag("gone", True) and values.text("text") == "a"
    assert values.optional_path("path") == Path("/a") and values.optional_text("text") == "a"
    assert values.choice("theme", Theme.DARK) is Theme.LIGHT and values.whole("count", 1, 0, 3) == 3
    assert values.number("share", None, 0, 1) == 1.0 and values.number("no", None, 0, 1) is None
    assert values.each("list", as_text) == ("a", "b") and values.each("gone", as_text) == ()
    assert values.optional_path("no") is None and values.optional_text("no") is None and not values.unusable


@pytest.mark.parametrize("value", ["5", True, 9, -1, 1.5, float("nan"), 10**400, None, [], {}])
def test_a_whole_number_of_another_type_or_out_of_range_is_named(value: Any) -> None:
    values = StoredValues({"kept_steps": value})
    assert values.whole("kept_steps", 4, 0, 8) == 4 and values.unusable == ["kept steps"]


@pytest.mark.parametrize("value", ["5", True, 9, float("nan"), float("inf"), -(10**400), [], {}])
def test_a_number_of_another_type_or_out_of_range_is_named(value: Any) -> None:
    values = StoredValues({"share": value})
    assert values.number("share", None, 0, 8) is None and values.number("share", 2.0, 0, 8, "Share") == 2.0
    assert values.unusable == ["share", "Share"]


@pytest.mark.parametrize("value", [3, None, ["a"], "a\0b", "x" * 40_000])
def test_other_values_of_another_type_are_named(value: Any) -> None:
    values = StoredValues({"it": value})
    assert (values.text("it", "usual"), values.flag("it"), values.choice("it", Theme.DARK)) == (
        "usual",
        False,
        Theme.DARK,
    )
    assert values.unusable == ["it"] * 3


def test_of_a_list_the_usable_items_are_kept() -> None:
    values = StoredValues({"model_folders": ["/a", 3, None], "tags": "cat"})
    assert values.each("model_folders", as_text) == ("/a",) and values.each("tags", as_text) == ()
    assert values.unusable == ["2 of 3 model folders", "tags"]


def _read(values: StoredValues) -> int:
    if values.raw("broken"):
        raise BadRequest("It is broken", "a part is missing")
    return values.whole("size", 5, 0, 10)


@pytest.mark.parametrize(
    ("stored", "state", "problem"),
    [
        ({"size": 7}, 7, ""),
        ({}, 5, ""),
        ({"size": 70}, 5, "Some of the sizes of things could not be read and are not used: size."),
        (
            {"broken": True},
            5,
            "The sizes of things could not be read (It is broken: a part is missing), so they are 5.",
        ),
        ({"format": 2}, 5, "The sizes of things could not be read (it has format 2"),
    ],
)
def test_a_file_is_read_or_set_aside(tmp_path: Path, stored: dict[str, Any], state: int, problem: str) -> None:
    path = tmp_path / "sizes.json"
    assert load(path, 1, _read, 5, what=_WHAT, instead="they are 5") == Loaded(5)
    path.write_text(json.dumps(stored))
    loaded = load(path, 1, _read, 5, what=_WHAT, instead="they are 5")
    assert loaded.state == state and loaded.problem.startswith(problem) and bool(loaded.problem) == bool(problem)
    assert path.exists() == ("sizes.json.damaged" not in loaded.problem)

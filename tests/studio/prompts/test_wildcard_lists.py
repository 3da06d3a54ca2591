"""Wildcards in YAML and JSON files: as the dynamicprompts library reads them, and bombs refused in bounded time."""

from __future__ import annotations

import json
import time
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest
from dynamicprompts.wildcards.collection.structured import parse_structured_file

from diffstudio.studio.prompts.wildcard_lists import LARGEST_YAML_BYTES, read_wildcard_lists


def read(tmp_path: Path, text: str, name: str = "lists.yaml") -> dict[str, list[tuple[str, float]]]:
    file = tmp_path / name
    file.write_text(text, "utf-8")
    return {
        name: [(str(one), getattr(one, "weight", 1.0)) for one in values.entries]
        for name, values in read_wildcard_lists(file).items()
    }


GOOD = """
art:
  style: [oil, 2::ink, "3::a::b", "4x::c"]
  one: charcoal
  weighted: [{text: red, weight: 2}, {content: blue}]
  shared: &shared [x, y]
  again: *shared
"""


def test_lists_are_read_as_the_library_reads_them(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD)
    assert found == {
        "art/style": [("oil", 1.0), ("ink", 2.0), ("3::a::b", 1.0), ("4x::c", 1.0)],
        "art/one": [("charcoal", 1.0)],
        "art/weighted": [("red", 2.0), ("blue", 1.0)],
        "art/shared": [("x", 1.0), ("y", 1.0)],
        "art/again": [("x", 1.0), ("y", 1.0)],
    }
    theirs = dict(parse_structured_file(tmp_path / "lists.yaml"))
    assert {name: [str(one) for one in values.get_values()] for name, values in theirs.items()} == {
        name: [text for text, _ in values] for name, values in found.items()
    }


def test_a_file_that_is_one_list_has_its_name(tmp_path: Path) -> None:
    assert read(tmp_path, "[red, [x], blue]") == {"lists": [("red", 1.0), ("blue", 1.0)]}
    assert read(tmp_path, json.dumps({"a": ["b", ""], "c": None}), "lists.json") == {"a": [("b", 1.0)]}


def test_numbers_and_booleans_are_words(tmp_path: Path) -> None:
    text = "decades: [1980, 1990, 2::2000, 0.50]\n1990: [no, on, {text: 7, weight: 3}]\nyear: 1999"
    found = {
        "decades": [("1980", 1.0), ("1990", 1.0), ("2000", 2.0), ("0.50", 1.0)],
        "1990": [("no", 1.0), ("on", 1.0), ("7", 3.0)],
        "year": [("1999", 1.0)],
    }
    assert read(tmp_path, text) == found
    assert read(tmp_path, '{"a": [1980, 0.5, true, {"text": 7}], "b": 3}', "lists.json") == {
        "a": [("1980", 1.0), ("0.5", 1.0), ("true", 1.0), ("7", 1.0)],
        "b": [("3", 1.0)],
    }


@pytest.mark.parametrize("text", ["", "7", "[]", "a:", "a: [{weight: 2}, [b], null, '', ~]"])
def test_what_holds_no_text_is_no_wildcard(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == {}


def test_a_weight_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    assert read(tmp_path, "a: [{text: b, weight: x}, c]") == {"a": [("c", 1.0)]}


def bomb(first: str, times: int) -> str:
    lines = (f"{to}: &{to} [{', '.join([f'*{of}'] * times)}]" for of, to in pairwise("abcdefghij"))
    return "\n".join([f"a: &a {first}", *lines])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (bomb("[lol, lol, lol, lol, lol]", 9), "aliases describe too much"),  # nested lists
        (bomb("{text: lol}", 9), "aliases describe too much"),
        (bomb("{k: {k: v}}", 9).replace("[", "{<<: [").replace("]", "]}"), "aliases describe too much"),  # merged keys
        (f"a: &a {'x' * 1_000_000}\nb: [{', '.join(['*a'] * 20)}]", "aliases describe too much"),  # one long text
        ("a: &a [*a]", "stands for what it is part of"),
        ("a: *b", "undefined|stands for"),
        ("[" * 1000, "more than 50 levels"),
        ("{a: " * 60 + "b" + "}" * 60, "more than 50 levels"),
        ("x" * (LARGEST_YAML_BYTES + 1), "more than 8 MiB"),
        ("a: [b", "expected|did not find"),
        ("!!python/object/apply:os.system [ls]", "could not determine a constructor"),
    ],
)
def test_bombs_are_refused_in_bounded_time_and_memory(tmp_path: Path, text: str, why: str) -> None:
    began = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=why):
            read(tmp_path, text)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 10

"""SwarmUI's prompt directives: what they become here, and which are named as left out."""

from __future__ import annotations

import json

import pytest

from diffstudio.studio.metadata.readers.other_programs import read_swarmui
from diffstudio.studio.metadata.readers.swarmui_prompt import read_prompt


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a fox", "a fox"),
        ("a <alternate:cat, dog> here", "a [cat|dog] here"),
        ("<alternate:a, b|c, d>", "[a, b|c, d]"),
        ("<alternate:a|b||c>", "[a|b|c]"),
        ("<fromto[0.4]:cat, dog>", "[cat:dog:0.4]"),
        ("<fromto[7]:cat||dog>", "[cat:dog:7]"),
        ("<fromto[.5]:<alternate:a, b>|c>", "[[a|b]:c:.5]"),
        ("a <lora:one:0.5> fox <embed:bad>", "a <lora:one:0.5> fox <embed:bad>"),
        ("<alternate:<lora:x:1> a, b>", "[<lora:x:1> a|b]"),
        ("<comment:mine>a fox", "a fox"),
        ("a fox<break>fog", "a fox BREAK fog"),
        ("i <3 you, <b>bold</b>", "i <3 you, <b>bold</b>"),
        ("3 < 5 > 2, [a|b], (c:1.2)", "3 < 5 > 2, [a|b], (c:1.2)"),
    ],
)
def test_what_has_an_equal_is_translated(text: str, expected: str) -> None:
    assert read_prompt(text) == (expected, [])


@pytest.mark.parametrize(
    ("text", "expected", "left_out"),
    [
        ("a fox <segment:face,0.6> sharp eyes <segment:hand>", "a fox", ["<segment> of the prompt"]),
        ("a <region:0,0,1,1>cat<object:0,0,1,1>dog", "a", ["<region> of the prompt", "<object> of the prompt"]),
        ("a <clear:fog> fox <setvar[x]:y>", "a  fox", ["<clear> of the prompt", "<setvar> of the prompt"]),
        ("<fromto[soon]:a, b> c", "c", ["<fromto> of the prompt"]),
        ("<fromto[0.5]:a, b, c> d", "d", ["<fromto> of the prompt"]),
        ("<random:a, b>", "", ["<random> of the prompt"]),
    ],
)
def test_what_has_none_is_named(text: str, expected: str, left_out: list[str]) -> None:
    assert read_prompt(text) == (expected, left_out)


def test_in_an_image() -> None:
    values = {"prompt": "a <fromto[3]:cat, dog> <segment:x> y", "negativeprompt": "<alternate:a, b> <object:1>"}
    found = read_swarmui({"parameters": json.dumps({"sui_image_params": values})})
    assert found is not None
    assert (found.values["prompt"], found.values["negative"]) == ("a [cat:dog:3]", "[a|b]")
    assert found.not_imported == ["<segment> of the prompt", "<object> of the prompt"]


@pytest.mark.parametrize(
    "text",
    [
        "<" * 3000 + ">" * 3000,
        "<alternate:" * 500 + "a, b" + ">" * 500,
        "\0\1x\1\0",
        "<b>" * 3000,
        "a <alternate:b <segment:x>, c> d",
    ],
)
def test_hostile_ones_are_read_in_bounded_time(text: str) -> None:
    assert isinstance(read_prompt(text)[0], str)

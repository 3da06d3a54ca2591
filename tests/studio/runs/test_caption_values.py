"""Captions are set in the keys that they are read from, and what cannot be read back is not written."""

from __future__ import annotations

from typing import Any

import pytest

from diffstudio.studio.runs.caption_values import set_captions
from diffstudio.training.data.captions.caption_files import captions_in

DOG = {"caption": "a dog.", "tags": ["grass", "sun"], "seed": 1}


@pytest.mark.parametrize(
    ("before", "texts", "after"),
    [
        (DOG, ["a dog, grass"], {"caption": "a dog", "tags": ["grass"]}),
        (DOG, ["a dog, sun, new, grass"], {"caption": "a dog", "tags": ["sun", "new", "grass"]}),
        (DOG, ["sks, a big dog, Grass, sun"], {"caption": "sks, a big dog", "tags": ["Grass", "sun"]}),
        (DOG, ["a dog"], {"caption": "a dog", "tags": []}),
        (DOG, ["another text"], {"caption": "another text", "tags": []}),
        (DOG, [], {"caption": "", "tags": []}),
        (
            {"captions": ["one", "two"], "tags": "x, y"},
            ["one, x, z", "three, x, z"],
            {"captions": ["one", "three"], "tags": "x, z"},
        ),
        (
            {"captions": ["one", "two"], "tags": "x, y"},
            ["one, x", "two, y"],
            {"captions": ["one, x", "two, y"], "tags": ""},
        ),
        (
            {"text": "a", "tags": {"long hair": 0.5, "hat": 0.9}},
            ["a, hat, coat"],
            {"text": "a", "tags": {"hat": 0.9, "coat": 1.0}},
        ),
        ({"tag_string": "long_hair hat"}, ["long hair, red coat"], {"tag_string": "long_hair red_coat"}),
        ({"Prompt": "old"}, ["new"], {"Prompt": "new"}),
        ({"meta": {"prompt": "old", "cfg": 7}}, ["new"], {"meta": {"prompt": "new", "cfg": 7}}),
        ({"metadata": {"caption": "a", "tags": "b"}}, ["a, c"], {"metadata": {"caption": "a", "tags": "c"}}),
    ],
)
def test_what_is_set_is_what_is_read(before: dict[str, Any], texts: list[str], after: dict[str, Any]) -> None:
    values = dict(before)
    assert set_captions(values, texts)
    assert values == before | after and captions_in(values).texts == tuple(texts)


@pytest.mark.parametrize(
    ("before", "texts"),
    [
        ({"seed": 1}, ["new"]),
        ({"tags": ["one"]}, ["two", "three"]),  # tags are one caption
        ({"caption": "one", "text": "two"}, []),  # the other would be read then
        ({"meta": {"tags": "one"}}, ["two", "three"]),
    ],
)
def test_what_cannot_be_read_back_stays_as_it_was(before: dict[str, Any], texts: list[str]) -> None:
    values = dict(before)
    assert not set_captions(values, texts) and values == before

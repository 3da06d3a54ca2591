"""Trigger words and tags from the metadata of LoRAs, as kohya's scripts and ModelSpec write them."""

from __future__ import annotations

import json

import pytest

from diffstudio.models.library.training_metadata import base_model, suggested_words, training_tags, trigger_words

TAGS = {"ss_tag_frequency": json.dumps({"10_sks": {"hat": 2, "red": 7}, "2_hat": {"hat": 3, " ": 1, "bad": -1}})}


@pytest.mark.parametrize(
    ("metadata", "words", "suggested"),
    [
        ({}, (), ()),
        (
            {"modelspec.trigger_phrase": "ohwx man, portrait, ohwx man"},
            ("ohwx man", "portrait"),
            ("ohwx man", "portrait"),
        ),
        ({"ss_trigger_words": '["ohwx", "a hat"]', **TAGS}, ("ohwx", "a hat"), ("ohwx", "a hat")),
        (TAGS, ("sks", "hat"), ("red", "hat")),
        ({"ss_tag_frequency": "[" * 100_000}, (), ()),
        ({"ss_tag_frequency": json.dumps({"a": ["b"]})}, (), ()),
    ],
)
def test_trigger_words(metadata: dict[str, str], words: tuple[str, ...], suggested: tuple[str, ...]) -> None:
    assert trigger_words(metadata) == words
    assert suggested_words(metadata) == suggested


def test_tags_and_base_model() -> None:
    assert training_tags(TAGS) == [("red", 7), ("hat", 5)]
    assert base_model({"ss_base_model_version": "sdxl_base_v1-0", "modelspec.architecture": "x"}) == "sdxl_base_v1-0"
    assert base_model({}) == ""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from diffstudio import paths
from diffstudio.models.caption_words import MOST_EXAMPLES, MOST_WORDS, CaptionWords, caption_words, count_words
from diffstudio.models.checkpoint import Checkpoint, Origin
from diffstudio.models.library.records import read_checkpoint

CAPTIONS = ("red apple, fruit", "two Cherries, fruit", "a jack-o'-lantern’s face", "leaf", "box", "straße 7")


@pytest.fixture
def starter() -> Checkpoint:
    return read_checkpoint(paths.starter(), origin=Origin.STARTER)


def test_words_are_counted_without_case_and_signs() -> None:
    known = count_words(CAPTIONS, ["red apple", "", "leaf", "red apple"])
    assert known.words["fruit"] == 2 and known.words["strasse"] == 1
    assert {"jack", "o", "lantern"} <= set(known.words) and known.examples == ("red apple", "leaf")
    assert CaptionWords(**json.loads(json.dumps(known.to_json())) | {"examples": known.examples}) == known


@pytest.mark.parametrize(
    ("prompt", "unknown"),
    [
        ("red apple", []),
        ("A RED APPLE, with the fruits!", []),
        ("apples and boxes, leaves, cherry", []),
        ("three red Zebras and a zebra-crossing", ["three", "Zebras", "zebra", "crossing"]),
        ("apple's box; 12 apples at 4k, x", []),
        ("wizard, (Wizard:1.2), WIZARD", ["wizard"]),
        ("ｒｅｄ apple", []),  # NFKC, as the tokenizer reads it
        ("Straße, STRASSE", []),
        ("赤い apple", ["赤い"]),
        ("", []),
        ("… --- ,,, !?", []),
    ],
)
def test_words_that_no_caption_has(prompt: str, unknown: list[str]) -> None:
    assert count_words(CAPTIONS).unknown_words(prompt) == unknown


def test_too_many_words_for_a_header_make_no_word_unknown() -> None:
    known = count_words((f"word{'x' * (number % 7)}{number}" for number in range(MOST_WORDS + 1)), ["a"] * 99)
    assert known.words == {} and known.unknown_words("zebra") == [] and known.examples == ("a",)
    assert len(count_words((), [str(number) for number in range(99)]).examples) == MOST_EXAMPLES


def test_the_starter_knows_its_own_prompts(starter: Checkpoint) -> None:
    """captions.json ships beside it; every prompt of its sheet is drawn from what it has learnt."""
    known = caption_words(starter)
    assert known is not None and len(known.examples) == 40 and 1000 < len(known.words) < MOST_WORDS
    assert [known.unknown_words(prompt) for prompt in known.examples] == [[]] * 40
    assert known.unknown_words("a warlock with two zebras") == ["warlock"]


def test_every_included_checkpoint_knows_the_words_of_its_own_captions() -> None:
    _, *others = paths.included_checkpoints()
    for path in others:
        checkpoint = read_checkpoint(path, origin=Origin.INCLUDED)
        known = caption_words(checkpoint)
        assert known is not None and known.words and known.examples, path.name
        without = replace(checkpoint, metadata={})
        assert caption_words(without) is None, "not those of the starter"


def test_a_header_goes_before_everything_else(starter: Checkpoint) -> None:
    metadata = {"diffstudio.captions": json.dumps({"words": {"cat": 3}, "examples": ["cat", 7]})}
    known = caption_words(replace(starter, metadata=metadata))
    assert known == CaptionWords({"cat": 3}, ("cat",))


@pytest.mark.parametrize("text", ["{", "[]", '{"words": []}', '{"words": {}, "examples": 3}', "[" * 100_000])
def test_a_damaged_header_says_nothing(starter: Checkpoint, text: str) -> None:
    assert caption_words(replace(starter, metadata={"diffstudio.captions": text})) is None


def test_older_checkpoints_have_the_prompts_of_their_recipe(starter: Checkpoint) -> None:
    old = replace(starter, origin=Origin.TRAINED)
    known = caption_words(old)
    assert known is not None and known.words == {} and known.examples[:2] == ("red apple", "rocket")
    for recipe in ('{"run": {"prompts": 3}}', '{"run": {"prompts": []}}', "[]", "{"):
        assert caption_words(replace(old, metadata={"diffstudio.recipe": recipe})) is None
    assert caption_words(replace(old, family="sd1", metadata={})) is None


def test_a_starter_without_its_file(starter: Checkpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(paths, "starter", lambda: tmp_path / "starter.safetensors")
    assert caption_words(starter) is None

"""Caption dropout: the shares of the recipe, and no text that is not in the caption."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from diffstudio.training.data.captions.dropout import CaptionDropout, short_prompt

CAPTION = "red apple, fruit, red, food, sweet"


def kind(message: str) -> str:
    parts = [part for part in message.split(", ") if part]
    if not parts:
        return "nothing"
    if parts == ["red apple"]:
        return "name"
    return "name and tags" if parts[0] == "red apple" else "tags"


def test_shares_are_as_asked() -> None:
    dropout, chance = CaptionDropout(0.1, 0.5, 0.2), random.Random(0)
    counts = Counter(kind(dropout.draw(CAPTION, chance)) for _ in range(20_000))
    shares = {name: count / 20_000 for name, count in counts.items()}
    expected = {"nothing": 0.1, "name": 0.5, "tags": 0.2, "name and tags": 0.2}
    assert shares.keys() == expected.keys()
    for name, share in expected.items():
        assert abs(shares[name] - share) < 0.015, name  # four standard deviations


def test_says_only_what_the_caption_says() -> None:
    dropout, chance = CaptionDropout(0.1, 0.3, 0.3), random.Random(1)
    known = set(CAPTION.split(", "))
    for _ in range(200):
        message = [part for part in dropout.draw(CAPTION, chance).split(", ") if part]
        assert set(message) <= known and len(message) == len(set(message)) <= 5


def test_empty_tags_are_left_out() -> None:
    chance = random.Random(2)
    tags_alone, name_and_tags = CaptionDropout(0.0, 0.0, 1.0), CaptionDropout(0.0, 0.0, 0.0)
    assert {name_and_tags.draw(text, chance) for text in ("cat,", " cat , ,", ",cat")} == {"cat"}
    assert {tags_alone.draw("cat,, red,", chance) for _ in range(20)} == {"red"}
    assert name_and_tags.draw(" , ,", chance) == ""


def test_a_caption_without_tags_is_its_name_or_nothing() -> None:
    dropout, chance = CaptionDropout(0.2, 0.1, 0.6), random.Random(2)
    assert {dropout.draw("ghost", chance) for _ in range(200)} == {"ghost", ""}
    assert dropout.draw("", chance) == ""


@pytest.mark.parametrize(
    "sentence",
    [
        "A small dog, sitting on the grass, looks at the camera.",
        "a red ball, a blue cube, and a green cone on a table",
        "A lighthouse at dusk. Waves, spray and clouds.",
        "Two boats, which are moored at the pier, rock gently",
        "Ein Hund, der auf der Wiese liegt, schläft",
        "the sun sets over the dark hills behind town, birds overhead",
        "What a storm, lightning everywhere!",
    ],
)
def test_a_sentence_is_kept_whole_in_every_draw_that_is_not_empty(sentence: str) -> None:
    dropout, chance = CaptionDropout(0.1, 0.5, 0.1), random.Random(3)
    drawn = Counter(dropout.draw(sentence, chance) for _ in range(2_000))
    assert drawn.keys() == {sentence, ""}
    assert 0.07 < drawn[""] / 2_000 < 0.13
    assert short_prompt(sentence) == sentence


@pytest.mark.parametrize(
    "tags",
    [
        "1girl, solo, long hair, looking at viewer, black and white",
        "a photo of sks dog, outdoors, sunlight",
        "grinning face, mouth, open, smile",
        "lighthouse, f/1.8, 35 mm",
    ],
)
def test_tags_are_shuffled_and_any_number_of_them_is_drawn(tags: str) -> None:
    dropout, chance = CaptionDropout(0.0, 0.0, 0.0), random.Random(4)
    name, *rest = tags.split(", ")
    drawn = {dropout.draw(tags, chance) for _ in range(300)}
    assert all(text.split(", ")[0] == name and set(text.split(", ")[1:]) <= set(rest) for text in drawn)
    assert {len(text.split(", ")) for text in drawn} == set(range(2, len(rest) + 2))
    assert len({text for text in drawn if text.count(",") == len(rest)}) > 1
    assert short_prompt(tags) == name


def test_no_sentence_is_reduced_to_an_empty_prompt() -> None:
    assert short_prompt(" , ") == short_prompt("") == ""

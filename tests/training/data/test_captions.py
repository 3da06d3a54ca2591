"""Caption dropout: the shares of the recipe, and no text that is not in the caption."""

from __future__ import annotations

import random
from collections import Counter

from diffstudio.training.data.captions import CaptionDropout

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
        assert set(message) <= known and len(message) == len(set(message)) <= 4


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

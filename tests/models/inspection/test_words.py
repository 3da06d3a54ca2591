"""Words of prompts and their tokens: sub-tokens merged, punctuation and the syntax of weights left out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diffstudio.models.conditioning.prompt_weighting import split_chunks
from diffstudio.models.conditioning.textual_inversion import TextualInversion
from diffstudio.models.families.stable_diffusion import StableDiffusion
from diffstudio.models.inspection.words import PromptWord, joined, weighted_words, words_at, words_in
from tests.models.inspection.models import load
from tests.models.small_files import words as clip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("red apple, on a table!", ["red", "apple", "on", "a", "table"]),
        ("rock'n'roll well-known it’s", ["rock'n'roll", "well-known", "it’s"]),
        ("a 1.5 m wall, 2, 3", ["a", "1.5", "m", "wall", "2", "3"]),
        ("", []),
        (" ,. ", []),
        ("赤い apple 猫", ["赤", "い", "apple", "猫"]),
        ("🍎🍏 fruit", ["🍎🍏", "fruit"]),
    ],
)
def test_words_are_what_a_person_would_point_at(text: str, expected: list[str]) -> None:
    assert [text[first:last] for first, last in words_in(text)] == expected


def test_sub_tokens_are_merged_and_positions_counted() -> None:
    offsets = [(0, 3), (3, 6), (6, 7), (7, 12)]  # "unh" "app" "," " word"
    found = words_at("unhapp, word", offsets, first=10, longest=3)
    assert found == (PromptWord("unhapp", (10, 11)), PromptWord("word", ()))  # cut off


def test_words_that_share_a_token_become_one() -> None:
    assert words_at("猫犬鳥", [(0, 2), (2, 3)]) == (PromptWord("猫犬", (0,)), PromptWord("鳥", (1,)))


def test_only_the_prompt_within_a_template_has_words() -> None:
    text = "<user>red apple<end>"
    found = words_at(text, [(0, 6), (6, 9), (9, 15), (15, 20)], start=6, end=15)
    assert found == (PromptWord("red", (1,)), PromptWord("apple", (2,)))


def ids(text: str) -> list[int]:
    return list(clip()(text, add_special_tokens=False).input_ids)


def weighted(prompt: str) -> list[tuple[str, tuple[int, ...], float]]:
    chunks = split_chunks(prompt, ids)
    return [(word.text, word.tokens, round(word.weight, 4)) for word in weighted_words(prompt, chunks, ids)]


def test_weights_and_escapes_are_syntax_and_no_words() -> None:
    assert weighted(r"(red:1.3) \(big\) [apple], tree") == [
        ("red", (1,), 1.3),
        ("big", (3,), 1.0),  # after the token of the bracket
        ("apple", (5,), round(1 / 1.1, 4)),
        ("tree", (7,), 1.0),
    ]


def test_a_word_of_two_weights_is_one_word() -> None:
    ((text, tokens, _),) = weighted("ca(ts:1.2)")
    assert text == "cats" and tokens == (1, 2)
    assert [text for text, *_ in weighted("cat (s:1.2)")] == ["cat", "s"]


def test_long_words_and_chunks() -> None:
    found = weighted("red BREAK antidisestablishmentarianism apple")
    assert found[0][:2] == ("red", (1,))
    assert found[1][0] == "antidisestablishmentarianism" and len(found[1][1]) > 2 and found[1][1][0] == 78
    assert found[2][0] == "apple" and found[2][1] == (found[1][1][-1] + 1,)


def test_pieces_that_read_otherwise_alone_are_kept_together() -> None:
    def counts_spaces(text: str) -> list[int]:  # merges over every boundary but spaces
        return [len(part) for part in text.split()]

    def one_token(text: str) -> list[int]:
        return [len(text)] if text else []

    prompt = "red,blue cat"
    for tokens, expected in ((counts_spaces, ["red,blue", "cat"]), (one_token, ["red,blue cat"])):
        found = weighted_words(prompt, split_chunks(prompt, tokens), tokens)
        assert [word.text for word in found] == expected


def test_two_encoders_have_the_same_words() -> None:
    one = (PromptWord("red", (1,)), PromptWord("猫犬", (2,)))
    other = (PromptWord("red", (77,)), PromptWord("猫", (78,)), PromptWord("犬", (79,)))
    expected = (PromptWord("red", (1, 77)), PromptWord("猫犬", (2, 78, 79)))
    assert joined(one, other) == expected
    assert [word.text for word in joined(other, one)] == ["red", "猫犬"]
    assert joined(one, one)[0].tokens == (1, 1)


@pytest.fixture(scope="module")
def stable_diffusion(tmp_path_factory: pytest.TempPathFactory) -> StableDiffusion:
    model = load("sd1", tmp_path_factory.mktemp("sd1"))
    assert isinstance(model, StableDiffusion)
    return model


def test_an_embedding_is_one_word(stable_diffusion: StableDiffusion, tmp_path: Path) -> None:
    stable_diffusion.textual_inversions.use([TextualInversion("style", {32: torch.randn(3, 32)})])
    found = stable_diffusion.prompt_words("red style apple")
    stable_diffusion.textual_inversions.use([])
    assert [(word.text, word.tokens) for word in found] == [("red", (1,)), ("style", (2, 3, 4)), ("apple", (5,))]

"""The tokenizer: every script, the same words for the same text, and a round trip through a file."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffstudio.networks.caption_tokenizer import PADDING, CaptionTokenizer

CAPTIONS = ["red apple, fruit", "green apple, fruit", "pizza, cheese, slice", "Kätzchen", "猫, 動物", "صاروخ"]


@pytest.fixture(scope="module")
def tokenizer() -> CaptionTokenizer:
    return CaptionTokenizer.learn(CAPTIONS * 3, 400)


def test_a_learnt_word_is_one(tokenizer: CaptionTokenizer) -> None:
    assert tokenizer.count("apple") == 1 and tokenizer.count("red apple") == 2


def test_case_commas_and_spaces_do_not_count(tokenizer: CaptionTokenizer) -> None:
    written = tokenizer.encode(["Red  APPLE, fruit", "red apple fruit"], 8)
    assert written[0].tolist() == written[1].tolist()


def test_cut_and_padded(tokenizer: CaptionTokenizer) -> None:
    assert tokenizer.encode(["", "apple " * 50], 4)[0].tolist() == [PADDING] * 4
    assert PADDING not in tokenizer.encode(["apple " * 50], 4)
    assert tokenizer.encode([], 4).shape == (0, 4)


def test_ids_that_were_remembered_are_the_same_and_cannot_be_changed_from_outside() -> None:
    tokenizer = CaptionTokenizer.learn(CAPTIONS * 3, 400)
    first = tokenizer.encode(CAPTIONS, 12)
    expected = first.tolist()
    first.zero_()
    assert tokenizer.encode(CAPTIONS, 12).tolist() == expected
    assert tokenizer._ids.cache_info().hits == len(CAPTIONS)
    assert [tokenizer.count(caption) for caption in CAPTIONS] == [
        sum(id_ != PADDING for id_ in row) for row in expected
    ]
    assert copy.deepcopy(tokenizer).encode(CAPTIONS, 12).tolist() == expected


def test_a_remembered_caption_takes_little_memory() -> None:
    """65,536 captions of 60 words in integers of Python take 360 MB."""
    tokenizer = CaptionTokenizer.learn(CAPTIONS * 3, 400)
    assert tokenizer._new_ids("apple pizza " * 30).nbytes == 4 * 60


def test_each_token_says_which_characters_it_is(tokenizer: CaptionTokenizer) -> None:
    text = "red apple"
    assert [text[start:end].strip() for start, end in tokenizer.offsets(text)] == ["red", "apple"]
    assert len(tokenizer.offsets("Kätzchen 猫")) == tokenizer.count("Kätzchen 猫") and tokenizer.offsets("") == []


def test_survives_its_file(tokenizer: CaptionTokenizer) -> None:
    again = CaptionTokenizer.from_json(tokenizer.to_json())
    assert again.vocabulary == tokenizer.vocabulary
    assert again.encode(CAPTIONS, 12).tolist() == tokenizer.encode(CAPTIONS, 12).tolist()


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_words_that_are_known(text: str) -> None:
    tokenizer = CaptionTokenizer.learn(CAPTIONS, 300)
    ids = tokenizer.encode([text], 64)[0]
    assert ((ids >= 0) & (ids < tokenizer.vocabulary)).all()
    if text.strip(" \t\r\n,"):
        assert tokenizer.count("x" + text) > 0


def test_no_captions_still_make_a_tokenizer() -> None:
    assert CaptionTokenizer.learn([], 100).count("anything") > 0


def test_an_extended_tokenizer_keeps_its_words_and_knows_the_frequent_new_ones(tokenizer: CaptionTokenizer) -> None:
    extended = tokenizer.extended(["zebra crossing, street", "zebras"] * 3 + ["rare"], 100)
    for caption in CAPTIONS:
        assert extended.encode([caption], 12).tolist() == tokenizer.encode([caption], 12).tolist()
    assert extended.count("zebra") == 1 < tokenizer.count("zebra")
    assert extended.count("rare") == tokenizer.count("rare")  # used once
    for token in range(tokenizer.vocabulary, extended.vocabulary):
        parts = tokenizer.parts_of(token, extended)
        assert len(parts) > 1 and max(parts) < tokenizer.vocabulary
    again = extended.extended(["zebra crossing"] * 3, 100)
    assert again.vocabulary == extended.vocabulary


def test_an_extended_tokenizer_has_no_more_tokens_than_allowed(tokenizer: CaptionTokenizer) -> None:
    few = tokenizer.extended(["extraordinarily unlikely wording"] * 2, 5)
    assert few.vocabulary <= tokenizer.vocabulary + 5
    assert tokenizer.extended([], 5).vocabulary == tokenizer.vocabulary

"""Prompts: AUTOMATIC1111's grammar and chunks; plain prompts encode as diffusers encodes them, to the bit."""

from __future__ import annotations

import json
import re
import warnings
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from torch import Tensor

from diffstudio.models.conditioning.prompt_weighting import (
    BACKTRACK,
    CHUNK_TOKENS,
    TokenChunk,
    TokenCount,
    WeightedText,
    count_tokens,
    encode_weighted,
    parse_prompt,
    reweighted,
    split_chunks,
    strip_syntax,
)
from diffstudio.networks.caption_tokenizer import CaptionTokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789,.:;()[]\\!<>|-'"
COMMA = 0


def ids(text: str) -> list[int]:
    """A token for each character but spaces; a comma is COMMA."""
    return [COMMA if character == "," else ord(character) for character in text if character != " "]


def clip_tokenizer() -> Any:
    """Of CLIP's class; it knows single letters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import CLIPTokenizer
    words = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer({word: number for number, word in enumerate(words)}, [], model_max_length=CHUNK_TOKENS + 2)


@pytest.fixture(scope="module")
def clip() -> tuple[Any, Any]:
    """A CLIP text encoder with random weights, and a tokenizer of its class that knows single letters."""
    tokenizer = clip_tokenizer()
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=37,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=CHUNK_TOKENS + 2,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    for name, weight in encoder.state_dict().items():
        if name.endswith("final_layer_norm.bias"):
            weight += 0.1  # so that there is a mean to restore, as in a trained encoder
    return tokenizer, encoder.eval().requires_grad_(False)


def encoded(clip: tuple[Any, Any], *prompts: str) -> Tensor:
    tokenizer, encoder = clip

    def encode(tokens: Tensor) -> tuple[Tensor, Tensor]:
        message = encoder(tokens)
        return message.last_hidden_state, message.pooler_output

    return encode_weighted(prompts, tokenizer, encode).states


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("a cat", [("a cat", 1.0)]),
        ("a (cat)", [("a ", 1.0), ("cat", 1.1)]),
        ("((cat))", [("cat", 1.1 * 1.1)]),
        ("a [cat]", [("a ", 1.0), ("cat", 1 / 1.1)]),
        ("(cat:1.35) b", [("cat", 1.35), (" b", 1.0)]),
        ("(cat: -.5 )", [("cat", -0.5)]),
        ("(a (b:2) c:1.5)", [("a ", 1.5), ("b", 3.0), (" c", 1.5)]),
        ("(a [b] c)", [("a ", 1.1), ("b", 1 / 1.1 * 1.1), (" c", 1.1)]),
        (r"\(cat\) \[b\] \\", [(r"(cat) [b] \ "[:-1], 1.0)]),
        (r"(c\)at:1.2)", [("c)at", 1.2)]),
        ("(cat:1.0) b", [("cat b", 1.0)]),
        ("(cat", [("cat", 1.1)]),
        ("a [unbalanced", [("a ", 1.0), ("unbalanced", 1 / 1.1)]),
        ("a (b [c) d", [("a ", 1.0), ("b ", 1.1), ("c", 1 / 1.1 * 1.1), (" d", 1 / 1.1)]),
        (r"a\b\:c", [("ab:c", 1.0)]),
        ("cat)) b", [("cat)) b", 1.0)]),
        ("[cat (b)", [("cat ", 1 / 1.1), ("b", 1.1 * (1 / 1.1))]),
        ("cat:1.2) b", [("cat:1.2) b", 1.0)]),
        ("(cat:1.2.3)", [("cat:1.2.3", 1.1)]),
        ("[a|b] [c:d:0.5]", [("a|b", 1 / 1.1), (" ", 1.0), ("c:d:0.5", 1 / 1.1)]),
        ("", []),
    ],
)
def test_a_prompt_is_read_in_pieces(text: str, pieces: list[tuple[str, float]]) -> None:
    assert parse_prompt(text) == (tuple(WeightedText(*piece) for piece in pieces),)


def test_break_parts_sections_and_keeps_the_weight() -> None:
    assert parse_prompt("a BREAK b") == ((WeightedText("a "),), (WeightedText(" b"),))
    assert parse_prompt("(a BREAK b:1.3) c") == (
        (WeightedText("a ", 1.3),),
        (WeightedText(" b", 1.3), WeightedText(" c")),
    )
    assert parse_prompt("BREAKFAST break") == ((WeightedText("BREAKFAST break"),),)
    assert strip_syntax("(a:1.2) b BREAK [c]") == "a b c"


@given(st.text(alphabet="ab ,:.12()[]\\", max_size=60))
def test_without_escapes_no_character_but_brackets_is_lost(text: str) -> None:
    text = text.replace("\\", "")
    kept = "".join(piece.text for section in parse_prompt(text) for piece in section)
    assert [one for one in kept if one in "ab,"] == [one for one in text if one in "ab,"]
    assert not set("([") & set(kept)  # those that are not closed act up to the end


def test_ten_thousand_brackets_are_read_at_once() -> None:
    assert parse_prompt("(a" * 3000 + ")" * 3000)[0][-1].weight > 1e100
    assert parse_prompt("(" * 10_000) == ((),)
    assert parse_prompt(")" * 10_000) == ((WeightedText(")" * 10_000),),)


def lengths(text: str) -> list[int]:
    return [len(chunk.ids) for chunk in split_chunks(text, ids)]


def test_a_chunk_holds_75_tokens() -> None:
    assert lengths("") == [0]
    assert lengths("x" * 75) == [75]
    assert lengths("x" * 76) == [75, 1]
    assert lengths("x" * 200) == [75, 75, 50]


def test_a_comma_near_the_end_of_a_chunk_ends_it() -> None:
    first = CHUNK_TOKENS - BACKTRACK  # the first place from which a comma counts
    assert lengths("x" * first + "," + "y" * 40) == [first + 1, 40]
    assert lengths("x" * (first - 1) + "," + "y" * 40) == [75, first + 40 - 75]
    assert lengths("x" * 74 + "," + "y") == [75, 1]
    assert lengths("x" * 75 + "," + "y") == [75, 2]  # the comma itself is the first that does not fit
    assert lengths("x" * 60 + "," + "y" * 5 + "," + "z" * 20) == [67, 20]
    assert lengths("x" * 60 + "," + "y" * 10) == [71]  # nothing is moved where all fits


def test_an_embedding_is_never_cut_at_the_end_of_a_chunk() -> None:
    """A1111's rule: it goes to the next chunk whole where it does not fit, and the rest of the chunk is padding."""

    def with_embedding(text: str) -> list[int]:
        return [token for one in text for token in (range(-1, -9, -1) if one == "E" else ids(one))]

    def chunks(text: str) -> list[tuple[int, ...]]:
        return [chunk.ids for chunk in split_chunks(text, with_embedding, {-1: 8})]

    embedding = tuple(range(-1, -9, -1))
    x = ord("x")
    for before in range(CHUNK_TOKENS + 1):
        found = chunks("x" * before + "Ey")
        if before <= CHUNK_TOKENS - 8:
            assert found[0][: before + 8] == (x,) * before + embedding
        else:
            assert found == [(x,) * before, (*embedding, ord("y"))]
    assert [len(chunk) for chunk in chunks("E" * 10)] == [72, 8]
    assert chunks("x" * 60 + "," + "y" * 14 + "E") == [
        (x,) * 60 + (COMMA,),
        (ord("y"),) * 14 + embedding,
    ]  # at the very end of a chunk, what follows its last comma comes along
    assert chunks("x" * 60 + "," + "y" * 10 + "E")[1] == embedding


def test_break_begins_a_chunk() -> None:
    assert lengths("a BREAK b") == [1, 1]
    assert lengths("a BREAK") == [1]
    assert lengths("BREAK a") == [0, 1]
    assert lengths("a BREAK BREAK b") == [1, 0, 1]
    assert lengths("BREAK") == [0]
    assert lengths("x" * 80 + " BREAK y") == [75, 5, 1]


def test_weights_travel_with_their_tokens() -> None:
    assert split_chunks("a (bc:1.5)", ids) == [TokenChunk((97, 98, 99), (1.0, 1.5, 1.5))]
    assert split_chunks("x" * 74 + "(yy:2)", ids)[1] == TokenChunk((121,), (2.0,))


def test_plain_prompts_encode_as_diffusers_does_to_the_bit(clip: tuple[Any, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers import StableDiffusionPipeline

        pipe = StableDiffusionPipeline(None, clip[1], clip[0], None, None, None, None, requires_safety_checker=False)
    for text in ("a red cat", "", "cat, dog; (c) 1.5 [x"):
        escaped = re.sub(r"[()\[]", r"\\\g<0>", text)
        wanted, unwanted = pipe.encode_prompt(text, "cpu", 1, True, "ugly")
        ours = encoded(clip, escaped, "ugly")
        assert torch.equal(ours[:1], wanted)
        assert torch.equal(ours[1:], unwanted)
        assert torch.equal(encoded(clip, f"({escaped}:1.0)"), wanted)


def test_weights_multiply_and_the_mean_comes_back(clip: tuple[Any, Any]) -> None:
    before, after = encoded(clip, "abc def"), encoded(clip, "abc (def:1.5)")
    weights = torch.ones(1, CHUNK_TOKENS + 2, 1)
    weights[:, 4:7] = 1.5
    expected = before * weights
    expected = expected * (before.mean() / expected.mean())
    torch.testing.assert_close(after, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(after.mean(), before.mean())
    assert not torch.equal(after, before)


def test_a_mean_of_zero_is_left_as_it_is() -> None:
    """Of states that are normalised and have no bias: a factor of 0 / 0 would make NaN of them."""
    tokenizer = clip_tokenizer()
    states = torch.tensor([[[1.0, -1.0]]]).expand(1, CHUNK_TOKENS + 2, 2)
    found = encode_weighted(("a (b:1.5)",), tokenizer, lambda tokens: (states, states[:, 0])).states
    assert bool(torch.isfinite(found).all()) and found[0, 2].tolist() == [1.5, -1.5]


def test_all_prompts_get_as_many_chunks_as_the_longest(clip: tuple[Any, Any]) -> None:
    together = encoded(clip, "a" * 100, "b")
    assert together.shape == (2, 2 * (CHUNK_TOKENS + 2), 32)
    assert torch.equal(together[1:, CHUNK_TOKENS + 2 :], encoded(clip, ""))
    assert torch.equal(together[1:, : CHUNK_TOKENS + 2], encoded(clip, "b"))
    assert torch.equal(encoded(clip, "a" * 75, "b BREAK c")[:, CHUNK_TOKENS + 2 :], encoded(clip, "", "c"))


def test_the_first_chunk_is_pooled_and_equal_chunks_are_encoded_once(clip: tuple[Any, Any]) -> None:
    calls: list[Tensor] = []

    def encode(tokens: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(tokens)
        return torch.ones(1, CHUNK_TOKENS + 2, 4), tokens[:, 1:2].float()

    made = encode_weighted(["a BREAK b", "c", "c"], clip[0], encode)
    assert len(calls) == 4  # a, b, c and the empty chunk
    assert all(call.shape == (1, CHUNK_TOKENS + 2) for call in calls)
    assert made.pooled is not None
    assert made.pooled.flatten().tolist() == [clip[0].convert_tokens_to_ids(f"{letter}</w>") for letter in "acc"]
    nothing_pooled = encode_weighted(["a"], clip[0], lambda tokens: (torch.ones(1, CHUNK_TOKENS + 2, 4), None))
    assert nothing_pooled.pooled is None


def test_tokens_are_counted_in_chunks(clip: tuple[Any, Any]) -> None:
    tokenizer = clip[0].backend_tokenizer
    assert count_tokens("(cat:1.2), b", tokenizer) == TokenCount(5, 75, 1)
    assert count_tokens("", tokenizer) == TokenCount(0, 75, 1)
    assert count_tokens("a" * 80 + " BREAK b", tokenizer) == TokenCount(81, 225, 3)
    assert count_tokens("a b", tokenizer) == TokenCount(2, 75, 1)


def test_what_is_cut_is_named() -> None:
    tokenizer = CaptionTokenizer.learn(["red apple", "rocket", "star"] * 9, 300)
    text = "Red  apple, a rocket 😀 "
    words = json.loads(tokenizer.to_json())["model"]["vocab"]
    assert {"Ġred", "Ġapple", "Ġrocket"} <= set(words)
    backend = Tokenizer.from_str(tokenizer.to_json())
    assert count_tokens(text, backend, 16).cut is None
    count = count_tokens(text, backend, 4)  # red, apple, and two for a word it has not learnt
    assert (count.used, count.room, count.chunks) == (tokenizer.count(text), 4, 1)
    assert count.cut is not None
    assert text[slice(*count.cut)] == "rocket 😀"
    assert count_tokens("red apple rocket", backend, 3) == TokenCount(3, 3)


@pytest.mark.parametrize(
    ("before", "steps", "after"),
    [
        ("a |red| cat", 1, "a (|red|:1.1) cat"),
        ("a |red| cat", -2, "a (|red|:0.8) cat"),
        ("a (|red|:1.1) cat", 1, "a (|red|:1.2) cat"),
        ("a (|red|:1.1) cat", -1, "a |red| cat"),
        ("a |(red:1.3)| cat", 1, "a (|red|:1.4) cat"),
        ("a (|red|) cat", 1, "a (|red|:1.2) cat"),
        ("a| red |cat", 1, "a (|red|:1.1) cat"),
        ("a re||d cat", 1, "a (|red|:1.1) cat"),
        ("(a re||d cat:1.1), b", 1, "(|a red cat|:1.2), b"),
        ("((a||b:1.3) c:1.5)", -1, "((|ab|:1.2) c:1.5)"),
        ("|red cat, big| dog", 1, "(|red cat, big|:1.1) dog"),
        ("x <lora:a b:0||.8> y", 1, "x |<lora:a b:0.85>| y"),
        ("<lo||ra:ab>", -1, "|<lora:ab:0.95>|"),
        (r"\(|red|\)", 1, r"\((|red|:1.1)\)"),
        ("a , || , b", 1, "a , || , b"),
        ("||", 1, "||"),
    ],
)
def test_a_selection_is_made_stronger_and_weaker(before: str, steps: int, after: str) -> None:
    def marked(text: str) -> tuple[str, int, int]:
        left, middle, right = text.split("|")
        return left + middle + right, len(left), len(left + middle)

    assert reweighted(*marked(before), steps) == marked(after)


@given(st.text(alphabet="ab (),:1.2<>[]\\", max_size=30), st.data())
def test_up_and_down_again_changes_nothing_that_is_read(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    changed, first, last = reweighted(text, start, end, 1)
    assert 0 <= first <= last <= len(changed)
    assert [letter for letter in changed if letter in "ab"] == [letter for letter in text if letter in "ab"]

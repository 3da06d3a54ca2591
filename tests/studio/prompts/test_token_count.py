"""The tokens of a prompt as the counter shows them: those of the longest text that it is encoded as."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.library.records import read_checkpoint
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.prompts.token_count import count_tokens
from tests.models.families.beside import checkpoint
from tests.models.tiny import write_tiny_checkpoint


@pytest.fixture(scope="module")
def sd1() -> Checkpoint:
    """Without a tokenizer of its own: counted with the vocabulary that ships with the program."""
    return checkpoint(Path("/models/dreamy"), "sd1")


@pytest.mark.parametrize(
    ("prompt", "used"),
    [
        ("a cat", 2),
        ("a [cat:big red dog:0.5]", 4),  # the longest of its steps
        ("a [cat|big red dog]", 4),
        ("a cat AND a big red dog :1.5 AND b", 4),  # of those that AND joins
        ("a cat <lora:style:0.8>", 2),
        ("a cat <lyco:style:0.8>", 2),
        (r"a \[cat\]", 4),
    ],
)
def test_the_longest_text_counts(sd1: Checkpoint, prompt: str, used: int) -> None:
    found = count_tokens(sd1, prompt)
    assert found.tokens is not None and (found.tokens.used, found.tokens.room) == (used, 75)
    assert not found.drawn and not found.in_chunks and not found.problem


def test_only_a_plain_text_says_what_is_cut(tmp_path: Path) -> None:
    tiny = read_checkpoint(write_tiny_checkpoint(tmp_path / "tiny.safetensors"))
    plain = count_tokens(tiny, "red apple, rocket, space, purple heart").tokens
    assert plain is not None and plain.used > plain.room == 4 and plain.cut is not None
    changing = count_tokens(tiny, "red apple, rocket, [space|star], purple heart").tokens
    assert changing is not None and changing.used > 4 and changing.cut is None


def test_wildcards_and_what_cannot_be_counted(sd1: Checkpoint, home: Path, tmp_path: Path) -> None:
    found = count_tokens(sd1, "a {cat|dog}")
    assert found.drawn and found.tokens is not None and found.tokens.used == 2
    assert "never closed" in count_tokens(sd1, "{").problem
    classes = write_tiny_checkpoint(tmp_path / "classes.safetensors", conditioning=Conditioning.CLASS)
    assert count_tokens(read_checkpoint(classes), "heart").tokens is None

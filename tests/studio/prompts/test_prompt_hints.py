from __future__ import annotations

import json
from dataclasses import replace

import pytest

from diffstudio import paths
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.library.records import read_checkpoint
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.prompts.prompt_hints import EMPTY_PROMPT, example_prompts, prompt_hint


@pytest.fixture
def checkpoint() -> Checkpoint:
    captions = {"words": {"red": 1, "apple": 1, "house": 2}, "examples": [f"apple {number}" for number in range(10)]}
    return replace(read_checkpoint(paths.starter()), metadata={"diffstudio.captions": json.dumps(captions)})


@pytest.mark.parametrize("prompt", ["", "  \n", "<lora:style:0.8>"])
def test_an_empty_prompt_is_said(checkpoint: Checkpoint, prompt: str) -> None:
    assert prompt_hint([prompt], checkpoint) == EMPTY_PROMPT


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("red apples", ""),
        ("red apple <lora:wizard:0.8>", ""),
        ("(red apple:1.3), [house]", ""),
        ("__animals/wizards__ house", ""),
        ("__animals__", ""),
        ("{red|blue} house", "blue"),
        ("Wizard in a house, wizard", "Wizard"),
        ("q1 b2 alpha beta gamma delta epsilon zeta eta", "alpha, beta, gamma, delta, epsilon, zeta and 1 more"),
    ],
)
def test_words_the_checkpoint_never_saw_are_named(checkpoint: Checkpoint, prompt: str, named: str) -> None:
    hint = prompt_hint([prompt], checkpoint)
    assert hint == (f"Not in the captions this checkpoint was trained on: {named}" if named else "")


def test_several_prompts_make_one_hint(checkpoint: Checkpoint) -> None:
    assert prompt_hint(["red wizard", "blue wizard", "WIZARD"], checkpoint).endswith(": WIZARD, blue")
    assert prompt_hint(["red wizard", ""], checkpoint) == EMPTY_PROMPT


def test_only_for_models_trained_here_on_captions(checkpoint: Checkpoint) -> None:
    for other in (
        replace(checkpoint, family="sd1"),
        replace(checkpoint, conditioning=Conditioning.CLASS),
        replace(checkpoint, conditioning=Conditioning.NONE),
    ):
        assert prompt_hint(["", "wizard"], other) == ""
    assert example_prompts(replace(checkpoint, conditioning=Conditioning.NONE), 4) == ()


def test_a_checkpoint_without_captions(checkpoint: Checkpoint) -> None:
    bare = replace(checkpoint, metadata={})
    assert prompt_hint(["wizard"], bare) == "" and prompt_hint([""], bare) == EMPTY_PROMPT
    assert example_prompts(bare, 4) == ()


def test_examples_are_spread_evenly(checkpoint: Checkpoint) -> None:
    assert example_prompts(checkpoint, 4) == ("apple 0", "apple 2", "apple 5", "apple 7")
    assert len(example_prompts(checkpoint, 40)) == 10

"""As many tokens as the captions of a folder need, within a limit, and what is cut is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from diffstudio.networks.caption_tokenizer import CaptionTokenizer
from diffstudio.training.data.dataset import ImageDataset
from diffstudio.training.data.folder_report import MAX_TEXT_TOKENS
from diffstudio.training.preparation.caption_length import fit_text_tokens
from diffstudio.training.recipe import NetworkRecipe, Recipe

RECIPE = Recipe(network=NetworkRecipe(text_tokens=16, vocabulary=600))


def fitted(*captions: tuple[str, ...], fixed: bool = False) -> tuple[int, str, list[int]]:
    """The tokens that are read, the sentence, and the lengths of all captions."""
    dataset = ImageDataset(
        images=np.zeros((len(captions), 8, 8, 3), np.uint8),
        captions=tuple(texts[0] for texts in captions),
        classes=("",),
        labels=np.zeros(len(captions), np.int64),
        held_out=np.zeros(len(captions), bool),
        paths=tuple(Path(f"{number}.png") for number in range(len(captions))),
        skipped=(),
        file=Path("none"),
        sizes=np.full((len(captions), 2), 8),
        alternatives=captions,
    )
    tokenizer = CaptionTokenizer.learn(dataset.all_captions(), 600)
    recipe, sentence = fit_text_tokens(RECIPE, dataset, tokenizer, fixed=fixed)
    assert replace(recipe, network=replace(recipe.network, text_tokens=16)) == RECIPE
    return recipe.network.text_tokens, sentence, [tokenizer.count(text) for text in dataset.all_captions()]


def words(count: int) -> str:
    return " ".join(f"word{number}" for number in range(count))


def test_short_captions_leave_the_recipe_as_it_is() -> None:
    assert fitted(("a dog",), ("a cat",))[:2] == (16, "")


def test_the_longest_of_all_alternatives_fits() -> None:
    read, sentence, lengths = fitted(("a dog", words(40)), ("a cat",))
    assert max(lengths) <= read < max(lengths) + 8 and sentence == ""


def test_what_is_beyond_the_limit_is_said() -> None:
    read, sentence, lengths = fitted((words(300),), ("a cat",))
    assert read == MAX_TEXT_TOKENS
    assert sentence.startswith(
        f"1 caption is longer than the {MAX_TEXT_TOKENS} tokens that are read (up to {max(lengths)})"
    )


def test_a_number_set_by_hand_is_kept() -> None:
    read, sentence, _ = fitted((words(40),), (words(50),), fixed=True)
    assert read == 16 and sentence.startswith("2 captions are longer than the 16 tokens")


def test_a_network_without_text_has_no_length() -> None:
    assert fit_text_tokens(RECIPE, None, None, fixed=False) == (RECIPE, "")  # type: ignore[arg-type]

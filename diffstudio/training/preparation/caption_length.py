"""How many tokens of a caption a network reads: as many as the captions of the folder have, within a limit."""

from __future__ import annotations

from dataclasses import replace

from diffstudio.networks.caption_tokenizer import CaptionTokenizer
from diffstudio.plurals import count_of
from diffstudio.training.data.dataset import ImageDataset
from diffstudio.training.data.folder_report import MAX_TEXT_TOKENS
from diffstudio.training.recipe import Recipe

_MULTIPLE = 8


def fit_text_tokens(
    recipe: Recipe, dataset: ImageDataset, tokenizer: CaptionTokenizer | None, *, fixed: bool
) -> tuple[Recipe, str]:
    """The recipe with room for the longest caption, and a sentence about what is cut.

    The recipe's own number is the least, and MAX_TEXT_TOKENS the most: attention over more would take longer than that
    over the image. `fixed`: the recipe's number is kept.
    """
    if tokenizer is None:
        return recipe, ""
    lengths = [tokenizer.count(caption) for caption in {*dataset.all_captions()}]
    longest, read = max(lengths, default=0), recipe.network.text_tokens
    if not fixed and longest > read:
        read = max(read, min(MAX_TEXT_TOKENS, -(-longest // _MULTIPLE) * _MULTIPLE))
        recipe = replace(recipe, network=replace(recipe.network, text_tokens=read))
    cut = sum(length > read for length in lengths)
    if not cut:
        return recipe, ""
    return recipe, (
        f"{count_of(cut, 'caption')} {'is' if cut == 1 else 'are'} longer than the {read:,} tokens that are read "
        f"(up to {longest:,}): they are truncated."
    )

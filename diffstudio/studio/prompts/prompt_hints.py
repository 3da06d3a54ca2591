"""Hints about a prompt before it is used: nothing in it, or words that the checkpoint has never seen."""

from __future__ import annotations

import re
from collections.abc import Iterable

from diffstudio.errors import listed
from diffstudio.evaluation.even_spacing import evenly_spaced
from diffstudio.models.caption_words import caption_words
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import is_trained_here
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.prompts.lora_tags import lora_tags

EMPTY_PROMPT = "Without a prompt, the image shows nothing in particular"
_MOST_NAMED = 6
_WILDCARD = re.compile(r"__[^\n]+?__")


def prompt_hint(prompts: Iterable[str], checkpoint: Checkpoint) -> str:
    """A sentence about these prompts, without a full stop; empty where there is nothing to say.

    LoRA tags, the names of wildcards, attention weights and all signs are left out. Only for checkpoints trained here on
    captions: others were trained on so many that nearly every word occurs, and no list of them exists.
    """
    if not is_trained_here(checkpoint.family) or checkpoint.conditioning is not Conditioning.TEXT:
        return ""
    texts = [_WILDCARD.sub(" ", lora_tags(prompt)[0]) for prompt in prompts]
    if any(not text.strip() for text in texts) and not any("__" in prompt for prompt in prompts):
        return EMPTY_PROMPT
    known = caption_words(checkpoint)
    unknown = [word for text in texts for word in known.unknown_words(text)] if known is not None else []
    unknown = list({word.casefold(): word for word in unknown}.values())
    if not unknown:
        return ""
    return f"Not in the captions this checkpoint was trained on: {listed(unknown, _MOST_NAMED)}"


def example_prompts(checkpoint: Checkpoint, most: int) -> tuple[str, ...]:
    """At most `most` prompts that the checkpoint can draw, evenly chosen from those it is known to have learnt."""
    if checkpoint.conditioning is not Conditioning.TEXT:
        return ()
    known = caption_words(checkpoint)
    examples = known.examples if known is not None else ()
    return tuple(examples[index] for index in evenly_spaced(len(examples), most))

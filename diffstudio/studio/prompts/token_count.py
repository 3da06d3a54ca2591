"""Count the tokens of a prompt for a checkpoint, for the counter beside the prompt."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from diffstudio.errors import BadRequest
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.conditioning.prompt_weighting import TokenCount
from diffstudio.models.conditioning.token_count import count_prompt_tokens
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.prompts.wildcards import expand, is_template

_TAG = re.compile(r"<lora:[^<>]*>")  # removed before the prompt is encoded


@dataclass(frozen=True, slots=True)
class PromptTokenCount:
    """The tokens of a prompt. `tokens.cut` are offsets into the prompt as written."""

    tokens: TokenCount | None = None  # None when unknown
    drawn: bool = False  # counted for one of the variants of a prompt with wildcards; others may be longer
    problem: str = ""  # why its wildcards cannot be expanded

    @property
    def in_chunks(self) -> bool:
        return self.tokens is not None and self.tokens.chunks > 1


def count_tokens(checkpoint: Checkpoint, text: str) -> PromptTokenCount:
    """Count the tokens of a prompt, without its LoRA tags.

    Slow at the first call, which loads a tokenizer: not for the GUI thread.
    """
    if checkpoint.conditioning is not Conditioning.TEXT:
        return PromptTokenCount()
    drawn = is_template(text)
    try:
        expanded = expand(text, "0")
    except BadRequest as error:
        return PromptTokenCount(problem=str(error))
    tokens = count_prompt_tokens(checkpoint, _TAG.sub(lambda tag: " " * len(tag[0]), expanded))
    return PromptTokenCount(replace(tokens, cut=None) if tokens is not None and drawn else tokens, drawn)

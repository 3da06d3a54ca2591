"""What the window says about the length of a prompt while it is written."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from diffstudio.errors import BadRequest
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.conditioning.prompt_weighting import TokenCount
from diffstudio.models.conditioning.token_count import count_prompt_tokens
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.prompts.wildcards import expand, is_template

_TAG = re.compile(r"<lora:[^<>]*>")  # read by the program, and not by the checkpoint


@dataclass(frozen=True, slots=True)
class Counted:
    """How long a prompt is for a checkpoint. What is cut is told in places of the prompt as it was written."""

    tokens: TokenCount | None = None  # None where it is not known
    drawn: bool = False  # of one of the prompts that a template stands for; others may be longer
    problem: str = ""  # why the template cannot be drawn

    @property
    def in_chunks(self) -> bool:
        return self.tokens is not None and self.tokens.chunks > 1


def count(checkpoint: Checkpoint, text: str) -> Counted:
    """Of the prompt, without its tags for LoRAs. Not for the window's own thread: the first time a tokenizer is read."""
    if checkpoint.conditioning is not Conditioning.TEXT:
        return Counted()
    drawn = is_template(text)
    try:
        told = expand(text, "0")
    except BadRequest as error:
        return Counted(problem=str(error))
    tokens = count_prompt_tokens(checkpoint, _TAG.sub(lambda tag: " " * len(tag[0]), told))
    return Counted(replace(tokens, cut=None) if tokens is not None and drawn else tokens, drawn)

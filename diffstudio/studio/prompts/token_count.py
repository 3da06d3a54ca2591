"""Count the tokens of a prompt for a checkpoint, for the counter beside the prompt."""

from __future__ import annotations

from dataclasses import dataclass, replace

from diffstudio.errors import BadRequest
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.conditioning.prompt_features import PromptFeature
from diffstudio.models.conditioning.prompt_schedule import PromptBatch
from diffstudio.models.conditioning.prompt_weighting import TokenCount
from diffstudio.models.conditioning.token_count import count_prompt_tokens, supports_prompt_weights
from diffstudio.models.detection.families_table import family_of
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.prompts.lora_tags import TAG
from diffstudio.studio.prompts.wildcards import expand, is_template

_STEPS = 20  # of prompts that change with them


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
    plain = TAG.sub(lambda tag: " " * len(tag[0]), expanded)
    texts = _texts(checkpoint, plain)
    counts = [count for text in texts if (count := count_prompt_tokens(checkpoint, text)) is not None]
    if not counts:
        return PromptTokenCount(drawn=drawn)
    tokens = max(counts, key=lambda count: count.used)
    return PromptTokenCount(replace(tokens, cut=None) if drawn or texts != [plain] else tokens, drawn)


def _texts(checkpoint: Checkpoint, prompt: str) -> list[str]:
    """The distinct texts that a prompt is encoded as: those of its steps, and of what AND joins."""
    family = family_of(checkpoint.family)
    if family is None:
        return [prompt]
    weights = supports_prompt_weights(checkpoint)
    features = PromptFeature.TEXT | PromptFeature.SCHEDULE
    features |= PromptFeature.WEIGHTS if weights else PromptFeature.NONE
    features |= PromptFeature.AND if family.negative else PromptFeature.NONE
    batch = PromptBatch([prompt], [""], features)
    steps = [batch.at(step, _STEPS) for step in range(1, _STEPS + 1 if batch.changes else 2)]
    return list(dict.fromkeys(text for step in steps for (text,) in step.positive))

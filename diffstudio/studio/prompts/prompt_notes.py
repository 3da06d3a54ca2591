"""What a model cannot do with a prompt, a sentence for each: nothing is read as plain text without saying so."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.conditioning.prompt_features import PromptFeature
from diffstudio.models.conditioning.prompt_schedule import ScheduledText, has_and, split_and
from diffstudio.models.model import Model
from diffstudio.networks.conditioning import Conditioning

_WEIGHTS = re.compile(r"(?<!\\)\((?:[^()]|\\.)*:\s*[+-]?[.\d]+\s*\)|(?<!\\)\(\(|(?<!\\)\[\[|\bBREAK\b")
PROMPT_NOT_USED = "This checkpoint is unconditional: it does not use the prompt."
_LONGEST = 40  # characters of a prompt in a sentence


def unused_prompt(checkpoint: Checkpoint | None, prompt: str) -> tuple[str, ...]:
    """A note when a prompt is given to an unconditional checkpoint."""
    if checkpoint is None or not checkpoint.can_generate or checkpoint.conditioning is not Conditioning.NONE:
        return ()
    return (PROMPT_NOT_USED,) if prompt.strip() else ()


class PromptNotes:
    """The sentences about the prompts of one request, each once."""

    def __init__(self, model: Model, guidance: float, clip_skip: int | None = None) -> None:
        self._model, self._guidance, self._clip_skip = model, guidance, clip_skip
        self._noted: set[str] = set()

    def new(self, prompts: Sequence[str], negative: str) -> tuple[str, ...]:
        """Those about these prompts, without their LoRA tags, that were not returned before."""
        notes = [note for prompt in dict.fromkeys(prompts) for note in self._about_prompt(prompt)]
        notes += [*self._about_negative(negative), *self._about_clip_skip(), *self._about_distillation()]
        new = tuple(note for note in dict.fromkeys(notes) if note not in self._noted)
        self._noted.update(new)
        return new

    def _about_prompt(self, prompt: str) -> Iterator[str]:
        features = self._model.prompt_features
        yield from unused_prompt(self._model.checkpoint, prompt)
        yield from self._about_text(prompt)
        if PromptFeature.AND not in features:
            if PromptFeature.TEXT in features and has_and(prompt):
                yield "This checkpoint cannot compose prompts, so AND is read as a word."
        elif PromptFeature.WEIGHTS in features and not has_and(prompt):
            (part,) = split_and(prompt)
            if part.weight != 1:
                yield (
                    f"The number at the end of the prompt multiplies the CFG scale by {part.weight:g}, as in "
                    "AUTOMATIC1111. Put a comma after it to have it read as text."
                )

    def _about_text(self, text: str) -> Iterator[str]:
        """About weights and edits, in either prompt."""
        features = self._model.prompt_features
        if PromptFeature.TEXT not in features:
            return
        if PromptFeature.WEIGHTS not in features and (found := _WEIGHTS.search(text)):
            yield f"This checkpoint does not support prompt weights, so {_shown(found[0])} is read as text."
        if PromptFeature.SCHEDULE not in features and ScheduledText(text).changes:
            yield (
                "This checkpoint cannot change its prompt from step to step, so [from:to:when] and [a|b] are read as "
                "text."
            )

    def _about_negative(self, negative: str) -> Iterator[str]:
        if not negative.strip():
            return
        if PromptFeature.NEGATIVE not in self._model.prompt_features:
            yield "This checkpoint does not use a negative prompt."
        elif self._guidance <= self._model.unguided_scale:
            yield f"At a CFG scale of {self._guidance:g} the negative prompt has no effect."
        else:
            yield from self._about_text(negative)
            if PromptFeature.TEXT in self._model.prompt_features and has_and(negative):
                yield "In the negative prompt AND is read as a word: only prompts can be composed."

    def _about_distillation(self) -> Iterator[str]:
        """About the CFG scale of a distilled checkpoint."""
        scale, asked = self._model.built_in_guidance, self._guidance
        if scale is not None and asked != 1:
            built_in = (
                f"a CFG scale of {scale:g} is built in" if scale != 1 else "the checkpoint was distilled to few steps"
            )
            yield f"The CFG scale of {asked:g} has no effect: {built_in}."

    def _about_clip_skip(self) -> Iterator[str]:
        clip_skip, family = self._clip_skip, self._model.family
        if clip_skip is None:
            return
        if not family.clip_skip:
            yield "Clip skip has no effect: this checkpoint does not read its prompt from a layer of CLIP."
        elif clip_skip < family.clip_skip:
            yield (
                f"Clip skip {clip_skip} has no effect: checkpoints of {family.title} read the prompt from layer "
                f"{family.clip_skip} on."
            )


def _shown(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"

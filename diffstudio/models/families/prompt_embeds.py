"""Prompts as Stable Diffusion's networks read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffstudio.models.conditioning.composition import Composition
from diffstudio.models.conditioning.prompt_schedule import StepTexts
from diffstudio.models.model import EncodedPrompt


@dataclass(frozen=True, slots=True)
class PromptEmbeds:
    """The network's text inputs for B images; names as in diffusers."""

    prompt_embeds: Tensor  # [B,L,D]
    pooled: Tensor | None = None  # [B,P], for XL
    aesthetic_score: Tensor | None = None  # [B,1], for XL's refiner

    def concatenated(self, other: PromptEmbeds) -> PromptEmbeds:
        """Concatenate along the batch."""
        return PromptEmbeds(
            torch.cat((self.prompt_embeds, other.prompt_embeds)),
            _cat(self.pooled, other.pooled),
            _cat(self.aesthetic_score, other.aesthetic_score),
        )

    def chunk(self, count: int) -> list[PromptEmbeds]:
        """The inverse, for `count` of the same size."""
        pooled, scores = _chunks(self.pooled, count), _chunks(self.aesthetic_score, count)
        embeds = self.prompt_embeds.chunk(count)
        return [PromptEmbeds(*rows) for rows in zip(embeds, pooled, scores, strict=True)]


def _chunks(tensor: Tensor | None, count: int) -> Sequence[Tensor | None]:
    return [None] * count if tensor is None else tensor.chunk(count)


def _cat(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    return None if one is None or other is None else torch.cat((one, other))


@dataclass(frozen=True, slots=True)
class StableDiffusionPrompt(EncodedPrompt):
    positive: Composition[PromptEmbeds]
    negative: PromptEmbeds  # of the negative prompt, or of an empty one


def composed(texts: StepTexts, embeds: PromptEmbeds) -> tuple[Composition[PromptEmbeds], PromptEmbeds]:
    """The encoded subprompts and negative prompts, from one row for each in this order."""
    *subprompts, negative = embeds.chunk(len(texts.positive) + 1)
    return Composition(tuple(subprompts), texts.weights), negative

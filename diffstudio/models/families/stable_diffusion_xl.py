"""Stable Diffusion XL, base and refiner: two text encoders (the refiner has one), conditioned on image sizes.

Podell et al. 2023, arXiv 2307.01952.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.components import Components
from diffstudio.models.families.stable_diffusion import PromptEmbeds, StableDiffusion, StableDiffusionPrompt, load_as

_POSITIVE_SCORE, _NEGATIVE_SCORE = 6.0, 2.5  # diffusers' defaults for the prompt and the negative prompt
_PENULTIMATE = -2  # layer of both text encoders: section 2.1


class StableDiffusionXL(StableDiffusion):
    """The base or the refiner, which takes an aesthetic score in place of the target size."""

    @property
    def is_refiner(self) -> bool:
        """By the number of values in its size embedding: 4 for size and crop, then 1 score (refiner) or 2 for a size."""
        config: Any = self.network.config
        encoder: Any = self.text_encoders["text_encoder_2"]
        left = int(config.projection_class_embeddings_input_dim) - int(encoder.config.projection_dim)
        return left // int(config.addition_time_embed_dim) == 5

    @torch.no_grad()
    def encode_prompt(self, prompt: str | Sequence[str], negative: str = "", count: int = 1) -> StableDiffusionPrompt:
        """Without a negative prompt the base is given zeros, as in diffusers and AUTOMATIC1111."""
        prompts = [prompt] * count if isinstance(prompt, str) else list(prompt)
        texts = [*prompts, *[negative] * len(prompts)]
        numbers = [name.removeprefix("text_encoder") for name in self.text_encoders]
        encoded = [self._encoded(number, texts, _PENULTIMATE) for number in numbers]
        pooled = encoded[-1].pooled
        assert pooled is not None  # the last text encoder has a projection
        halves = zip(torch.cat([one.states for one in encoded], dim=-1).chunk(2), pooled.chunk(2), strict=True)
        positive, negatives = (PromptEmbeds(embeds, whole) for embeds, whole in halves)
        if self.is_refiner:
            score = torch.full((len(prompts), 1), _POSITIVE_SCORE, device=self.device)
            return StableDiffusionPrompt(
                replace(positive, aesthetic_score=score),
                replace(negatives, aesthetic_score=torch.full_like(score, _NEGATIVE_SCORE)),
            )
        if not negative.strip():
            negatives = PromptEmbeds(torch.zeros_like(positive.prompt_embeds), torch.zeros_like(pooled[: len(prompts)]))
        return StableDiffusionPrompt(positive, negatives)

    def _conditions(self, embeds: PromptEmbeds, x_t: Tensor) -> dict[str, Tensor]:
        """Original size, crop, and target size or aesthetic score: section 2.2."""
        height, width = (float(self.vae_scale_factor * side) for side in x_t.shape[-2:])
        assert embeds.pooled is not None
        size = torch.tensor([[height, width]], device=self.device).expand(len(embeds.prompt_embeds), -1)  # [B,2]
        last = size if embeds.aesthetic_score is None else embeds.aesthetic_score
        return {"text_embeds": embeds.pooled, "time_ids": torch.cat((size, torch.zeros_like(size), last), dim=1)}


def load(
    checkpoint: Checkpoint, parts: Components, device: torch.device, dtype: torch.dtype, sha256: str = ""
) -> StableDiffusionXL:
    """Load a checkpoint of family `sdxl` or `sdxl_refiner`.

    CheckpointMissing, CheckpointDamaged, CheckpointUnknown.
    """
    encoders = ("_2",) if checkpoint.family == "sdxl_refiner" else ("", "_2")
    return load_as(StableDiffusionXL, checkpoint, parts, device, dtype, sha256, encoders=encoders)

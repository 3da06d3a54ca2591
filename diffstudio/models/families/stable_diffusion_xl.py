"""Stable Diffusion XL, base and refiner: two text encoders (the refiner has one), conditioned on image sizes.

Podell et al. 2023, arXiv 2307.01952.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.components import Components
from diffstudio.models.conditioning.prompt_schedule import StepTexts
from diffstudio.models.conditioning.prompt_weighting import EncodedChunks
from diffstudio.models.families.prompt_embeds import PromptEmbeds, StableDiffusionPrompt, composed
from diffstudio.models.families.stable_diffusion import StableDiffusion, load_as

_POSITIVE_SCORE, _NEGATIVE_SCORE = 6.0, 2.5  # diffusers' defaults for the prompt and the negative prompt


class StableDiffusionXL(StableDiffusion):
    """The base or the refiner, which takes an aesthetic score in place of the target size."""

    hidden_layer = 2  # of both text encoders: section 2.1

    @property
    def is_refiner(self) -> bool:
        """Whether its size embedding has 5 values, with one aesthetic score, and not 6, with a target size."""
        config: Any = self.network.config
        encoder: Any = self.text_encoders["text_encoder_2"]
        left = int(config.projection_class_embeddings_input_dim) - int(encoder.config.projection_dim)
        return left // int(config.addition_time_embed_dim) == 5

    def _encode_texts(self, texts: StepTexts, skipped: int, known: Sequence[EncodedChunks]) -> StableDiffusionPrompt:
        """Encode the prompts; the base gets zeros without a negative prompt, as in diffusers and AUTOMATIC1111."""
        numbers = [name.removeprefix("text_encoder") for name in self.text_encoders]
        encoded = [self._encoded(number, texts, skipped, chunks) for number, chunks in zip(numbers, known, strict=True)]
        pooled = encoded[-1].pooled
        assert pooled is not None  # the last text encoder has a projection
        embeds = PromptEmbeds(torch.cat([one.states for one in encoded], dim=-1), pooled)
        if self.is_refiner:
            score = torch.full((len(pooled), 1), _POSITIVE_SCORE, device=self.device)
            score[-len(texts.negative) :] = _NEGATIVE_SCORE
            return StableDiffusionPrompt(*composed(texts, replace(embeds, aesthetic_score=score)))
        positive, negative = composed(texts, embeds)
        given = torch.tensor([bool(text.strip()) for text in texts.negative], device=pooled.device)[:, None]  # [B,1]
        return StableDiffusionPrompt(
            positive,
            PromptEmbeds(
                torch.where(given[..., None], negative.prompt_embeds, 0.0),
                torch.where(given, pooled[-len(given) :], 0.0),
            ),
        )

    def _states(self, encoder: nn.Module, out: Any, skipped: int) -> Tensor:
        states: Tensor = out.hidden_states[-self.hidden_layer - skipped]
        return states

    def _conditions(self, embeds: PromptEmbeds, x_t: Tensor) -> dict[str, Tensor]:
        """Original size, crop, and target size or aesthetic score: section 2.2."""
        height, width = (float(self.vae_scale_factor * side) for side in x_t.shape[-2:])
        assert embeds.pooled is not None
        size = torch.tensor([[height, width]], device=self.device).expand(len(embeds.prompt_embeds), -1)  # [B,2]
        last = size if embeds.aesthetic_score is None else embeds.aesthetic_score
        return {"text_embeds": embeds.pooled, "time_ids": torch.cat((size, torch.zeros_like(size), last), dim=1)}


def load(checkpoint: Checkpoint, components: Components, device: torch.device, dtype: torch.dtype) -> StableDiffusionXL:
    """Load a checkpoint of family `sdxl` or `sdxl_refiner`.

    CheckpointMissing, CheckpointDamaged, CheckpointUnknown.
    """
    encoders = ("_2",) if checkpoint.family == "sdxl_refiner" else ("", "_2")
    return load_as(StableDiffusionXL, checkpoint, components, device, dtype, encoders=encoders)

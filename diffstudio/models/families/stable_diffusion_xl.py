"""Stable Diffusion XL, base and refiner: Podell et al. 2023. Two text encoders (the refiner: one); told sizes besides words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.components import Components
from diffstudio.models.families.stable_diffusion import StableDiffusion, StableDiffusionPrompted, Told, load_as

_BEAUTIFUL, _UGLY = 6.0, 2.5  # the scores that the refiner's makers recommend for what is wanted and what is not
_PENULTIMATE = -2  # both encoders are read before their last layer: section 2.1


class StableDiffusionXL(StableDiffusion):
    """The base, or the refiner, which knows a score where the base knows the size to be."""

    @property
    def is_refiner(self) -> bool:
        """By how many numbers its embedding has room for: four for size and crop, then one score, or a size of two."""
        config: Any = self.network.config
        encoder: Any = self.text_encoders["text_encoder_2"]
        left = int(config.projection_class_embeddings_input_dim) - int(encoder.config.projection_dim)
        return left // int(config.addition_time_embed_dim) == 5

    @torch.no_grad()
    def encode_prompt(self, prompt: str | Sequence[str], negative: str = "", count: int = 1) -> StableDiffusionPrompted:
        """The base takes no negative prompt for nothing at all, zeros, as diffusers and AUTOMATIC1111 have it."""
        wanted = [prompt] * count if isinstance(prompt, str) else list(prompt)
        texts = [*wanted, *[negative] * len(wanted)]
        numbers = [name.removeprefix("text_encoder") for name in self.text_encoders]
        read = [self._encoded(number, texts, _PENULTIMATE) for number in numbers]
        pooled = read[-1].pooled
        assert pooled is not None  # the second encoder, the last of them, has a projection
        halves = zip(torch.cat([one.states for one in read], dim=-1).chunk(2), pooled.chunk(2), strict=True)
        shown, avoided = (Told(words, whole) for words, whole in halves)
        if self.is_refiner:
            score = torch.full((len(wanted), 1), _BEAUTIFUL, device=self.device)
            return StableDiffusionPrompted(
                replace(shown, score=score), replace(avoided, score=torch.full_like(score, _UGLY))
            )
        if not negative.strip():
            avoided = Told(torch.zeros_like(shown.words), torch.zeros_like(pooled[: len(wanted)]))
        return StableDiffusionPrompted(shown, avoided)

    def _conditions(self, told: Told, x_t: Tensor) -> dict[str, Tensor]:
        """The size that the picture had and where it was cropped, and the size it is to have or its score: section 2.2."""
        height, width = (float(self.shrinks * side) for side in x_t.shape[-2:])
        assert told.pooled is not None
        size = torch.tensor([[height, width]], device=self.device).expand(len(told.words), -1)  # [B,2]
        last = size if told.score is None else told.score
        return {"text_embeds": told.pooled, "time_ids": torch.cat((size, torch.zeros_like(size), last), dim=1)}


def load(
    checkpoint: Checkpoint, parts: Components, device: torch.device, dtype: torch.dtype, sha256: str = ""
) -> StableDiffusionXL:
    """The model of a checkpoint of family `sdxl` or `sdxl_refiner`. CheckpointMissing, CheckpointDamaged, CheckpointUnknown."""
    encoders = ("_2",) if checkpoint.family == "sdxl_refiner" else ("", "_2")
    return load_as(StableDiffusionXL, checkpoint, parts, device, dtype, sha256, encoders=encoders)

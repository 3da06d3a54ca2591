"""FLUX.1 (Black Forest Labs 2024): `dev` takes its guidance as an input, `schnell` takes none; neither has a negative prompt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import Network
from diffstudio.errors import CheckpointUnknown
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.components import Components
from diffstudio.models.families.flow import (
    PATCH,
    FlowModel,
    Shift,
    Told,
    pack,
    part,
    read_shift,
    token_ids,
    unpack,
    vae_dtype,
)

FAMILY = "flux"
_DEV, _SCHNELL = Shift(by_size=True), Shift(1.0)  # where a checkpoint comes without its scheduler
_WORDS = {True: 512, False: 256}  # tokens of T5 that dev and schnell were trained with


class FluxModel(FlowModel):
    """CLIP gives a summary of the prompt, T5 its words; guidance is a number that the network is told, if it asks for it."""

    unguided = math.inf  # nothing is ever moved away from

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        config: Any = self.network.config
        self.distilled = bool(config.guidance_embeds)  # `dev`: its guidance was distilled into it
        self.longest_prompt = _WORDS[self.distilled]
        if not self.distilled:
            self.guidance = 0.0

    def _told(self, prompts: Sequence[str]) -> Told:
        pooled = self._read("text_encoder", token_ids(self.tokenizers["tokenizer"], prompts, 77)).pooler_output  # [B,P]
        ids = token_ids(self.tokenizers["tokenizer_2"], prompts, self.longest_prompt)
        words = self._read("text_encoder_2", ids).last_hidden_state  # [B,T,D]
        return Told(tuple(words), tuple(pooled))

    def _network(self, told: Told, guidance: float) -> Network:
        words, pooled = self._stacked(told.words), self._stacked(told.pooled)
        places = torch.zeros(words.shape[1], 3, device=self.device)  # words have none
        scale = torch.full((len(words),), guidance, device=self.device) if self.distilled else None

        def velocity(x_t: Tensor, t: Tensor) -> Tensor:
            height, width = x_t.shape[-2:]
            packed = self.network(
                hidden_states=pack(x_t.to(self.dtype)),
                timestep=t,
                guidance=scale,
                pooled_projections=pooled,
                encoder_hidden_states=words,
                txt_ids=places,
                img_ids=_places(height, width).to(x_t.device),
                return_dict=False,
            )[0]
            return unpack(packed, height, width)

        return velocity


def load(
    checkpoint: Checkpoint, parts: Components, device: torch.device, dtype: torch.dtype, sha256: str = ""
) -> FluxModel:
    """CheckpointMissing, CheckpointDamaged; CheckpointUnknown for those of FLUX.1's tools that want a picture to look at."""
    from diffusers import AutoencoderKL, FluxTransformer2DModel
    from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5Tokenizer

    tokenizers = {
        "tokenizer": parts.tokenizer("tokenizer", CLIPTokenizer),
        "tokenizer_2": parts.tokenizer("tokenizer_2", T5Tokenizer),
    }
    vae = part(parts, "vae", AutoencoderKL, vae_dtype(dtype), device)
    encoders = {
        "text_encoder": part(parts, "text_encoder", CLIPTextModel, dtype, device),
        "text_encoder_2": part(parts, "text_encoder_2", T5EncoderModel, dtype, device),
    }
    network = part(parts, "transformer", FluxTransformer2DModel, dtype, device)
    if network.config.in_channels != vae.config.latent_channels * PATCH * PATCH:
        raise CheckpointUnknown(
            f"{checkpoint.name} is one of FLUX.1's tools and cannot be used yet",
            "its network looks at a second picture besides the one it makes",
            "Choose FLUX.1 dev or schnell",
        )
    shift = read_shift(parts, _DEV if network.config.guidance_embeds else _SCHNELL)
    return FluxModel(
        checkpoint,
        network,
        vae,
        FAMILY,
        shift,
        text_encoders=encoders,
        tokenizers=tokenizers,
        device=device,
        dtype=dtype,
        sha256=sha256,
    )


def _places(height: int, width: int) -> Tensor:
    """Row and column of each patch of latents [height,width], in the order of `pack`: [(h/2)(w/2),3], float32."""
    rows, columns = torch.arange(height // PATCH), torch.arange(width // PATCH)
    return torch.cartesian_prod(torch.zeros(1), rows.float(), columns.float())

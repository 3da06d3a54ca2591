"""FLUX.1 (Black Forest Labs 2024): `dev` takes the guidance as an input, `schnell` has none; neither uses a negative
prompt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import Network
from diffstudio.errors import CheckpointUnknown
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.components import Components
from diffstudio.models.conditioning.prompt_features import PromptFeature
from diffstudio.models.families.flow import (
    PATCH,
    FlowModel,
    PromptEmbeds,
    Shift,
    load_component,
    offsets,
    pack,
    read_shift,
    token_ids,
    unpack,
    vae_dtype,
)
from diffstudio.models.inspection.joint_attention import OneStreamLayer, two_stream_layers
from diffstudio.models.inspection.layers import AttentionLayer, NetworkBlock
from diffstudio.models.inspection.stream_blocks import stream_blocks
from diffstudio.models.inspection.words import PromptWord, words_at

FAMILY = "flux"
_DEV, _SCHNELL = Shift(by_size=True), Shift(1.0)  # defaults without a scheduler config
_LONGEST_PROMPT = {True: 512, False: 256}  # T5 tokens, for dev and schnell


class FluxModel(FlowModel):
    """FLUX.1 dev or schnell. T5 gives the prompt embeddings, CLIP the pooled embedding."""

    unguided_scale = math.inf  # no negative prompt

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        config: Any = self.network.config
        self.distilled = bool(config.guidance_embeds)  # `dev`, distilled with guidance as an input
        self.longest_prompt = _LONGEST_PROMPT[self.distilled]
        if not self.distilled:
            self.guidance = 0.0

    @property
    def prompt_features(self) -> PromptFeature:
        """No AND and no negative prompt: both need an unconditional prediction."""
        return super().prompt_features & ~(PromptFeature.AND | PromptFeature.NEGATIVE)

    @property
    def blocks(self) -> Sequence[NetworkBlock]:
        return stream_blocks(self.network, "transformer_blocks", "single_transformer_blocks")

    @property
    def attention_layers(self) -> Sequence[AttentionLayer]:
        network: Any = self.network
        single = [
            OneStreamLayer(f"single {number}", block.attn, partial(_split, self.longest_prompt), of_output=True)
            for number, block in enumerate(network.single_transformer_blocks)
        ]
        return (*two_stream_layers(network.transformer_blocks, "double"), *single)

    def prompt_words(self, text: str) -> Sequence[PromptWord]:
        """By the tokens of T5: CLIP gives a vector of the whole prompt alone."""
        found = offsets(self.tokenizers["tokenizer_2"], text, truncation=True, max_length=self.longest_prompt)
        return words_at(text, found)

    def _embeds(self, prompts: Sequence[str]) -> PromptEmbeds:
        pooled = self._read("text_encoder", token_ids(self.tokenizers["tokenizer"], prompts, 77)).pooler_output  # [B,P]
        ids = token_ids(self.tokenizers["tokenizer_2"], prompts, self.longest_prompt)
        prompt_embeds = self._read("text_encoder_2", ids).last_hidden_state  # [B,T,D]
        return PromptEmbeds(tuple(prompt_embeds), tuple(pooled))

    def _network(self, embeds: PromptEmbeds, guidance: float) -> Network:
        prompt_embeds, pooled = self._stacked(embeds.prompt_embeds), self._stacked(embeds.pooled)
        text_ids = torch.zeros(prompt_embeds.shape[1], 3, device=self.device)  # text tokens have no position
        scale = torch.full((len(prompt_embeds),), guidance, device=self.device) if self.distilled else None

        def velocity(x_t: Tensor, t: Tensor) -> Tensor:
            height, width = x_t.shape[-2:]
            packed = self.network(
                hidden_states=pack(x_t.to(self.dtype)),
                timestep=t,
                guidance=scale,
                pooled_projections=pooled,
                encoder_hidden_states=prompt_embeds,
                txt_ids=text_ids,
                img_ids=_image_ids(height, width).to(x_t.device),
                return_dict=False,
            )[0]
            return unpack(packed, height, width)

        return velocity


def load(checkpoint: Checkpoint, components: Components, device: torch.device, dtype: torch.dtype) -> FluxModel:
    """Load a checkpoint of this family.

    CheckpointMissing, CheckpointDamaged; CheckpointUnknown for FLUX.1 tools, which take an image as input.
    """
    from diffusers import AutoencoderKL, FluxTransformer2DModel
    from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5Tokenizer

    tokenizers = {
        "tokenizer": components.tokenizer("tokenizer", CLIPTokenizer),
        "tokenizer_2": components.tokenizer("tokenizer_2", T5Tokenizer),
    }
    vae = load_component(components, "vae", AutoencoderKL, vae_dtype(dtype), device)
    encoders = {
        "text_encoder": load_component(components, "text_encoder", CLIPTextModel, dtype, device),
        "text_encoder_2": load_component(components, "text_encoder_2", T5EncoderModel, dtype, device),
    }
    network = load_component(components, "transformer", FluxTransformer2DModel, dtype, device)
    if network.config.in_channels != vae.config.latent_channels * PATCH * PATCH:
        raise CheckpointUnknown(
            f"{checkpoint.name} is one of the FLUX.1 tools, which are not supported",
            "its network takes a second image as input",
            "Choose FLUX.1 dev or schnell",
        )
    shift = read_shift(components, _DEV if network.config.guidance_embeds else _SCHNELL)
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
    )


def _image_ids(height: int, width: int) -> Tensor:
    """Row and column of each patch of latents [height,width], in the order of `pack`: [(h/2)(w/2),3], float32."""
    rows, columns = torch.arange(height // PATCH), torch.arange(width // PATCH)
    return torch.cartesian_prod(torch.zeros(1), rows.float(), columns.float())


def _split(text_tokens: int, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Image and text tokens of a single-stream block, where the text comes first."""
    return outputs[:, text_tokens:], outputs[:, :text_tokens]

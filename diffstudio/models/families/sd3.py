"""Stable Diffusion 3 and 3.5: two CLIP text encoders and, optionally, T5. Esser et al. 2024, arXiv 2403.03206."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffstudio.diffusion.denoiser import Network
from diffstudio.diffusion.schedule import RectifiedFlow
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.components import Components
from diffstudio.models.conditioning.clip_skip import layer_count, skipped_layers
from diffstudio.models.families.flow import (
    PATCH,
    FlowModel,
    PromptEmbeds,
    Shift,
    load_component,
    offsets,
    read_shift,
    token_ids,
    vae_dtype,
)
from diffstudio.models.inspection.joint_attention import two_stream_layers
from diffstudio.models.inspection.layers import AttentionLayer, NetworkBlock
from diffstudio.models.inspection.stream_blocks import stream_blocks
from diffstudio.models.inspection.words import PromptWord, joined, words_at

FAMILY = "sd3"
_SHIFT = Shift(3.0)  # the default without a scheduler config
_CLIPS = (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"))
_CLIP_TOKENS = 77
_HIDDEN_LAYER = 2  # of both CLIPs: the last but one
_TRAINING_STEPS = 1000  # the network's timestep is t times this


class SD3Model(FlowModel):
    """Stable Diffusion 3 or 3.5.

    The prompt embeddings are those of both CLIPs, concatenated along the width and padded to T5's, followed by T5's
    tokens. The pooled embedding is that of both CLIPs.
    """

    longest_prompt = 256

    @property
    def has_t5(self) -> bool:
        return "text_encoder_3" in self.text_encoders

    @property
    def largest_side(self) -> int:
        """The largest width or height in px, limited by the network's position embeddings."""
        config: Any = self.network.config
        positions: int = config.pos_embed_max_size  # along a side
        return min(super().largest_side, positions * PATCH * self.vae_scale_factor)

    @property
    def blocks(self) -> Sequence[NetworkBlock]:
        return stream_blocks(self.network, "transformer_blocks")

    @property
    def attention_layers(self) -> Sequence[AttentionLayer]:
        network: Any = self.network
        return two_stream_layers(network.transformer_blocks, "block")

    def prompt_words(self, text: str) -> Sequence[PromptWord]:
        """By the tokens of CLIP, of which both encoders have the same, and after those of T5, where there is one."""
        clip = words_at(text, offsets(self.tokenizers["tokenizer"], text, truncation=True, max_length=_CLIP_TOKENS))
        if not self.has_t5:
            return clip
        found = offsets(self.tokenizers["tokenizer_3"], text, truncation=True, max_length=self.longest_prompt)
        return joined(clip, words_at(text, found, first=_CLIP_TOKENS))

    def _uniform(self, flow: RectifiedFlow, steps: int) -> Tensor:
        """Evenly spaced down to the smallest training time, which diffusers shifts twice: alone and with the others."""
        lowest = RectifiedFlow().t_min if self.shift.by_size else flow.t_min
        return flow.shifted(torch.linspace(flow.t_max, lowest, steps, dtype=torch.float64))

    def _embedder(self, clip_skip: int | None) -> Callable[[Sequence[str]], PromptEmbeds]:
        layers = min(layer_count(self.text_encoders[encoder]) for _, encoder in _CLIPS)
        skipped = skipped_layers(clip_skip, self.family.clip_skip, layers - _HIDDEN_LAYER)
        return partial(self._embeds, skipped=skipped) if skipped else self._embeds

    def _embeds(self, prompts: Sequence[str], skipped: int = 0) -> PromptEmbeds:
        clips = [
            self._read(encoder, token_ids(self.tokenizers[tokenizer], prompts, _CLIP_TOKENS), output_hidden_states=True)
            for tokenizer, encoder in _CLIPS
        ]
        layer = -_HIDDEN_LAYER - skipped
        short = torch.cat([clip.hidden_states[layer].to(self.device) for clip in clips], dim=-1)  # [B,77,D1 + D2]
        pooled = torch.cat([clip.text_embeds.to(self.device) for clip in clips], dim=-1)  # [B,P1 + P2]
        long = self._t5(prompts)  # [B,256,D]
        prompt_embeds = torch.cat([F.pad(short.to(long), (0, long.shape[-1] - short.shape[-1])), long], dim=1)
        return PromptEmbeds(tuple(prompt_embeds), tuple(pooled))

    def _t5(self, prompts: Sequence[str]) -> Tensor:
        """T5's embeddings [B,256,D]; zeros without T5, which was dropped out at random in training."""
        if not self.has_t5:
            config: Any = self.network.config
            return torch.zeros(
                len(prompts), self.longest_prompt, config.joint_attention_dim, device=self.device, dtype=self.dtype
            )
        ids = token_ids(self.tokenizers["tokenizer_3"], prompts, self.longest_prompt)
        prompt_embeds: Tensor = self._read("text_encoder_3", ids).last_hidden_state
        return prompt_embeds.to(self.device)

    def _network(self, embeds: PromptEmbeds, guidance: float) -> Network:
        prompt_embeds, pooled = self._stacked(embeds.prompt_embeds), self._stacked(embeds.pooled)

        def velocity(x_t: Tensor, t: Tensor) -> Tensor:
            prediction: Tensor = self.network(
                hidden_states=x_t.to(self.dtype),
                timestep=_TRAINING_STEPS * t,
                encoder_hidden_states=prompt_embeds,
                pooled_projections=pooled,
                return_dict=False,
            )[0]
            return prediction

        return velocity


def load(checkpoint: Checkpoint, components: Components, device: torch.device, dtype: torch.dtype) -> SD3Model:
    """Load a checkpoint of this family, with T5 (`text_encoder_3`) if it is there.

    CheckpointMissing, CheckpointDamaged.
    """
    from diffusers import AutoencoderKL, SD3Transformer2DModel
    from transformers import (
        CLIPTextModelWithProjection,
        CLIPTokenizer,
        PreTrainedTokenizerBase,
        T5EncoderModel,
        T5Tokenizer,
    )

    tokenizers: dict[str, PreTrainedTokenizerBase] = {
        name: components.tokenizer(name, CLIPTokenizer) for name, _ in _CLIPS
    }
    encoders = {
        name: load_component(components, name, CLIPTextModelWithProjection, dtype, device) for _, name in _CLIPS
    }
    if components.has("text_encoder_3"):
        tokenizers["tokenizer_3"] = components.tokenizer("tokenizer_3", T5Tokenizer)
        encoders["text_encoder_3"] = load_component(components, "text_encoder_3", T5EncoderModel, dtype, device)
    vae = load_component(components, "vae", AutoencoderKL, vae_dtype(dtype), device)
    network = load_component(components, "transformer", SD3Transformer2DModel, dtype, device)
    return SD3Model(
        checkpoint,
        network,
        vae,
        FAMILY,
        read_shift(components, _SHIFT),
        text_encoders=encoders,
        tokenizers=tokenizers,
        device=device,
        dtype=dtype,
        side=network.config.sample_size * 2 ** (len(vae.config.block_out_channels) - 1),
    )

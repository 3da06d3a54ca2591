"""Z-Image (Alibaba 2025, arXiv 2511.22699): Qwen3 as text encoder.

The network's time runs from 0 (noise) to 1, and a guidance scale of 0 is no guidance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import Network
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.components import Components
from diffstudio.models.conditioning.composition import Composition
from diffstudio.models.families.flow import (
    PATCH,
    FlowModel,
    PromptEmbeds,
    Shift,
    load_component,
    offsets,
    read_shift,
    vae_dtype,
)
from diffstudio.models.inspection.joint_attention import OneStreamLayer
from diffstudio.models.inspection.layers import AttentionLayer, NetworkBlock
from diffstudio.models.inspection.words import PromptWord, words_at

FAMILY = "z_image"
_SHIFT = Shift(3.0)  # of Z-Image-Turbo; the default without a scheduler config
_UNIT = 32  # tokens: image and text are padded to multiples of it
_CHAT_TEMPLATE = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"  # of Qwen3; for tokenizers without one


class ZImageModel(FlowModel):
    """Z-Image. Its guidance scale g means conditional + g (conditional - unconditional): a CFG scale of 1 + g."""

    unguided_scale = 0.0
    _called_tokens = 0  # image tokens of the network's last call

    @property
    def blocks(self) -> Sequence[NetworkBlock]:
        network: Any = self.network
        return tuple(
            NetworkBlock(f"block {number}", block, lambda output, size: output[:, : _image_tokens(size)])
            for number, block in enumerate(network.layers)
        )

    @property
    def attention_layers(self) -> Sequence[AttentionLayer]:
        network: Any = self.network
        return tuple(
            OneStreamLayer(f"block {number}", block.attention.to_out[0], self._split)
            for number, block in enumerate(network.layers)
        )

    def prompt_words(self, text: str) -> Sequence[PromptWord]:
        templated = _templated(self.tokenizers["tokenizer"], text)
        start = max(0, templated.rfind(text))
        found = offsets(self.tokenizers["tokenizer"], templated, truncation=True, max_length=self.longest_prompt)
        return words_at(templated, found, start=start, end=start + len(text))

    def _split(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Image and text tokens of a sequence in which the image comes first, padded to whole units."""
        image = self._called_tokens
        return outputs[:, :image], outputs[:, -(-image // _UNIT) * _UNIT :]

    def _embeds(self, prompts: Sequence[str]) -> PromptEmbeds:
        tokenizer = self.tokenizers["tokenizer"]
        tokens = tokenizer(
            [_templated(tokenizer, prompt) for prompt in prompts],
            padding=True,
            truncation=True,
            max_length=self.longest_prompt,
            return_tensors="pt",
        )
        states = self._read(
            "text_encoder",
            tokens.input_ids,
            attention_mask=tokens.attention_mask.bool(),
            output_hidden_states=True,
            use_cache=False,
        ).hidden_states[-2]  # [B,T,D]
        return PromptEmbeds(
            tuple(row[mask.bool()] for row, mask in zip(states, tokens.attention_mask.to(states.device), strict=True))
        )

    def _guided(
        self,
        positive: Composition[PromptEmbeds],
        negative: PromptEmbeds,
        guidance: float,
        interval: tuple[float, float] | None,
    ) -> Network:
        return super()._guided(positive, negative, 1 + guidance, interval)

    def _network(self, embeds: PromptEmbeds, guidance: float) -> Network:
        prompt_embeds = [row.to(self.device, self.dtype) for row in embeds.prompt_embeds]

        def velocity(x_t: Tensor, t: Tensor) -> Tensor:
            self._called_tokens = _image_tokens((x_t.shape[-2], x_t.shape[-1]))
            frames = list(x_t.to(self.dtype)[:, :, None])  # as videos of one frame [C,1,h,w]
            prediction = self.network(frames, 1 - t, prompt_embeds, return_dict=False)[0]
            return -torch.stack(prediction)[:, :, 0]

        return velocity


def load(checkpoint: Checkpoint, components: Components, device: torch.device, dtype: torch.dtype) -> ZImageModel:
    """Load a checkpoint of this family. CheckpointMissing, CheckpointDamaged."""
    from diffusers import AutoencoderKL, ZImageTransformer2DModel
    from transformers import Qwen2Tokenizer, Qwen3Model

    tokenizers = {"tokenizer": components.tokenizer("tokenizer", Qwen2Tokenizer)}
    vae = load_component(components, "vae", AutoencoderKL, vae_dtype(dtype), device)
    encoders = {"text_encoder": load_component(components, "text_encoder", Qwen3Model, dtype, device)}
    network = load_component(components, "transformer", ZImageTransformer2DModel, dtype, device)
    return ZImageModel(
        checkpoint,
        network,
        vae,
        FAMILY,
        read_shift(components, _SHIFT),
        text_encoders=encoders,
        tokenizers=tokenizers,
        device=device,
        dtype=dtype,
    )


def _image_tokens(size: tuple[int, int]) -> int:
    """The image tokens of a state of this height and width."""
    return (size[0] // PATCH) * (size[1] // PATCH)


def _templated(tokenizer: Any, prompt: str) -> str:
    """The prompt as a user message in the tokenizer's chat template."""
    if getattr(tokenizer, "chat_template", None) is None:
        return _CHAT_TEMPLATE.format(prompt)
    templated: str = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True, enable_thinking=True
    )
    return templated

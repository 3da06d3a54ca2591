"""Z-Image (Alibaba 2025): a language model reads the prompt; the network counts time from the noise, and guidance from zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import Network
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.components import Components
from diffstudio.models.families.flow import FlowModel, Shift, Told, part, read_shift, vae_dtype

FAMILY = "z_image"
_SHIFT = Shift(3.0)  # of the turbo kind, where a checkpoint comes without its scheduler
_ASKED = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"  # Qwen 3's own, for tokenizers that come without it


class ZImageModel(FlowModel):
    """Guidance 0 is none and g is what others call 1 + g: conditional + g (conditional - unconditional)."""

    unguided = 0.0

    def _told(self, prompts: Sequence[str]) -> Told:
        tokenizer = self.tokenizers["tokenizer"]
        read = tokenizer(
            [_asked(tokenizer, prompt) for prompt in prompts],
            padding=True,
            truncation=True,
            max_length=self.longest_prompt,
            return_tensors="pt",
        )
        states = self._read(
            "text_encoder",
            read.input_ids,
            attention_mask=read.attention_mask.bool(),
            output_hidden_states=True,
            use_cache=False,
        ).hidden_states[-2]  # [B,T,D]
        return Told(
            tuple(row[mask.bool()] for row, mask in zip(states, read.attention_mask.to(states.device), strict=True))
        )

    def _guided(self, wanted: Told, unwanted: Told, guidance: float) -> Network:
        return super()._guided(wanted, unwanted, 1 + guidance)

    def _network(self, told: Told, guidance: float) -> Network:
        words = [row.to(self.device, self.dtype) for row in told.words]

        def velocity(x_t: Tensor, t: Tensor) -> Tensor:
            films = list(x_t.to(self.dtype)[:, :, None])  # of one frame each: [C,1,h,w]
            answer = self.network(films, 1 - t, words, return_dict=False)[0]
            return -torch.stack(answer)[:, :, 0]

        return velocity


def load(
    checkpoint: Checkpoint, parts: Components, device: torch.device, dtype: torch.dtype, sha256: str = ""
) -> ZImageModel:
    """CheckpointMissing, CheckpointDamaged."""
    from diffusers import AutoencoderKL, ZImageTransformer2DModel
    from transformers import Qwen2Tokenizer, Qwen3Model

    tokenizers = {"tokenizer": parts.tokenizer("tokenizer", Qwen2Tokenizer)}
    vae = part(parts, "vae", AutoencoderKL, vae_dtype(dtype), device)
    encoders = {"text_encoder": part(parts, "text_encoder", Qwen3Model, dtype, device)}
    network = part(parts, "transformer", ZImageTransformer2DModel, dtype, device)
    return ZImageModel(
        checkpoint,
        network,
        vae,
        FAMILY,
        read_shift(parts, _SHIFT),
        text_encoders=encoders,
        tokenizers=tokenizers,
        device=device,
        dtype=dtype,
        sha256=sha256,
    )


def _asked(tokenizer: Any, prompt: str) -> str:
    """The prompt as a person's turn in a conversation, by the tokenizer's own template."""
    if getattr(tokenizer, "chat_template", None) is None:
        return _ASKED.format(prompt)
    asked: str = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True, enable_thinking=True
    )
    return asked

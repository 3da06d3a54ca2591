"""Qwen-Image (Wu et al. 2025): a language model reads the prompt; guidance keeps the length of each token; a film's autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from diffstudio.diffusion.denoiser import Network
from diffstudio.errors import CheckpointUnknown
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.components import Components
from diffstudio.models.families.flow import PATCH, FlowModel, Shift, Told, pack, part, read_shift, unpack, vae_dtype

FAMILY = "qwen_image"
_SHIFT = Shift(by_size=True, tokens=(256, 8192), mu=(0.5, 0.9), terminal=0.02)  # where it comes without its scheduler
_ASKED = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial "
    "relationships of the objects and background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
_BEFORE_PROMPT = 34  # tokens of what it is asked, which the network is not shown
_NOTHING = " "  # its makers' negative prompt where there is none


class QwenImageModel(FlowModel):
    """States of prompts have their own lengths and are masked in a batch."""

    def _know_autoencoder(self, config: Any) -> None:
        """Each channel has its own mean and standard deviation."""

        def of_channels(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, device=self.device).view(1, -1, 1, 1)

        self._scaling, self._shift = 1 / of_channels(config.latents_std), of_channels(config.latents_mean)
        self.channels, self.shrinks = int(config.z_dim), 2 ** len(config.temperal_downsample)

    def _encode(self, image: Tensor) -> Tensor:
        return super()._encode(image[:, :, None])[:, :, 0]  # a film of one frame

    def _decode(self, latents: Tensor) -> Tensor:
        return super()._decode(latents[:, :, None])[:, :, 0]

    def _told(self, prompts: Sequence[str]) -> Told:
        read = self.tokenizers["tokenizer"](
            [_ASKED.format(prompt or _NOTHING) for prompt in prompts],
            padding=True,
            truncation=True,
            max_length=1024 + _BEFORE_PROMPT,
            return_tensors="pt",
        )
        states = self._read(
            "text_encoder",
            read.input_ids,
            attention_mask=read.attention_mask,
            output_hidden_states=True,
            use_cache=False,
            logits_to_keep=1,
        ).hidden_states[-1]  # [B,T,D]
        last = _BEFORE_PROMPT + self.longest_prompt
        return Told(
            tuple(
                row[mask.bool()][_BEFORE_PROMPT:last]
                for row, mask in zip(states, read.attention_mask.to(states.device), strict=True)
            )
        )

    def _network(self, told: Told, guidance: float) -> Network:
        velocity = self._packed(told)
        return lambda x_t, t: unpack(velocity(x_t, t), *x_t.shape[-2:])

    def _guided(self, wanted: Told, unwanted: Told, guidance: float) -> Network:
        """Guidance turns the velocity of each token, 4 C numbers, and leaves its length as the prompt alone would have it."""
        towards, away = self._packed(wanted), self._packed(unwanted)

        def velocity(x_t: Tensor, t: Tensor) -> Tensor:
            conditional, unconditional = towards(x_t, t).to(x_t), away(x_t, t).to(x_t)  # [B,N,4 C]
            guided = unconditional + guidance * (conditional - unconditional)
            length, wished = guided.norm(dim=-1, keepdim=True), conditional.norm(dim=-1, keepdim=True)
            return unpack(guided * torch.where(length > 0, wished / length, 1.0), *x_t.shape[-2:])

        return velocity

    def _packed(self, told: Told) -> Network:
        """The network as it is: x_t [B,C,h,w], t [B] -> velocity [B,N,4 C]."""
        words = pad_sequence(list(told.words), batch_first=True).to(self.device, self.dtype)  # [B,T,D]
        lengths = torch.tensor([len(row) for row in told.words], device=self.device)
        mask = torch.arange(words.shape[1], device=self.device) < lengths[:, None]  # [B,T]
        masked = None if bool(mask.all()) else mask.long()

        def velocity(x_t: Tensor, t: Tensor) -> Tensor:
            shape = (1, x_t.shape[-2] // PATCH, x_t.shape[-1] // PATCH)
            answer: Tensor = self.network(
                hidden_states=pack(x_t.to(self.dtype)),
                timestep=t,
                encoder_hidden_states=words,
                encoder_hidden_states_mask=masked,
                img_shapes=[[shape]] * len(x_t),
                return_dict=False,
            )[0]
            return answer

        return velocity


def load(
    checkpoint: Checkpoint, parts: Components, device: torch.device, dtype: torch.dtype, sha256: str = ""
) -> QwenImageModel:
    """CheckpointMissing, CheckpointDamaged; CheckpointUnknown for those that edit a picture or part it into layers."""
    from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel
    from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

    about = parts.config("transformer")
    if about.get("zero_cond_t") or about.get("use_additional_t_cond"):
        raise CheckpointUnknown(
            f"{checkpoint.name} cannot be used yet",
            "it was made to change a picture, not to make one",
            "Choose Qwen-Image itself",
        )
    tokenizers = {"tokenizer": parts.tokenizer("tokenizer", Qwen2Tokenizer)}
    vae = part(parts, "vae", AutoencoderKLQwenImage, vae_dtype(dtype), device)
    encoders = {"text_encoder": part(parts, "text_encoder", Qwen2_5_VLForConditionalGeneration, dtype, device)}
    network = part(parts, "transformer", QwenImageTransformer2DModel, dtype, device)
    return QwenImageModel(
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

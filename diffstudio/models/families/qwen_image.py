"""Qwen-Image: Qwen2.5-VL as text encoder, guidance that keeps each token's norm, a video VAE.

Wu et al. 2025, arXiv 2508.02324.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from diffstudio.diffusion.denoiser import Network
from diffstudio.diffusion.guidance import inside_interval
from diffstudio.errors import CheckpointUnknown
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
    pack,
    read_shift,
    unpack,
    vae_dtype,
)
from diffstudio.models.inspection.joint_attention import two_stream_layers
from diffstudio.models.inspection.layers import AttentionLayer, NetworkBlock
from diffstudio.models.inspection.stream_blocks import stream_blocks
from diffstudio.models.inspection.words import PromptWord, words_at

FAMILY = "qwen_image"
_SHIFT = Shift(by_size=True, tokens=(256, 8192), mu=(0.5, 0.9), terminal=0.02)  # the default without a scheduler config
_CHAT_TEMPLATE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial "
    "relationships of the objects and background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
_TEMPLATE_TOKENS = 34  # of the template before the prompt; their states are dropped
_NO_PROMPT = " "  # in place of an empty prompt, as in the authors' code


class QwenImageModel(FlowModel):
    """Qwen-Image. Encoded prompts differ in length, so they are padded and masked in a batch."""

    def _read_vae_config(self, config: Any) -> None:
        """As in LatentModel; each channel has its own mean and standard deviation."""

        def of_channels(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, device=self.device).view(1, -1, 1, 1)

        self._scaling, self._shift = 1 / of_channels(config.latents_std), of_channels(config.latents_mean)
        self.channels, self.vae_scale_factor = int(config.z_dim), 2 ** len(config.temperal_downsample)

    def _encode(self, image: Tensor) -> Tensor:
        return super()._encode(image[:, :, None])[:, :, 0]  # as a video of one frame

    def _decode(self, latents: Tensor) -> Tensor:
        return super()._decode(latents[:, :, None])[:, :, 0]

    @property
    def blocks(self) -> Sequence[NetworkBlock]:
        return stream_blocks(self.network, "transformer_blocks")

    @property
    def attention_layers(self) -> Sequence[AttentionLayer]:
        network: Any = self.network
        return two_stream_layers(network.transformer_blocks, "block")

    def prompt_words(self, text: str) -> Sequence[PromptWord]:
        templated, start = _CHAT_TEMPLATE.format(text), _CHAT_TEMPLATE.index("{}")
        found = offsets(self.tokenizers["tokenizer"], templated)[_TEMPLATE_TOKENS:]
        return words_at(templated, found, start=start, end=start + len(text), longest=self.longest_prompt)

    def _embeds(self, prompts: Sequence[str]) -> PromptEmbeds:
        tokens = self.tokenizers["tokenizer"](
            [_CHAT_TEMPLATE.format(prompt or _NO_PROMPT) for prompt in prompts],
            padding=True,
            truncation=True,
            max_length=1024 + _TEMPLATE_TOKENS,
            return_tensors="pt",
        )
        states = self._read(
            "text_encoder",
            tokens.input_ids,
            attention_mask=tokens.attention_mask,
            output_hidden_states=True,
            use_cache=False,
            logits_to_keep=1,
        ).hidden_states[-1]  # [B,T,D]
        last = _TEMPLATE_TOKENS + self.longest_prompt
        return PromptEmbeds(
            tuple(
                row[mask.bool()][_TEMPLATE_TOKENS:last]
                for row, mask in zip(states, tokens.attention_mask.to(states.device), strict=True)
            )
        )

    def _network(self, embeds: PromptEmbeds, guidance: float) -> Network:
        velocity = self._packed(embeds)
        return lambda x_t, t: unpack(velocity(x_t, t), *x_t.shape[-2:])

    def _guided(
        self,
        positive: Composition[PromptEmbeds],
        negative: PromptEmbeds,
        guidance: float,
        interval: tuple[float, float] | None,
    ) -> Network:
        """Guidance changes the direction of each token's velocity [4 C] and keeps the norm of the conditional one."""
        networks = [self._packed(embeds) for embeds in positive.subprompts]
        negative_network = self._packed(negative)

        outside = positive.conditional(negative, self._network_of(guidance))

        def velocity(x_t: Tensor, t: Tensor) -> Tensor:
            if interval is not None and not bool(inside_interval(t, interval, self.schedule.t_max).any()):
                return outside(x_t, t)
            predictions = [network(x_t, t).to(x_t) for network in networks]  # [B,N,4 C]
            unconditional = negative_network(x_t, t).to(x_t)
            conditional = positive.combine(predictions, unconditional)
            guided = unconditional + guidance * (conditional - unconditional)
            norm, conditional_norm = guided.norm(dim=-1, keepdim=True), conditional.norm(dim=-1, keepdim=True)
            return unpack(guided * torch.where(norm > 0, conditional_norm / norm, 1.0), *x_t.shape[-2:])

        return velocity

    def _packed(self, embeds: PromptEmbeds) -> Network:
        """The network before `unpack`: x_t [B,C,h,w], t [B] -> velocity [B,N,4 C]."""
        padded = pad_sequence(list(embeds.prompt_embeds), batch_first=True)  # [B,T,D]
        prompt_embeds = padded.to(self.device, self.dtype)
        lengths = torch.tensor([len(row) for row in embeds.prompt_embeds], device=self.device)
        mask = torch.arange(prompt_embeds.shape[1], device=self.device) < lengths[:, None]  # [B,T]
        attention_mask = None if bool(mask.all()) else mask.long()

        def velocity(x_t: Tensor, t: Tensor) -> Tensor:
            shape = (1, x_t.shape[-2] // PATCH, x_t.shape[-1] // PATCH)
            prediction: Tensor = self.network(
                hidden_states=pack(x_t.to(self.dtype)),
                timestep=t,
                encoder_hidden_states=prompt_embeds,
                encoder_hidden_states_mask=attention_mask,
                img_shapes=[[shape]] * len(x_t),
                return_dict=False,
            )[0]
            return prediction

        return velocity


def load(checkpoint: Checkpoint, components: Components, device: torch.device, dtype: torch.dtype) -> QwenImageModel:
    """Load a checkpoint of this family.

    CheckpointMissing, CheckpointDamaged; CheckpointUnknown for the variants that edit images or split them into layers.
    """
    from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel
    from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

    about = components.config("transformer")
    if about.get("zero_cond_t") or about.get("use_additional_t_cond"):
        raise CheckpointUnknown(
            f"{checkpoint.name} is not supported", "it is a variant that edits images", "Choose Qwen-Image itself"
        )
    tokenizers = {"tokenizer": components.tokenizer("tokenizer", Qwen2Tokenizer)}
    vae = load_component(components, "vae", AutoencoderKLQwenImage, vae_dtype(dtype), device)
    encoders = {
        "text_encoder": load_component(components, "text_encoder", Qwen2_5_VLForConditionalGeneration, dtype, device)
    }
    network = load_component(components, "transformer", QwenImageTransformer2DModel, dtype, device)
    return QwenImageModel(
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

"""PixelUNet: predicts the clean image from noisy pixels with a U-Net of diffusers, as in DDPM and ADM.

Ho et al. 2020 (arXiv 2006.11239) and Dhariwal & Nichol 2021 (arXiv 2105.05233): residual blocks with scale and shift by
the time, attention at coarse resolutions, zero at initialisation. `UNet2DModel` without text, `UNet2DConditionModel` with
text, which cross-attends to the tokens and adds their pooled embedding to that of the time (as in DeepFloyd IF).

The input is scaled to alpha^2 + sigma^2 = 1, so that at a timestep of a variance-preserving schedule with the same
sigma / alpha the network reads exactly what a DDPM pipeline passes: `models.tools.export_unet` relies on it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from dataclasses import fields as fields_of
from math import gcd
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.transformer import Condition, PixelTransformer
from diffstudio.networks.transformer_config import check_multiple

TIMESTEPS = 1000.0  # the time 1, in timesteps of the time embedding
_CHANNEL_MULTIPLE = 8
_LARGEST_GROUPS, _LARGEST_HEAD = 32, 32

# Field of UNetConfig -> its key in checkpoint headers, where they differ. A format: never change a key.
_JSON_KEYS = {
    "image_size": "size",
    "in_channels": "channels",
    "cond_dim": "condition_width",
    "num_classes": "classes",
    "vocab_size": "vocabulary",
    "augment_dim": "told_width",
}


@dataclass(frozen=True, slots=True)
class UNetConfig:
    """The shape of a PixelUNet. ValueError for sizes that do not divide."""

    image_size: int = 32  # px, the side of the training images
    block_out_channels: tuple[int, ...] = (32, 64, 128)  # of each level, from full resolution down by halves
    layers_per_block: int = 1  # residual blocks per level on the way down; one more on the way up
    attention_side: int = 8  # px; levels of this side or smaller have attention, besides the middle
    dropout: float = 0.0  # in the residual blocks
    cond_dim: int = 128  # of the embedding of a caption's token
    conditioning: Conditioning = Conditioning.NONE
    num_classes: int = 0  # for Conditioning.CLASS
    vocab_size: int = 0  # for Conditioning.TEXT; token id 0 is padding
    text_tokens: int = 0  # per prompt
    augment_dim: int = 0  # augmentation labels (Karras et al. 2022, arXiv 2206.00364, appendix F.2); 0: none
    in_channels: int = 3  # of the images, in and out

    def __post_init__(self) -> None:
        if not self.block_out_channels or any(
            width < _CHANNEL_MULTIPLE or width % _CHANNEL_MULTIPLE for width in self.block_out_channels
        ):
            raise ValueError(f"the channels of each level must be a multiple of {_CHANNEL_MULTIPLE}")
        if self.cond_dim < 1 or self.cond_dim % _CHANNEL_MULTIPLE:
            raise ValueError(f"the condition width must be a multiple of {_CHANNEL_MULTIPLE}")
        if min(self.in_channels, self.layers_per_block) < 1 or not 0 <= self.dropout < 1:
            raise ValueError("in_channels and layers_per_block must be at least 1, and dropout between 0 and 1")
        check_multiple(self.image_size, self.patch_size)

    @property
    def patch_size(self) -> int:
        """Width and height of an image are multiples of this, in px: those of the coarsest cells."""
        return 1 << (len(self.block_out_channels) - 1)

    @property
    def time_dim(self) -> int:
        """The width of the time embedding, to which those of class and augmentation are added."""
        return 4 * self.block_out_channels[0]

    @property
    def attends(self) -> tuple[bool, ...]:
        """Whether each level has attention."""
        return tuple(self.image_size >> level <= self.attention_side for level in range(len(self.block_out_channels)))

    @property
    def labels_dim(self) -> int:
        """The width of a vector that is added to the time embedding; 0 without one."""
        return self.time_dim if self.conditioning is Conditioning.CLASS or self.augment_dim else 0

    def arguments(self) -> dict[str, Any]:
        """The arguments of diffusers' class. The vector of class and augmentation is its `class_labels`."""
        of_text = self.conditioning is Conditioning.TEXT
        attention = "CrossAttn" if of_text else "Attn"
        kinds = [attention if attends else "" for attends in self.attends]
        head = gcd(_LARGEST_HEAD, *self.block_out_channels)
        values: dict[str, Any] = {
            "sample_size": self.image_size,
            "in_channels": self.in_channels,
            "out_channels": self.in_channels,
            "block_out_channels": self.block_out_channels,
            "layers_per_block": self.layers_per_block,
            "down_block_types": tuple(f"{kind}DownBlock2D" for kind in kinds),
            "up_block_types": tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
            "norm_num_groups": self._groups,
            "dropout": self.dropout,
            "resnet_time_scale_shift": "scale_shift",
            "class_embed_type": "identity" if self.labels_dim else None,
        }
        if not of_text:
            return values | {"attention_head_dim": head, "attn_norm_num_groups": self._groups}
        return values | {
            "attention_head_dim": tuple(width // head for width in self.block_out_channels),  # the number of heads
            "cross_attention_dim": self.cond_dim,
            "addition_embed_type": "text",
            "addition_embed_type_num_heads": self.cond_dim // gcd(64, self.cond_dim),
        }

    @property
    def _groups(self) -> int:
        """Groups of GroupNorm: at most 32, of at least 4 channels where there are as many."""
        common = gcd(_LARGEST_GROUPS, *self.block_out_channels)
        while common > max(1, min(self.block_out_channels) // 4):
            common //= 2
        return common

    def to_json(self) -> dict[str, Any]:
        """The `network` entry of checkpoint headers."""
        return {_JSON_KEYS.get(field, field): value for field, value in asdict(self).items()} | {
            "patch": self.patch_size
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> UNetConfig:
        """The inverse of `to_json`. KeyError, TypeError or ValueError for values that are missing, unknown or invalid."""
        fields = {_JSON_KEYS.get(field, field): field for field in (each.name for each in fields_of(cls))}
        arguments = {
            fields[key]: value for key, value in values.items() if key != "patch"
        }  # which follows from the rest
        channels = arguments["block_out_channels"]
        if not isinstance(channels, (list, tuple)) or any(type(width) is not int for width in channels):
            raise TypeError("block_out_channels is not a list of whole numbers")
        return cls(
            **arguments
            | {"conditioning": Conditioning(arguments["conditioning"]), "block_out_channels": tuple(channels)}
        )


class PixelUNet(nn.Module):
    """x_t [B,K,H,W], t [B] in [0,1] (0 is clean), condition -> the clean image [B,K,H,W].

    K is `in_channels`. H and W are multiples of `patch_size`. `unet` is diffusers' network, `cond_embed` what it is
    conditioned on.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        from diffusers.models.unets.unet_2d import UNet2DModel
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        self.config = config
        self.cond_embed = UNetCondition(config)
        kind = UNet2DConditionModel if config.conditioning is Conditioning.TEXT else UNet2DModel
        self.unet: nn.Module = kind(**config.arguments())
        _zero_last_layers(self.unet)

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """The blocks of the U-Net: down, middle, up."""
        unet: Any = self.unet
        return (*unet.down_blocks, unet.mid_block, *unet.up_blocks)

    def forward(self, x_t: Tensor, t: Tensor, condition: Condition = Condition()) -> Tensor:  # noqa: B008 (immutable)
        labels, tokens = self.cond_embed(t, condition)
        inputs: dict[str, Tensor | None] = {"class_labels": labels} if labels is not None else {}
        if tokens is not None:
            inputs["encoder_hidden_states"] = tokens
        scaled = x_t * input_scale(t)[:, None, None, None].to(x_t)
        predicted: Tensor = self.unet(scaled, TIMESTEPS * t.float(), **inputs, return_dict=False)[0]
        return predicted.float()


class UNetCondition(nn.Module):
    """The condition as a vector [B,time_dim] to add to the time embedding, and the tokens [B,T,cond_dim]; None without."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        if config.conditioning is Conditioning.TEXT:
            self.token_embed = nn.Embedding(config.vocab_size, config.cond_dim)
            self.token_pos_embed = nn.Parameter(0.02 * torch.randn(1, config.text_tokens, config.cond_dim))
            nn.init.normal_(self.token_embed.weight, std=0.5)
        elif config.conditioning is Conditioning.CLASS:
            self.class_embed = nn.Embedding(config.num_classes + 1, config.time_dim)  # the last one: unconditional
            nn.init.normal_(self.class_embed.weight, std=0.5)
        if config.augment_dim:
            self.augment_embed = nn.Linear(config.augment_dim, config.time_dim, bias=False)

    def embed(self, condition: Condition) -> Tensor:
        """The embeddings of the condition's tokens [B,T,cond_dim] or class [B,time_dim], before positions are added."""
        if self.config.conditioning is Conditioning.TEXT:
            tokens: Tensor = self.token_embed(condition.token_ids)
            return tokens
        embedded: Tensor = self.class_embed(condition.class_labels)
        return embedded

    def forward(self, t: Tensor, condition: Condition) -> tuple[Tensor | None, Tensor | None]:
        config, tokens = self.config, None
        labels = torch.zeros(len(t), config.labels_dim, device=t.device) if config.labels_dim else None
        if config.conditioning is Conditioning.TEXT:
            if condition.token_ids is None:
                token_ids = t.new_zeros((len(t), config.text_tokens), dtype=torch.int64)
                condition = condition._replace(token_ids=token_ids)
            embedded = self.embed(condition) if condition.embedded is None else condition.embedded
            tokens = embedded + self.token_pos_embed
        elif config.conditioning is Conditioning.CLASS:
            if condition.class_labels is None:
                unconditional = torch.full((len(t),), config.num_classes, device=t.device)
                condition = condition._replace(class_labels=unconditional)
            labels = self.embed(condition) if condition.embedded is None else condition.embedded
        if config.augment_dim and condition.augment_labels is not None:
            assert labels is not None
            labels = labels + self.augment_embed(condition.augment_labels)
        return labels, tokens


def input_scale(t: Tensor) -> Tensor:
    """1 / sqrt(alpha^2 + sigma^2) of the rectified flow at t [B] -> [B]; a time outside [0,1] counts as its end."""
    t = t.clamp(0, 1)
    return ((1 - t) ** 2 + t**2).rsqrt()


@torch.no_grad()
def _zero_last_layers(unet: nn.Module) -> None:
    """Every residual branch and the output are 0 at initialisation, as in ADM (arXiv 2105.05233)."""
    from diffusers.models.attention_processor import Attention
    from diffusers.models.resnet import ResnetBlock2D
    from diffusers.models.transformers.transformer_2d import Transformer2DModel

    last: list[Any] = [unet.conv_out]
    for module in unet.modules():
        if isinstance(module, ResnetBlock2D):
            last.append(module.conv2)
        elif isinstance(module, Transformer2DModel):
            last.append(module.proj_out)
        elif isinstance(module, Attention) and module.residual_connection:  # without text
            last.append(module.to_out[0])
    for layer in last:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)


PixelNetwork: TypeAlias = PixelTransformer | PixelUNet

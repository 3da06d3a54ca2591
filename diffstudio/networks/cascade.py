"""CascadedTransformer: a base network, and an upper one that enlarges the base's images.

Cascaded diffusion models: Ho et al. 2021 (arXiv 2106.15282). The upper network is a diffusion model of images at a higher
resolution, conditioned on the same image at the base's resolution (SR3: arXiv 2104.07636), which in training is noised a
little, because images that a base generates are not quite like downscaled photographs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.transformer import Condition, PixelTransformer
from diffstudio.networks.transformer_config import TransformerConfig

LEVELS = (2, 4)  # how many times as large as the base's images those of the upper level may be
UPPER = "upper."  # the prefix of its tensors. A format: never change it.


@dataclass(frozen=True, slots=True)
class UpperConfig:
    """The upper level: its network, and how it is used. ValueError for values that do not fit together."""

    network: TransformerConfig
    noise: float = 0.25  # the largest noise level of low-resolution images in training
    sample_noise: float = 0.05  # of the base's images, in sampling
    sample_steps: int = 5

    def __post_init__(self) -> None:
        if not self.network.low_channels or self.network.conditioning is not Conditioning.NONE:
            raise ValueError("the network of the upper level must read a low-resolution image and nothing else")
        if not 0 <= self.sample_noise <= self.noise <= 1 or self.sample_steps < 1:
            raise ValueError("the noise levels or steps of the upper level are out of range")

    def to_json(self) -> dict[str, Any]:
        """The `upper` entry of checkpoint headers."""
        return {
            "network": self.network.to_json(),
            "noise": self.noise,
            "sample_noise": self.sample_noise,
            "sample_steps": self.sample_steps,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> UpperConfig:
        """The inverse of `to_json`. KeyError, TypeError or ValueError for values that are missing or invalid."""
        return cls(
            TransformerConfig.from_json(dict(values["network"])),
            float(values["noise"]),
            float(values["sample_noise"]),
            int(values["sample_steps"]),
        )


class CascadedTransformer(PixelTransformer):
    """The base network, with the upper one as its part `upper`.

    It is called like the base. With `condition.low` the call goes to the upper network: images of either size, and
    parameters under one module, whatever is done with them.
    """

    def __init__(self, config: TransformerConfig, upper: UpperConfig) -> None:
        super().__init__(config)
        factor, rest = divmod(upper.network.image_size, config.image_size)
        if rest or factor not in LEVELS or upper.network.in_channels != config.in_channels:
            raise ValueError(
                f"images of {upper.network.image_size} px do not fit a base of {config.image_size} px: "
                f"they must be {LEVELS[0]} or {LEVELS[1]} times as large, with the same channels"
            )
        self.factor, self.upper_config = factor, upper
        self.upper = PixelTransformer(upper.network)

    def forward(self, x_t: Tensor, t: Tensor, condition: Condition = Condition()) -> Tensor:  # noqa: B008 (immutable)
        if condition.low is None:
            return super().forward(x_t, t, condition)
        predicted: Tensor = self.upper(x_t, t, condition)
        return predicted


def reduced(images: Tensor, factor: int) -> Tensor:
    """Images [B,K,H,W] at the base's resolution [B,K,H/factor,W/factor]: averages of blocks."""
    return F.avg_pool2d(images, factor) if len(images) else images[..., ::factor, ::factor]


def noised(low: Tensor, level: Tensor, noise: Tensor) -> Tensor:
    """Low-resolution images [B,K,h,w] at noise levels [B]: (1 - s) x + s eps (arXiv 2106.15282, section 4.2)."""
    s = level.to(low)[:, None, None, None]
    return torch.lerp(low, noise.to(low), s)

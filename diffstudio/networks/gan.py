"""The networks of R3GAN (Huang et al. 2024, arXiv 2501.05441): a generator and a discriminator without normalisation.

Inverted-bottleneck residual blocks (a 1 x 1 convolution to more channels, a grouped 3 x 3 convolution, a 1 x 1
convolution back) with leaky ReLUs and Fixup initialisation (Zhang et al. 2019, arXiv 1901.09321): the last convolution
of each block is zero. Resolutions change by bilinear interpolation between the blocks. The generator starts from a
learned basis of the coarsest grid, weighted by the noise; the discriminator ends with the mirrored layer. Written from
the paper, for small images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffstudio.networks.condition_vector import ConditionVector
from diffstudio.networks.one_call import OneCallConfig
from diffstudio.networks.transformer import Condition

_SLOPE = 0.2  # of the leaky ReLU
_EXPANSION = 2  # factor of the channels inside a block
_GROUP = 16  # channels per group of the 3 x 3 convolution


@dataclass(frozen=True, slots=True, kw_only=True)
class GanConfig(OneCallConfig):
    """The architecture of a Generator and its Discriminator."""

    latent_size: int = 64  # Z, the size of the noise vector of an image


class Generator(nn.Module):
    """The generator: noise [B,Z] and condition -> images [B,C,H,W] in about [-1,1]."""

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths[::-1]
        self.cond_embed = ConditionVector(config.cond_dim, config.conditioning, **config.condition_sizes())
        self.basis = nn.Parameter(torch.randn(1, widths[0], config.grid, config.grid))
        self.linear = _initialised(nn.Linear(config.latent_size + config.cond_dim, widths[0], bias=False))
        self.blocks = nn.ModuleList(_level(width, config) for width in widths)
        self.transitions = nn.ModuleList(_transition(a, b) for a, b in zip(widths, widths[1:], strict=False))
        self.to_image = _initialised(nn.Conv2d(widths[-1], config.folded_channels, 1))

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """The shape [Z] of the noise of one image."""
        return (self.config.latent_size,)

    def generate(self, noise: Tensor, condition: Condition) -> Tensor:
        """Images [B,C,H,W] from noise [B,Z]."""
        return self.forward(noise, condition)

    def forward(self, z: Tensor, condition: Condition = Condition()) -> Tensor:  # noqa: B008 (immutable)
        weights = self.linear(torch.cat((z, self.cond_embed(condition, len(z), z.device)), dim=1))  # [B,widest]
        x = self.basis * weights[..., None, None]
        for level, blocks in enumerate(self.blocks):
            if level:
                x = self.transitions[level - 1](F.interpolate(x, scale_factor=2.0, mode="bilinear"))
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x)
        images: Tensor = F.pixel_shuffle(self.to_image(x), self.config.stem_size)
        return images


class Discriminator(nn.Module):
    """A projection discriminator (Miyato & Koyama 2018, arXiv 1802.05637): images [B,C,H,W], condition -> logits [B]."""

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.cond_embed = ConditionVector(config.cond_dim, config.conditioning, **config.condition_sizes())
        self.from_image = _initialised(nn.Conv2d(config.folded_channels, widths[0], 1))
        self.blocks = nn.ModuleList(_level(width, config) for width in widths)
        self.transitions = nn.ModuleList(_transition(a, b) for a, b in zip(widths, widths[1:], strict=False))
        self.basis = _initialised(nn.Conv2d(widths[-1], widths[-1], config.grid, groups=widths[-1], bias=False))
        self.score = _initialised(nn.Linear(widths[-1], 1, bias=False))
        self.features = _initialised(nn.Linear(widths[-1], config.cond_dim, bias=False))

    def forward(self, images: Tensor, condition: Condition = Condition()) -> Tensor:  # noqa: B008 (immutable)
        x = self.from_image(F.pixel_unshuffle(images, self.config.stem_size))
        for level, blocks in enumerate(self.blocks):
            if level:
                x = self.transitions[level - 1](F.avg_pool2d(x, 2))  # bilinear, at half the size
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x)
        x = self.basis(x).flatten(1)
        c = self.cond_embed(condition, len(images), images.device)
        agreement = (self.features(x) * c).sum(dim=1) / math.sqrt(self.config.cond_dim)
        scores: Tensor = self.score(x).squeeze(1) + agreement
        return scores


class ResidualBlock(nn.Module):
    """A residual block on [B,width,h,w], the identity at initialisation."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        inner = _EXPANSION * width
        gain = blocks ** (-1 / 4)  # Fixup: L^(-1 / (2 m - 2)) with m = 3 layers in a branch
        self.conv1 = _initialised(nn.Conv2d(width, inner, 1), gain)
        groups = inner // math.gcd(_GROUP, inner)
        self.conv2 = _initialised(nn.Conv2d(inner, inner, 3, padding=1, groups=groups), gain)
        self.conv3 = nn.Conv2d(inner, width, 1, bias=False)
        nn.init.zeros_(self.conv3.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.conv1(x), _SLOPE)
        h = F.leaky_relu(self.conv2(h), _SLOPE)
        changed: Tensor = x + self.conv3(h)
        return changed


def _level(width: int, config: GanConfig) -> nn.ModuleList:
    return nn.ModuleList(ResidualBlock(width, config.depth * len(config.widths)) for _ in range(config.depth))


def _transition(before: int, after: int) -> nn.Module:
    return nn.Identity() if before == after else _initialised(nn.Conv2d(before, after, 1, bias=False))


def _initialised(layer: nn.Linear | nn.Conv2d, gain: float = 0.0) -> nn.Module:
    """The layer with weights that keep the variance of its input; with a `gain`, He's for a leaky ReLU times `gain`.

    He et al. 2015 (arXiv 1502.01852), eq. 10 and 15.
    """
    nn.init.kaiming_normal_(layer.weight, a=_SLOPE if gain else 1.0)
    with torch.no_grad():
        layer.weight.mul_(gain or 1.0)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer

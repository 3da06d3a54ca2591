"""Features of a convolutional network with random weights: cheap, for any number of channels, the same in every run.

They do not replace learned features, but random convolutions distinguish images by their local patterns (Saxe et al.
2011, "On random weights and unsupervised feature learning"), which is enough to monitor a training run.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from diffstudio.evaluation.features.feature_network import FeatureNetwork

LARGEST_SIDE = 32  # px
_WIDTHS = (16, 32, 32)  # channels of the layers; each halves the side
_CELLS = 2  # per side, of the grid that the last layer is pooled to


def random_network(channels: int, seed: int = 0) -> FeatureNetwork:
    """The feature network for images [N,channels,H,W] in [-1,1]."""
    generator = torch.Generator().manual_seed(seed)
    weights, inputs = [], channels
    for width in _WIDTHS:
        weights.append(torch.randn(width, inputs, 3, 3, generator=generator) * (2 / (9 * inputs)) ** 0.5)
        inputs = width
    features = sum(_WIDTHS) * _CELLS**2

    @torch.inference_mode()
    def compute(images: Tensor) -> Tensor:
        x = images.float()
        if max(x.shape[-2:]) > LARGEST_SIDE:
            x = F.interpolate(x, (LARGEST_SIDE,) * 2, mode="bilinear", antialias=True, align_corners=False)
        parts = []
        for layer in weights:
            x = F.leaky_relu(F.conv2d(x, layer.to(x), padding=1), 0.2)
            parts.append(F.adaptive_avg_pool2d(x, _CELLS).flatten(1))
            x = F.avg_pool2d(x, 2) if min(x.shape[-2:]) > _CELLS else x
        return torch.cat(parts, dim=1)

    return FeatureNetwork(
        "a network with random weights", features, f"resized to {LARGEST_SIDE} px, bilinear, if larger", compute
    )

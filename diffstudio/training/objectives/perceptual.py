"""A perceptual loss: an estimate should also look like its image to a network that was trained on photographs.

Normalised features of EfficientNet-Lite0 are compared, as LPIPS does (Zhang et al. 2018, arXiv 1801.03924, eq. 1), without
its learned weights; for diffusion in pixels: PixelGen (Ma et al. 2026, arXiv 2602.02493). Only early blocks, which see
edges and textures, so that what images show is left to the loss of the pixels, and the variety of the images to the noise.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffstudio.evaluation.features.feature_network import as_rgb, efficientnet

CHANNELS = (1, 3)  # of images that the network can see
MOST_NOISE = 0.7  # t, from which estimates are blurs that resemble no image
_BLOCKS = (0, 2, 4)  # whose output is compared
_SMALLEST = 64  # px, the shorter side: smaller images are enlarged by a whole factor


class PerceptualLoss:
    """The distance of estimates to images in features. CheckpointMissing if the network is not installed."""

    def __init__(self, device: torch.device) -> None:
        network = efficientnet(device)
        self._first = nn.Sequential(network.stem, network.activation)
        self._blocks = list(network.blocks.children())[: _BLOCKS[-1] + 1]

    def __call__(self, estimate: Tensor, image: Tensor, t: Tensor, pixel_weights: Tensor | None = None) -> Tensor:
        """The squared distance of each estimate to its image, both [B,1 or 3,H,W], averaged over cells and blocks: [B].

        0 from t = MOST_NOISE on; t is [B]. What `pixel_weights` [B,1,H,W] leave out does not differ.
        """
        if pixel_weights is not None:
            estimate = torch.lerp(image, estimate, pixel_weights.to(estimate).clamp(max=1).expand_as(estimate))
        distances = estimate.new_zeros(len(estimate))
        rows = (t.to(estimate.device) < MOST_NOISE).nonzero().flatten()
        if not len(rows):
            return distances
        with torch.no_grad():
            target = self._features(image[rows])
        found = self._features(estimate[rows])
        pairs = zip(found, target, strict=True)
        each = torch.stack([(one - other).square().sum(1).mean((1, 2)) for one, other in pairs]).mean(0)
        return distances.index_add(0, rows, each)

    def _features(self, images: Tensor) -> list[Tensor]:
        """Unit vectors [B,C,h,w] in each cell of each block."""
        enlarged = -(-_SMALLEST // min(images.shape[-2:]))
        x = as_rgb(images.float())  # (v - 127) / 128 of 8-bit values, but for a hundredth
        if enlarged > 1:
            x = F.interpolate(x, scale_factor=enlarged, mode="bilinear", align_corners=False)
        x, found = self._first(x.contiguous(memory_format=torch.channels_last)), []
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in _BLOCKS:
                found.append(F.normalize(x, dim=1, eps=1e-3))
        return found

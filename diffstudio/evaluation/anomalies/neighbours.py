"""Anomaly scores without a generative model: nearest-neighbour distances in pixels and in patch features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from diffstudio.evaluation.features.feature_network import as_rgb, efficientnet
from diffstudio.networks.efficientnet import SIDE, EfficientNetLite0

MOST_PATCHES = 4096  # in the memory bank of PatchCore (Roth et al. 2021, 2106.08265)
_CANDIDATES = 40_000  # patches, drawn at random, that the bank is chosen from
_PROJECTED = 32  # dimensions in which they are compared for that
_LAYERS = (4, 10)  # blocks whose output is used: 40 channels at 28 x 28 and 112 at 14 x 14
_MOST_IMAGES = 256  # that the memory bank is drawn from
_AT_ONCE = 16


@dataclass(frozen=True, eq=False)
class PixelNeighbours:
    """The pixel distance to the nearest normal image, with the squared difference as a heat map."""

    normals: Tensor  # [N,C,H,W]

    def score(self, images: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Distances [B], and squared differences [B,H,W], from images [B,C,H,W]."""
        distances = torch.cdist(images.flatten(1), self.normals.flatten(1))
        nearest = distances.min(dim=1)
        maps = (images - self.normals[nearest.indices]).square().mean(1)
        return nearest.values.double().numpy(), maps.float().numpy()


@dataclass(frozen=True, eq=False)
class PatchNeighbours:
    """The distance of each patch's features to the nearest normal patch; the score of an image is its largest distance."""

    network: EfficientNetLite0
    bank: Tensor  # [M,D]
    device: torch.device
    used: NDArray[np.intp]  # the normal images that the bank is drawn from
    summaries: NDArray[np.float32]  # [len(used),2D] of these

    @classmethod
    def of(cls, normals: Tensor, device: torch.device, seed: int = 0) -> PatchNeighbours:
        """The memory bank of normal images [N,C,H,W] in [-1,1] with one or three channels."""
        network = efficientnet(device)
        used = np.arange(0, len(normals), -(-len(normals) // _MOST_IMAGES))
        normals = normals[used]
        rng, each, kept, summaries = np.random.default_rng(seed), -(-_CANDIDATES // len(normals)), [], []
        for part in normals.split(_AT_ONCE):
            found = _patches(network, part, device)
            summaries.append(_summaries(found))
            for features in found:
                patches = features.flatten(1).T  # [28 * 28,D]
                kept.append(patches[torch.from_numpy(rng.permutation(len(patches))[:each])])
        bank = coreset(torch.cat(kept), MOST_PATCHES, seed)
        return cls(network, bank, device, used, np.concatenate(summaries))

    def score(self, images: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float32]]:
        """The largest patch distance [B] of each image, the distance of the patch at each pixel [B,H,W], and a summary of
        the image [B,2D]: mean and standard deviation of its features.
        """
        features = _patches(self.network, images, self.device)  # [B,D,h,w]
        count, _, rows, columns = features.shape
        found = [torch.cdist(one.flatten(1).T, self.bank).min(dim=1).values for one in features]
        maps = torch.stack(found).view(count, 1, rows, columns)
        scores = maps.flatten(1).max(dim=1).values.double().cpu().numpy()
        shown = F.interpolate(maps, images.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
        return scores, shown.float().cpu().numpy(), _summaries(features)


def _summaries(features: Tensor) -> NDArray[np.float32]:
    """Mean and standard deviation [B,2D] of features [B,D,h,w] over the image."""
    found = torch.cat([features.mean(dim=(2, 3)), features.flatten(2).std(dim=2)], dim=1)
    return found.float().cpu().numpy()


def coreset(patches: Tensor, count: int, seed: int = 0) -> Tensor:
    """At most `count` of the patches [N,D] that lie near all others: greedy k-centre selection, algorithm 1 of PatchCore.

    Each next one is the farthest from those that were chosen, so that rare patches are kept, which a random choice leaves
    out. Distances are those of a random projection, as there.
    """
    if len(patches) <= count:
        return patches
    projection = torch.randn(patches.shape[1], _PROJECTED, generator=torch.Generator().manual_seed(seed))
    points = patches @ projection.to(patches)
    squares = points.square().sum(dim=1)
    nearest, chosen = torch.full_like(squares, torch.inf), [0]
    for _ in range(count - 1):
        last = chosen[-1]
        nearest = torch.minimum(nearest, squares - 2 * (points @ points[last]) + squares[last])
        chosen.append(int(nearest.argmax()))
    return patches[chosen]


@torch.inference_mode()
def _patches(network: EfficientNetLite0, images: Tensor, device: torch.device) -> Tensor:
    """Features [B,152,28,28] of two middle layers, averaged over 3 x 3 neighbourhoods."""
    pixels = (as_rgb(images.to(device, torch.float32)) + 1) * 127.5
    x = F.interpolate(pixels, (SIDE, SIDE), mode="bicubic", antialias=True, align_corners=False)
    x = network.activation(network.stem((x.clamp(0, 255) - 127) / 128))
    layers = []
    for number in range(_LAYERS[-1] + 1):
        x = network.blocks[number](x)
        if number in _LAYERS:
            layers.append(F.avg_pool2d(x, 3, 1, 1))
    larger = F.interpolate(layers[1], layers[0].shape[-2:], mode="bilinear", align_corners=False)
    return torch.cat([layers[0], larger], dim=1)

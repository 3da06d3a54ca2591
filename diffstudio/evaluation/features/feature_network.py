"""Features of images, in which they are compared: numbers that say what an image shows rather than which pixels it has."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from diffstudio import paths
from diffstudio.errors import BadRequest, CheckpointMissing
from diffstudio.networks.efficientnet import FEATURES, SIDE, EfficientNetLite0

PIXEL_SIDE = 16  # px
PIXELS = PIXEL_SIDE * PIXEL_SIDE
_AT_ONCE_ON_CPU = 4  # images: what they need between layers then fits into the cache of a processor


@dataclass(frozen=True, slots=True)
class FeatureNetwork:
    """A network and what a figure made with it must say: features of other networks, or of images that were resized in
    another way, cannot be compared.
    """

    name: str
    width: int  # features of an image
    resizing: str  # how images reach the network, in words
    features: Callable[[Tensor], Tensor]  # images [N,C,H,W] in [-1,1] to features [N,width]

    def label(self) -> str:
        """`EfficientNet-Lite0 (ImageNet), resized to 224 px, bicubic`."""
        return f"{self.name}, {self.resizing}"


def imagenet_network(device: torch.device | str = "cpu") -> FeatureNetwork:
    """EfficientNet-Lite0, which comes with the program. It suits photographs and drawings of things best."""
    network = efficientnet(device)

    def features(images: Tensor) -> Tensor:
        pixels = (as_rgb(images.to(device, torch.float32)) + 1) * 127.5
        small = F.interpolate(pixels, (SIDE, SIDE), mode="bicubic", antialias=True, align_corners=False)
        values = ((small.clamp(0, 255) - 127) / 128).contiguous(memory_format=torch.channels_last)
        at_once = _AT_ONCE_ON_CPU if values.device.type == "cpu" else len(values)
        return torch.cat([network(part) for part in values.split(at_once)])

    return FeatureNetwork("EfficientNet-Lite0 (ImageNet)", FEATURES, resized(SIDE), torch.inference_mode()(features))


def efficientnet(device: torch.device | str) -> EfficientNetLite0:
    """The network of `imagenet_network` with its weights. CheckpointMissing if they are not installed."""
    path = paths.resources() / "features" / "efficientnet_lite0.safetensors"
    try:
        stored = load_file(path)
    except OSError as error:
        raise CheckpointMissing(
            "The network that images are compared with is missing",
            f"{path} cannot be read",
            "Install the program again",
        ) from error
    network = EfficientNetLite0()
    network.load_state_dict({name: tensor.float() for name, tensor in stored.items()})
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its stubs
    return network.eval().requires_grad_(False)


def with_pixels(network: FeatureNetwork) -> FeatureNetwork:
    """The same, whose features are followed by PIXELS values for each channel: the image at 16 px, where a copy is found
    whatever a network sees in it.
    """

    @torch.inference_mode()
    def features(images: Tensor) -> Tensor:
        found = network.features(images)
        small = images
        if images.shape[-2:] != (PIXEL_SIDE, PIXEL_SIDE):
            small = F.interpolate(
                images, (PIXEL_SIDE, PIXEL_SIDE), mode="bilinear", antialias=True, align_corners=False
            )
        return torch.cat([found, small.flatten(1).to(found)], dim=1)

    return replace(network, features=features)


def resized(side: int) -> str:
    """How most networks are given images, in words."""
    return f"resized to {side} px, bicubic"


def as_rgb(images: Tensor) -> Tensor:
    """Images [N,1,H,W] with their channel three times, or [N,3,H,W] as they are. BadRequest for other numbers."""
    if images.shape[1] == 1:
        return images.expand(-1, 3, -1, -1)
    if images.shape[1] != 3:
        raise BadRequest(
            f"Images of {images.shape[1]} channels have no features in a network for colour images",
            remedy="Compare them with a network trained on them",
        )
    return images


def extract(network: FeatureNetwork, batches: Iterable[Tensor]) -> NDArray[np.float32]:
    """The features [N,D] of images that come in batches [n,C,H,W] in [-1,1]; one batch is in memory at a time."""
    found = [network.features(batch).cpu().numpy().astype(np.float32) for batch in batches]
    return np.concatenate(found) if found else np.empty((0, network.width), np.float32)

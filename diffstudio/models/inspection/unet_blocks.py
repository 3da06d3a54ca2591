"""The blocks of diffusers' U-Nets, whose features get coarser towards the middle."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from diffstudio.models.inspection.layers import NetworkBlock


def unet_blocks(network: Any) -> tuple[NetworkBlock, ...]:
    """Those of a UNet2DConditionModel in the order in which they run: down, middle, up."""
    return tuple(NetworkBlock(name, module, _image) for name, module in _named(network))


def _named(network: Any) -> Iterator[tuple[str, Any]]:
    yield from ((f"down {number}", block) for number, block in enumerate(network.down_blocks))
    yield "middle", network.mid_block
    yield from ((f"up {number}", block) for number, block in enumerate(network.up_blocks))


def _image(output: Any, size: tuple[int, int]) -> Tensor:
    """[B,C,h,w]: blocks on the way down return their skip connections too."""
    image: Tensor = output[0] if isinstance(output, tuple) else output
    return image

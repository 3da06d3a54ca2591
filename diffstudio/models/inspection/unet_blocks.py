"""The blocks of diffusers' U-Nets, whose features are coarser towards the middle."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from diffstudio.models.inspection.layers import NetworkBlock


def unet_blocks(network: Any) -> tuple[NetworkBlock, ...]:
    """The blocks of a UNet2DConditionModel or UNet2DModel in execution order: down, middle, up."""
    return tuple(NetworkBlock(name, module, _image) for name, module in _named(network))


def _named(network: Any) -> Iterator[tuple[str, Any]]:
    yield from ((f"down {number}", block) for number, block in enumerate(network.down_blocks))
    if network.mid_block is not None:
        yield "middle", network.mid_block
    yield from ((f"up {number}", block) for number, block in enumerate(network.up_blocks))


def _image(output: Any, size: tuple[int, int]) -> Tensor:
    """The image states [B,C,h,w] of a block's output; down blocks also return skip connections."""
    image: Tensor = output[0] if isinstance(output, tuple) else output
    return image

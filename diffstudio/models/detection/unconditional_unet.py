"""What the configuration of diffusers' `UNet2DModel` says about an unconditional pipeline. No torch is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffstudio.models.output_format import MOST_CHANNELS

_LARGEST_SIDE = 4096  # px


def not_unconditional(config: Mapping[str, Any]) -> str:
    """Why a DDPM or DDIM pipeline with this U-Net cannot be used, as a sentence; empty if it can."""
    name = config.get("_class_name")
    if name != "UNet2DModel":
        known = f"its network is {str(name)[:80]}" if name else "the configuration of its U-Net is missing"
        return f"Such a pipeline needs a UNet2DModel, but {known}."
    if config.get("class_embed_type") is not None or config.get("num_class_embeds") is not None:
        return "Its U-Net is class-conditional, and such a pipeline passes no class to it."
    channels, predicted = config.get("in_channels", 3), config.get("out_channels", 3)
    if type(channels) is not int or not 1 <= channels <= MOST_CHANNELS or predicted not in (channels, 2 * channels):
        return f"A U-Net with {_short(channels)} input and {_short(predicted)} output channels cannot generate images."
    if unconditional_size(config) is None:
        return f"The size of its images is unknown: sample_size is {_short(config.get('sample_size'))}."
    return ""


def unconditional_size(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Width and height in px of a U-Net's images; None for an invalid `sample_size`, which is a side or [height,width]."""
    size = config.get("sample_size")
    match size if isinstance(size, list) else [size, size]:
        case [int() as height, int() as width] if all(0 < side <= _LARGEST_SIDE for side in (height, width)):
            return width, height
    return None


def _short(value: object) -> str:
    return str(value)[:40]

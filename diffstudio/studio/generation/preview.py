"""From numbers to pictures that can be shown: the estimate of a step, small and cheap; and the finished image, whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffstudio.studio.events import Picture

if TYPE_CHECKING:
    from torch import Tensor

    from diffstudio.models.model import Model

LARGEST_SIDE = 512  # px


def picture(denoised: Tensor, model: Model) -> tuple[Picture, ...]:
    """The estimates of a Step [B,C,h,w] as B pictures of at most 512 px a side, sharing memory with nothing."""
    rgb = model.latents_to_rgb(denoised)
    every = -(-max(rgb.shape[-2:]) // LARGEST_SIDE)  # ceiling
    return as_pictures(rgb[..., ::every, ::every])


def as_pictures(image: Tensor) -> tuple[Picture, ...]:
    """image [B,3,H,W] in [-1,1] -> B pictures [H,W,3]; what is outside is clipped, what is no number becomes black."""
    levels = image.detach().add(1.0).mul(127.5).round().nan_to_num(0.0).clamp(0.0, 255.0)
    pixels = levels.permute(0, 2, 3, 1).contiguous().byte().cpu().numpy()
    return tuple(pixels[index].copy() for index in range(len(pixels)))


def shrunk(whole: Picture) -> Picture:
    """A finished image at no more than 512 px a side, averaged."""
    if max(whole.shape[:2]) <= LARGEST_SIDE:
        return whole
    import numpy as np
    from PIL import Image

    small = Image.fromarray(whole)
    small.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    return np.array(small)

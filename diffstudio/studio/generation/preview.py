"""Convert tensors to images: small, cheap previews of a step's estimate, and finished images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffstudio.studio.events import Picture

if TYPE_CHECKING:
    from torch import Tensor

    from diffstudio.models.model import Model

LARGEST_SIDE = 512  # px


def preview_images(denoised: Tensor, model: Model) -> tuple[Picture, ...]:
    """The x_0 estimates of a step [B,C,h,w] as B images of at most 512 px a side; copies, not views."""
    rgb = model.latents_to_rgb(denoised)
    every = -(-max(rgb.shape[-2:]) // LARGEST_SIDE)  # ceiling
    return to_images(rgb[..., ::every, ::every])


def to_images(image: Tensor) -> tuple[Picture, ...]:
    """image [B,3,H,W] in [-1,1] -> B images [H,W,3]; values outside are clipped, NaN becomes black."""
    levels = image.detach().add(1.0).mul(127.5).round().nan_to_num(0.0).clamp(0.0, 255.0)
    pixels = levels.permute(0, 2, 3, 1).contiguous().byte().cpu().numpy()
    return tuple(pixels[index].copy() for index in range(len(pixels)))


def shrunk(whole: Picture) -> Picture:
    """A finished image reduced to at most 512 px a side."""
    if max(whole.shape[:2]) <= LARGEST_SIDE:
        return whole
    import numpy as np
    from PIL import Image

    small = Image.fromarray(whole)
    small.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    return np.array(small)

"""Convert tensors to images: small, cheap previews of a step's estimate, and finished images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffstudio.studio.events import Picture

if TYPE_CHECKING:
    from torch import Tensor, nn

    from diffstudio.models.model import Model

LARGEST_SIDE = 512  # px
LARGEST_LATENT = 128  # px a side that a TAESD decodes, which takes some 300 MB
APPROXIMATE = "Previews are approximate: there is not enough memory to decode them with TAESD."


def preview_images(denoised: Tensor, model: Model) -> tuple[Picture, ...]:
    """The x_0 estimates of a step [B,C,h,w] as B images of at most 512 px a side; copies, not views.

    They are decoded by the model's TAESD, if it has one. If that runs out of memory, the model's `load_notes` say so, and
    later previews are approximate.
    """
    rgb = _decoded(denoised, model)
    if rgb is None:
        rgb = model.latents_to_rgb(denoised)
    every = -(-max(rgb.shape[-2:]) // LARGEST_SIDE)  # ceiling
    return to_images(rgb[..., ::every, ::every])


def _decoded(latents: Tensor, model: Model) -> Tensor | None:
    """latents [B,C,h,w] -> images [B,3,8h,8w], about [-1,1]; None without a TAESD, or memory for it."""
    if model.preview_decoder is None:
        return None
    from diffstudio.models.memory.devices import is_out_of_memory

    try:
        return decode_preview(model.preview_decoder, latents)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    model.preview_decoder = None  # later steps have no more memory
    model.load_notes = (*model.load_notes, APPROXIMATE)
    return None


def decode_preview(decoder: nn.Module, latents: Tensor) -> Tensor:
    """latents [B,C,h,w] -> images [B,3,8h,8w], one after another; latents larger than 128 px are reduced before."""
    import torch
    import torch.nn.functional as F

    first, largest = next(decoder.parameters()), max(latents.shape[-2:])
    if largest > LARGEST_LATENT:
        size = [max(1, round(side * LARGEST_LATENT / largest)) for side in latents.shape[-2:]]
        latents = F.interpolate(latents, size, mode="area")
    with torch.inference_mode():
        return torch.cat([decoder(latent.to(first)).float() for latent in latents.split(1)])


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

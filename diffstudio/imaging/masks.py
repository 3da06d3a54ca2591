"""Masks for inpainting: feathered edges, the region around the mask, and what fills the masked area. No torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

GREY = 127
_FEATHERED_SHARE = 0.93  # of full opacity, reached two standard deviations inside the edge; the blur nears 1 slowly

Mask = NDArray[np.uint8]  # [H,W]: 255 is inpainted, 0 is kept
Pixels = NDArray[np.uint8]  # [H,W,3] RGB
Box = tuple[int, int, int, int]  # left, top, right, bottom in px


def feather_mask(mask: Mask, feather: int) -> NDArray[np.float32]:
    """How opaque the new image is, [H,W] in [0,1]: rising from the mask's edge inwards over about `feather` px.

    Outside the mask it is 0. A mask thinner than its feather keeps its hard edge.
    """
    hard = mask.astype(np.float32) / 255.0
    if feather <= 0:
        return hard
    blurred = np.array(Image.fromarray(mask).filter(ImageFilter.GaussianBlur(feather / 2)), dtype=np.float32) / 255.0
    soft = np.clip((2.0 * blurred - 1.0) / _FEATHERED_SHARE, 0.0, 1.0) * hard  # a straight edge is blurred to a half
    return soft.astype(np.float32) if soft.max() > 0.5 else hard


def masked_region(mask: Mask, padding: int, aspect: float) -> Box:
    """The box around the mask, with `padding` px, grown to width / height = `aspect` as far as the image reaches."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom = _grown(int(rows[0]) - padding, int(rows[-1]) + 1 + padding, 0, mask.shape[0])
    left, right = _grown(int(columns[0]) - padding, int(columns[-1]) + 1 + padding, 0, mask.shape[1])
    if (right - left) < aspect * (bottom - top):
        left, right = _grown(left, right, round(aspect * (bottom - top)), mask.shape[1])
    else:
        top, bottom = _grown(top, bottom, round((right - left) / aspect), mask.shape[0])
    return left, top, right, bottom


def _grown(start: int, end: int, minimum: int, limit: int) -> tuple[int, int]:
    """The interval made `minimum` long about its middle, then shifted and cut to fit into 0 .. limit."""
    more = max(0, minimum - (end - start))
    start, end = start - more // 2, end + more - more // 2
    shift = max(0, -start) - max(0, end - limit)
    return max(0, start + shift), min(limit, end + shift)


def fill_from_surroundings(image: Pixels, mask: Mask) -> Pixels:
    """Colours [H,W,3] carried into the mask from outside: means of the known pixels over ever wider neighbourhoods."""
    known = (mask == 0).astype(np.float32)
    if not known.any():
        return np.full_like(image, GREY)
    colours = image.astype(np.float32) * known[..., None]
    found, weight = colours, known
    radius = 2.0
    while (weight <= 0).any() and radius < 2 * max(mask.shape):
        spread, amount = _blurred(colours, radius), _blurred(known[..., None], radius)[..., 0]
        new = (weight <= 0) & (amount > 1 / 255)
        found = np.where(new[..., None], spread / np.maximum(amount, 1e-6)[..., None], found)
        weight = np.where(new, 1.0, weight)
        radius *= 2
    mean = colours.sum((0, 1)) / known.sum()
    filled: Pixels = np.clip(np.where(weight[..., None] > 0, found, mean), 0, 255).astype(np.uint8)
    return filled


def _blurred(values: NDArray[np.float32], radius: float) -> NDArray[np.float32]:
    """Each channel of [H,W,C] blurred by a Gaussian of `radius` px."""
    blur = ImageFilter.GaussianBlur(radius)
    scale = 255.0 if values.max() <= 1.0 else 1.0
    channels = [
        Image.fromarray(np.rint(values[..., channel] * scale).astype(np.uint8)) for channel in range(values.shape[2])
    ]
    return np.stack([np.array(channel.filter(blur), dtype=np.float32) / scale for channel in channels], axis=-1)

"""An image resized, padded or cropped to the square a network is trained on."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageColor

from diffstudio.errors import RunProblem
from diffstudio.training.recipe import DataRecipe


def background_colour(data: DataRecipe) -> tuple[int, int, int]:
    """The recipe's background as 8-bit red, green and blue. RunProblem when it names no colour."""
    try:
        return ImageColor.getrgb(data.background)[:3]
    except ValueError:
        raise RunProblem(
            f"The recipe's background is {data.background!r}",
            "it is not a colour",
            "Write it like #ffffff or by an English name",
        ) from None


def resize_to_square(picture: Image.Image, size: int, background: tuple[int, int, int], fit: str) -> np.ndarray:
    """The picture in a square: uint8 [size, size, 3].

    `pad` shows the whole picture on the background, `crop` its centre square. Colours are weighted by their
    opacity while resizing, and laid on the background only then: no dark rim comes from what is invisible.
    """
    width, height = picture.size
    if fit == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        box, inner = (left, top, left + side, top + side), (size, size)
    else:
        scale = size / max(width, height)
        box, inner = (0.0, 0.0, width, height), (max(1, round(width * scale)), max(1, round(height * scale)))
    if picture.mode == "RGBA":
        picture = picture.convert("RGBa")
    resized = np.asarray(picture.resize(inner, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0))
    laid = np.empty((size, size, 3), dtype=np.uint8)
    laid[:] = background
    left_px, top_px = (size - inner[0]) // 2, (size - inner[1]) // 2
    if resized.shape[2] == 4:
        opacity = resized[..., 3:].astype(np.float32) / 255
        over = resized[..., :3] + (1 - opacity) * np.array(background, dtype=np.float32)
        resized = np.clip(np.rint(over), 0, 255).astype(np.uint8)
    laid[top_px : top_px + inner[1], left_px : left_px + inner[0]] = resized
    return laid

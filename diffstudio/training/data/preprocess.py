"""Resize, pad and crop an image to the square that a network is trained on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from diffstudio.errors import RunProblem
from diffstudio.training.recipe import DataRecipe


def background_colour(data: DataRecipe) -> tuple[int, int, int]:
    """The recipe's background as 8-bit red, green and blue. RunProblem when it is not a colour."""
    try:
        return ImageColor.getrgb(data.background)[:3]
    except ValueError:
        raise RunProblem(
            f"recipe.data.background is {data.background!r}",
            "it is not a colour",
            "Write it as #ffffff or as a CSS colour name",
        ) from None


def resize_to_square(image: Image.Image, size: int, background: tuple[int, int, int], fit: str) -> NDArray[np.uint8]:
    """The image as a square: uint8 [size, size, 3].

    `pad` fits the whole image on the background, `crop` takes its centre square. The image is resized with
    premultiplied alpha and composited on the background afterwards, so that transparent pixels leave no dark edges.
    """
    width, height = image.size
    if fit == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        box, inner = (left, top, left + side, top + side), (size, size)
    else:
        scale = size / max(width, height)
        box, inner = (0.0, 0.0, width, height), (max(1, round(width * scale)), max(1, round(height * scale)))
    if image.mode == "RGBA":
        image = image.convert("RGBa")
    resized = np.asarray(image.resize(inner, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0))
    square = np.empty((size, size, 3), dtype=np.uint8)
    square[:] = background
    left_px, top_px = (size - inner[0]) // 2, (size - inner[1]) // 2
    if resized.shape[2] == 4:
        opacity = resized[..., 3:].astype(np.float32) / 255
        over = resized[..., :3] + (1 - opacity) * np.array(background, dtype=np.float32)
        resized = np.clip(np.rint(over), 0, 255).astype(np.uint8)
    square[top_px : top_px + inner[1], left_px : left_px + inner[0]] = resized
    return square

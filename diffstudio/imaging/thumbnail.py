"""A small, upright copy of an image file."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from diffstudio.imaging.reader import read_image


def read_thumbnail(path: Path, side: int) -> Image.Image:
    """The image, at most `side` px wide and high, as RGB or RGBA. ImageProblem when it cannot be read."""
    image, _ = read_image(path, at_least=side)
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return image

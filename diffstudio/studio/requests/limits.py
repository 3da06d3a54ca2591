"""The limits of requests, and of the sizes of upscaled images."""

from __future__ import annotations

from diffstudio.errors import BadRequest
from diffstudio.imaging.limits import LARGEST_PIXELS

LONGEST_PROMPT = 10_000  # characters
LARGEST_SIDE = 8192  # px
LARGEST_SEED = 2**63 - 1  # the largest that fits both a database column and torch's generator
LARGEST_COUNT = 1024  # images in one request
LARGEST_ENLARGED = 16_384  # px a side of an enlarged image
MOST_ENLARGED = 8  # the largest upscale factor, of each side
MOST_STEPS = 1000
MOST_CLIP_SKIP = 12  # CLIP-L has as many layers
MOST_AUTOGUIDANCE = 10.0
MOST_CADS = 1.0
MOST_CONTROLS = 8  # ControlNets at once
MOST_TRUNCATION = 2  # standard deviation of the noise of a VAE or GAN
HIGHEST_THRESHOLD = 1000  # of Canny: the gradient from black to white is 1020


def too_large(width: int, height: int) -> str:
    return f"The image would be {width:,} × {height:,} px"


def enlarged_size(width: int, height: int, scale: float, multiple: int = 1) -> tuple[int, int]:
    """Width and height in px of an image enlarged `scale` times, rounded to `multiple`.

    BadRequest when that is too large.
    """
    size = tuple(max(multiple, round(scale * side / multiple) * multiple) for side in (width, height))
    if max(size) > LARGEST_ENLARGED or size[0] * size[1] > LARGEST_PIXELS:
        most = min(LARGEST_ENLARGED / max(width, height), (LARGEST_PIXELS / (width * height)) ** 0.5)
        raise BadRequest(
            too_large(*size),
            f"the limits are {LARGEST_ENLARGED:,} px a side and {LARGEST_PIXELS // 1_000_000} megapixels",
            f"Use a scale of at most {int(10 * most) / 10:g}" if most >= 1.1 else "It cannot be enlarged further",
        )
    return size[0], size[1]

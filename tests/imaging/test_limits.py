"""The size of an image that is read is where Pillow suspects a decompression bomb."""

from __future__ import annotations

from PIL import Image

from diffstudio.imaging.limits import LARGEST_PIXELS, TOO_LARGE, too_large


def test_the_limit_is_pillows() -> None:
    assert LARGEST_PIXELS == Image.MAX_IMAGE_PIXELS == (1 << 30) // 4 // 3


def test_the_message_names_the_size_and_the_limit() -> None:
    assert TOO_LARGE == "it has more than 89 megapixels, the most that are read"
    assert too_large(20_000, 5_000) == f"at 20,000 × 5,000 px {TOO_LARGE}"

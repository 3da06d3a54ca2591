"""The limits of image sizes, and the reasons why a file is not read, for all readers. No Pillow, no Qt."""

from __future__ import annotations

LARGEST_PIXELS = 89_478_485  # where Pillow suspects a decompression bomb: a quarter of a GiB as RGB
LARGEST_PIXELS_BYTES = 8 * LARGEST_PIXELS  # decoded: the largest image as RGBA of 16 bits
LARGEST_PROFILE_BYTES = 16 << 20  # of a colour profile: those of printing presses reach some 3 MiB

NOT_AN_IMAGE = "it is not an image in a supported format"
DAMAGED_HEADER = "its header is damaged"
TRUNCATED = "the file is truncated"
FIRST_FRAME = "only its first frame is used"
TOO_LARGE = f"it has more than {LARGEST_PIXELS // 1_000_000} megapixels, the most that are read"


def too_large(width: int, height: int) -> str:
    return f"at {width:,} × {height:,} px {TOO_LARGE}"


def too_many_bytes(pixel_bytes: int) -> str:
    return f"its pixels take {pixel_bytes >> 20:,} MiB, more than the {LARGEST_PIXELS_BYTES >> 20} MiB that are read"

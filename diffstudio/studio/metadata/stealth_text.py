"""Settings hidden in the lowest bits of an image's pixels ("stealth PNG info"), as NovelAI and an extension of
AUTOMATIC1111 write them.

The bits run down each column, in the alpha channel or in red, green and blue: a signature of 15 bytes, the length in
bits (32, big-endian), then UTF-8 text, gzipped where the signature says so.
"""

from __future__ import annotations

import zlib

import numpy as np
from PIL import Image

LARGEST_TEXT_BYTES = 2 << 20

_SIGNATURES = {  # signature -> whether it is in the alpha channel, whether the text is gzipped
    b"stealth_pnginfo": (True, False),
    b"stealth_pngcomp": (True, True),
    b"stealth_rgbinfo": (False, False),
    b"stealth_rgbcomp": (False, True),
}
_SIGNATURE_BYTES = 15


def stealth_text(image: Image.Image) -> str:
    """The text hidden in an image's pixels, or an empty text."""
    for alpha in (True, False):
        if alpha and image.mode != "RGBA" or not alpha and image.mode not in ("RGB", "RGBA"):
            continue
        text = _read(image, alpha)
        if text:
            return text
    return ""


def _read(image: Image.Image, alpha: bool) -> str:
    lowest = _Bits(image, alpha)
    found = _SIGNATURES.get(lowest.take(_SIGNATURE_BYTES))
    if found is None or found[0] is not alpha:
        return ""
    length = int.from_bytes(lowest.take(4), "big") // 8
    if not 0 < length <= LARGEST_TEXT_BYTES:
        return ""
    data = lowest.take(length)
    if found[1]:
        stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            data = stream.decompress(data, LARGEST_TEXT_BYTES)
        except zlib.error:
            return ""
    return data.decode("utf-8", "replace")


class _Bits:
    """The lowest bits of the pixels, column by column, a few columns at a time."""

    def __init__(self, image: Image.Image, alpha: bool) -> None:
        pixels = np.asarray(image)  # [H,W,3 or 4] uint8
        self._pixels = pixels[..., 3:] if alpha else pixels[..., :3]
        self._at = 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes; fewer at the end of the image."""
        height, _, channels = self._pixels.shape
        column_bits = height * channels
        start, stop = self._at, self._at + 8 * count
        self._at = stop
        columns = self._pixels[:, start // column_bits : -(-stop // column_bits)]
        bits = (columns & 1).transpose(1, 0, 2).reshape(-1)
        offset = start - start // column_bits * column_bits
        return np.packbits(bits[offset : offset + 8 * count]).tobytes()

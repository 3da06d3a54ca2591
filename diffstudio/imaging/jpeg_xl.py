"""JPEG XL: the header, read before anything is decoded, and the pixels, decoded by imagecodecs.

ISO/IEC 18181-1 (codestream: annexes D and E) and 18181-2 (container). imagecodecs is imported only here and where
another module needs it: it is large.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from diffstudio.imaging.colour import PRIMARIES, PROFILE_DAMAGED, Declared, declared_by_numbers, declared_by_transfer
from diffstudio.imaging.jpeg_xl_entropy import Bits
from diffstudio.imaging.jpeg_xl_profile import read_profile
from diffstudio.imaging.limits import DAMAGED_HEADER, LARGEST_PROFILE_BYTES

_CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}  # width : height
_MOST_BOXES = 1000
_GREY, _XYB, _CUSTOM = 1, 2, 2  # colour spaces; a white point or primaries given in numbers
_LINEAR_SRGB = (PRIMARIES[1], 1.0)  # what libjxl decodes lossy images with a profile to
_MOST_HEADER = LARGEST_PROFILE_BYTES + (1 << 16)  # bytes of a codestream before its first frame
_WHITE_POINTS = {1: (0.3127, 0.3290), 10: (1 / 3, 1 / 3), 11: (0.314, 0.351)}  # D65, E, DCI


class JpegXlProblem(ValueError):
    """A damaged JPEG XL file."""


@dataclass(frozen=True, slots=True)
class JpegXlHeader:
    """What a file declares. Width and height in px are those of the upright image."""

    width: int
    height: int
    animated: bool
    colours: Declared
    is_jpeg: bool  # a recompressed JPEG file, which can be restored


def read_header(data: bytes, *, with_profile: bool = True) -> JpegXlHeader:
    """The header of a JPEG XL file. JpegXlProblem when it is damaged.

    A colour profile is decompressed in Python, some 10 ms for most; without `with_profile` it is left out.
    """
    codestream, is_jpeg = _codestream(data)
    try:
        return _parsed(Bits(codestream), is_jpeg, with_profile)
    except (IndexError, KeyError) as error:
        raise JpegXlProblem(DAMAGED_HEADER) from error


def decode_pixels(data: bytes) -> NDArray[Any]:
    """The first frame [H,W] or [H,W,C], upright: uint8, uint16 over the full range, or floats from 0 to 1.

    RuntimeError when the file is damaged.
    """
    import imagecodecs

    pixels: NDArray[Any] = imagecodecs.jpegxl_decode(data, index=0)
    return pixels


def restored_jpeg(data: bytes) -> bytes:
    """The JPEG file that was recompressed without loss. RuntimeError or ValueError when that fails."""
    import imagecodecs

    return bytes(imagecodecs.jpegxl_decode_jpeg(data, numthreads=1))


def _codestream(data: bytes) -> tuple[bytes, bool]:
    """The codestream up to its first frame or further, and whether the container holds what restores a JPEG file."""
    if not data.startswith(_CONTAINER):
        return data[2:_MOST_HEADER], False
    position, found, is_jpeg = 0, b"", False
    for _ in range(_MOST_BOXES):
        head = data[position : position + 16]
        if len(head) < 8:
            break
        length, kind = struct.unpack(">I4s", head[:8])
        start = position + 8
        if length == 1 and len(head) == 16:
            length, start = struct.unpack(">Q", head[8:])[0], position + 16
        end = len(data) if length == 0 else position + length
        if end < start:
            break
        is_jpeg |= kind == b"jbrd"
        if kind in (b"jxlc", b"jxlp") and len(found) < _MOST_HEADER:
            found += data[start + (4 if kind == b"jxlp" else 0) : end]
        position = end
    if not found:
        raise JpegXlProblem("it holds no codestream")
    return found[2:_MOST_HEADER], is_jpeg


def _parsed(bits: Bits, is_jpeg: bool, with_profile: bool) -> JpegXlHeader:
    width, height = _size(bits)
    if bits.u(1):  # all defaults: 8 bits, sRGB
        return JpegXlHeader(width, height, False, Declared(), is_jpeg)
    animated = False
    has_extra_fields = bool(bits.u(1))
    if has_extra_fields:
        if bits.u(3) >= 4:  # orientation - 1: turned by a quarter
            width, height = height, width
        if bits.u(1):
            _size(bits)  # intrinsic
        if bits.u(1):
            _preview(bits)
        animated = bool(bits.u(1))
        if animated:
            bits.u32((100, 0), (1000, 0), (1, 10), (1, 30))
            bits.u32((1, 0), (1001, 0), (1, 8), (1, 10))
            bits.u32((0, 0), (0, 3), (0, 16), (0, 32))
            bits.u(1)
    _bit_depth(bits)
    bits.u(1)  # 16-bit buffers suffice
    for _ in range(bits.u32((0, 0), (1, 0), (2, 4), (1, 12))):
        _extra_channel(bits)
    is_xyb = bool(bits.u(1))
    if (colours := _colours(bits)) is None:
        colours = Declared()
        if is_xyb:
            colours = declared_by_numbers(*_LINEAR_SRGB)
        elif with_profile:
            _before_profile(bits, has_extra_fields)
            colours = _profile(bits)
    return JpegXlHeader(width, height, animated, colours, is_jpeg)


def _before_profile(bits: Bits, has_extra_fields: bool) -> None:
    """Tone mapping, extensions, and the weights for upsampling."""
    if has_extra_fields and not bits.u(1):
        bits.u(3 * 16 + 1)
    extensions = bits.u64()
    bits.u(sum(bits.u64() for place in range(64) if extensions >> place & 1))
    if not bits.u(1):
        weights = bits.u(3)
        bits.u(16 * sum(count for place, count in enumerate((15, 55, 210)) if weights >> place & 1))


def _profile(bits: Bits) -> Declared:
    try:
        return Declared(read_profile(bits))
    except (ValueError, IndexError):
        return Declared(note=PROFILE_DAMAGED)


def _size(bits: Bits) -> tuple[int, int]:
    small = bits.u(1)

    def side() -> int:
        return 8 * (1 + bits.u(5)) if small else bits.u32((1, 9), (1, 13), (1, 18), (1, 30))

    height = side()
    ratio = bits.u(3)
    if ratio == 0:
        return side(), height
    across, down = _RATIOS[ratio]
    return height * across // down, height


def _preview(bits: Bits) -> None:
    eighth = bits.u(1)

    def side() -> int:
        return (
            bits.u32((16, 0), (32, 0), (1, 5), (33, 9)) if eighth else bits.u32((1, 6), (65, 8), (321, 10), (1345, 12))
        )

    side()
    if bits.u(3) == 0:
        side()


def _bit_depth(bits: Bits) -> None:
    if bits.u(1):  # floats
        bits.u32((32, 0), (16, 0), (24, 0), (1, 6))
        bits.u(4)
    else:
        bits.u32((8, 0), (10, 0), (12, 0), (1, 6))


def _extra_channel(bits: Bits) -> None:
    if bits.u(1):  # all defaults: alpha of 8 bits
        return
    kind = bits.enum()
    _bit_depth(bits)
    bits.u32((0, 0), (3, 0), (4, 0), (1, 3))
    for _ in range(bits.u32((0, 0), (0, 4), (16, 5), (48, 10))):  # the name
        bits.u(8)
    if kind == 0:
        bits.u(1)  # premultiplied
    elif kind == 2:
        bits.u(64)  # spot colour
    elif kind == 5:
        bits.u32((1, 0), (0, 2), (3, 4), (19, 8))  # colour filter array


def _colours(bits: Bits) -> Declared | None:
    """The colour encoding of what is decoded; None for one in an ICC profile."""
    if bits.u(1):  # all defaults: sRGB
        return Declared()
    has_profile, space = bits.u(1), bits.enum()
    if has_profile:
        return None
    if space == _XYB:
        return Declared()
    name = bits.enum()
    white = _point(bits) if name == _CUSTOM else _WHITE_POINTS[name]
    primaries = PRIMARIES[1][1:]
    if space != _GREY:
        name = bits.enum()
        primaries = (_point(bits), _point(bits), _point(bits)) if name == _CUSTOM else PRIMARIES[name][1:]
    if bits.u(1):
        return declared_by_numbers((white, *primaries), 1e7 / max(1, bits.u(24)))
    return declared_by_transfer((white, *primaries), bits.enum())


def _point(bits: Bits) -> tuple[float, float]:
    """Chromaticity x, y."""
    x, y = (bits.u32((0, 19), (524_288, 19), (1_048_576, 20), (2_097_152, 21)) for _ in range(2))
    return _signed(x) / 1e6, _signed(y) / 1e6


def _signed(value: int) -> int:
    return -(value + 1) // 2 if value & 1 else value // 2

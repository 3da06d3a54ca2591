"""Pixels of more than 8 bits a channel, which Pillow reads in part only: 16-bit PNG, and TIFF of any depth.

Pillow cuts RGB of 16 bits down to 8 and refuses RGB of floats, so imagecodecs and tifffile read these. Both are
imported only when such a file is opened.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from diffstudio.imaging.limits import (
    LARGEST_PIXELS,
    LARGEST_PIXELS_BYTES,
    TOO_LARGE,
    TRUNCATED,
    too_large,
    too_many_bytes,
)
from diffstudio.imaging.value_range import Range, Values, to_bits
from diffstudio.plurals import count_of

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffFrame, TiffPage

_ICC_PROFILE, _ORIENTATION = 34675, 274  # tags of TIFF
_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB = 0, 1, 2  # values of the tag PhotometricInterpretation
_OTHER_COLOURS = {3: "palette indices", 5: "CMYK", 6: "YCbCr", 8: "CIE L*a*b*", 9: "ICC L*a*b*", 10: "ITU L*a*b*"}
_ASSOCIATED_ALPHA, _UNASSOCIATED_ALPHA = 1, 2  # values of the tag ExtraSamples; 0 is data of any other kind


class SamplesProblem(ValueError):
    """Pixels that cannot be read. The message is a clause for people."""


@dataclass(frozen=True, slots=True)
class Samples:
    """The pixels of one image, before a range of values is chosen."""

    values: Values  # [H,W] grey or [H,W,3] RGB
    alpha: NDArray[np.uint8] | None = None  # [H,W]
    declared: Range | None = None
    profile: bytes | None = None
    orientation: int = 1


def split(
    pixels: NDArray[Any], declared: Range | None = None, *, has_alpha: bool = True, premultiplied: bool = False
) -> Samples:
    """Grey [H,W] or [H,W,C] as colours and opacity: of two or four channels the last is alpha, or ignored if not
    `has_alpha`.

    `declared` is the range of all channels. `premultiplied` colours are divided by alpha. SamplesProblem for more than
    four channels.
    """
    if pixels.ndim == 2:
        return Samples(pixels, None, declared)
    channels = pixels.shape[2]
    if channels not in (1, 2, 3, 4):
        raise SamplesProblem(f"it has {channels} channels; images have up to four")
    colours = pixels[..., : 3 if channels > 2 else 1]
    alpha = None
    if channels in (2, 4) and has_alpha:
        opaque = float(np.iinfo(pixels.dtype).max) if pixels.dtype.kind in "iu" else 1.0
        if declared is not None:
            opaque = declared[1]
        if premultiplied:
            colours = _divided(colours, pixels[..., -1], opaque)
        alpha = to_bits(pixels[..., -1], (0.0, opaque), 255).astype(np.uint8)
    return Samples(colours[..., 0] if colours.shape[2] == 1 else colours, alpha, declared)


def _divided(colours: NDArray[Any], alpha: NDArray[Any], opaque: float) -> NDArray[Any]:
    """Premultiplied colours [H,W,C] divided by alpha [H,W] / `opaque`; 0 where alpha is 0."""
    factor = np.divide(opaque, alpha, out=np.zeros(alpha.shape, np.float32), where=alpha > 0)
    divided = np.empty_like(colours)
    for channel in range(colours.shape[2]):  # one at a time, so that no float copy of the whole image is made
        exact = colours[..., channel] * factor
        divided[..., channel] = exact if colours.dtype.kind == "f" else np.rint(np.clip(exact, 0, opaque))
    return divided


def read_png(file: BinaryIO, transparent: int | tuple[int, ...] | None) -> Samples:
    """A PNG of 16 bits a channel; `transparent` is its tRNS chunk, a value or three. RuntimeError when damaged."""
    import imagecodecs

    file.seek(0)
    samples = split(imagecodecs.png_decode(file.read()))
    if transparent is None or samples.alpha is not None:
        return samples
    equal = samples.values == np.asarray(transparent, dtype=samples.values.dtype)
    clear = equal if samples.values.ndim == 2 else equal.all(axis=2)
    return Samples(samples.values, np.where(clear, 0, 255).astype(np.uint8))


def opened_tiff(file: BinaryIO) -> TiffFile:
    """A TIFF file with nothing decoded yet."""
    from tifffile import TiffFile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # damage is reported by what it does to the pixels
    file.seek(0)
    return TiffFile(file)


def tiff_size(file: BinaryIO) -> tuple[int, int]:
    """Stored width and height in px, from the header."""
    with opened_tiff(file) as tiff:
        page = tiff.pages.first
        return page.imagewidth, page.imagelength


def tiff_pages(file: BinaryIO) -> int:
    with opened_tiff(file) as tiff:
        return len(tiff.pages)


def check_page(page: TiffPage, file: BinaryIO) -> None:
    """Check what a page declares before it is decoded.

    SamplesProblem when it is too large, cut short, or its values are not grey, RGB, or other numbers.
    """
    if page.imagewidth * page.imagelength > LARGEST_PIXELS:
        raise SamplesProblem(too_large(page.imagewidth, page.imagelength))
    if page.tilewidth * page.tilelength > LARGEST_PIXELS:
        raise SamplesProblem(TOO_LARGE)
    if page.dtype is None or page.dtype.kind not in "iuf":
        raise SamplesProblem(_unsupported(page))
    if page.photometric not in (_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB):
        colours = _OTHER_COLOURS.get(page.photometric, f"PhotometricInterpretation {int(page.photometric)}")
        raise SamplesProblem(f"it stores {colours} in {page.dtype}, which is not supported")
    pixel_bytes = page.imagewidth * page.imagelength * page.samplesperpixel * page.dtype.itemsize
    if pixel_bytes > LARGEST_PIXELS_BYTES:
        raise SamplesProblem(too_many_bytes(pixel_bytes))
    check_complete(page, file)


def check_complete(page: TiffPage | TiffFrame, file: BinaryIO) -> None:
    """SamplesProblem when a part of the page's data is missing, which would become black."""
    file_bytes = file.seek(0, os.SEEK_END)
    ends = [start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=False)]
    if not ends or max(ends) > file_bytes or 0 in page.databytecounts:
        raise SamplesProblem(TRUNCATED)


def has_alpha(page: TiffPage) -> bool:
    return _ASSOCIATED_ALPHA in page.extrasamples or _UNASSOCIATED_ALPHA in page.extrasamples


def _unsupported(page: TiffPage) -> str:
    return f"it has {count_of(page.samplesperpixel, 'channel')} of {page.dtype}, which is not supported"


def read_tiff(file: BinaryIO) -> Samples:
    """The first page of a TIFF.

    SamplesProblem when it is too large, cut short, or holds no grey or RGB image of one to four channels.
    """
    with opened_tiff(file) as tiff:
        page = tiff.pages.first
        if page.samplesperpixel > 4 or page.imagedepth > 1:
            raise SamplesProblem(_unsupported(page))
        check_page(page, file)
        pixels = page.asarray()
        if page.axes.startswith("S"):  # one plane after the other
            pixels = np.moveaxis(pixels, 0, -1)
        declared = (0.0, 2.0**page.bitspersample - 1) if 8 < page.bitspersample < 16 else None
        samples = split(
            pixels, declared, has_alpha=has_alpha(page), premultiplied=_ASSOCIATED_ALPHA in page.extrasamples
        )
        values = samples.values
        if page.photometric == _MIN_IS_WHITE and values.dtype.kind == "u":
            values = np.asarray((declared[1] if declared else np.iinfo(values.dtype).max) - values, values.dtype)
        profile, orientation = (page.tags.valueof(tag) for tag in (_ICC_PROFILE, _ORIENTATION))
        return Samples(values, samples.alpha, declared, profile or None, int(orientation) if orientation else 1)

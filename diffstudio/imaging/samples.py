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

from diffstudio.imaging.limits import LARGEST_PIXELS, LARGEST_PIXELS_BYTES, TOO_LARGE, TRUNCATED, too_large
from diffstudio.imaging.value_range import Range, Values, to_bits

if TYPE_CHECKING:
    from tifffile import TiffFile

_ICC_PROFILE, _ORIENTATION = 34675, 274  # tags of TIFF
_MIN_IS_WHITE = 0


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


def split(pixels: NDArray[Any], declared: Range | None = None, *, has_alpha: bool | None = None) -> Samples:
    """Grey [H,W] or [H,W,C] as colours and opacity: of two or four channels, the last is the opacity.

    SamplesProblem for another number of channels.
    """
    if pixels.ndim == 2:
        return Samples(pixels, None, declared)
    channels = pixels.shape[2]
    if channels not in (1, 2, 3, 4):
        raise SamplesProblem(f"it has {channels} channels; images have up to four")
    colours = pixels[..., : 3 if channels > 2 else 1]
    alpha = None
    if channels in (2, 4) and has_alpha is not False:
        opaque = float(np.iinfo(pixels.dtype).max) if pixels.dtype.kind in "iu" else 1.0
        alpha = to_bits(pixels[..., -1], (0.0, opaque), 255).astype(np.uint8)
    return Samples(colours[..., 0] if colours.shape[2] == 1 else colours, alpha, declared)


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


def _opened(file: BinaryIO) -> TiffFile:
    from tifffile import TiffFile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # damage is reported by what it does to the pixels
    file.seek(0)
    return TiffFile(file)


def tiff_size(file: BinaryIO) -> tuple[int, int]:
    """Stored width and height in px, from the header."""
    with _opened(file) as tiff:
        page = tiff.pages.first
        return page.imagewidth, page.imagelength


def read_tiff(file: BinaryIO) -> Samples:
    """The first page of a TIFF.

    SamplesProblem when it is too large, cut short, or holds no image of one to four channels.
    """
    with _opened(file) as tiff:
        page = tiff.pages.first
        if page.imagewidth * page.imagelength > LARGEST_PIXELS:
            raise SamplesProblem(too_large(page.imagewidth, page.imagelength))
        if page.tilewidth * page.tilelength > LARGEST_PIXELS:
            raise SamplesProblem(TOO_LARGE)
        if page.samplesperpixel > 4 or page.imagedepth > 1 or page.dtype is None or page.dtype.kind not in "iuf":
            raise SamplesProblem(f"it has {page.samplesperpixel} channels of {page.dtype}, which is not supported")
        pixel_bytes = page.imagewidth * page.imagelength * page.samplesperpixel * page.dtype.itemsize
        if pixel_bytes > LARGEST_PIXELS_BYTES:
            raise SamplesProblem(
                f"its pixels take {pixel_bytes >> 20:,} MiB, more than the {LARGEST_PIXELS_BYTES >> 20} MiB that are read"
            )
        file_bytes = file.seek(0, os.SEEK_END)
        ends = [start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=False)]
        if not ends or max(ends) > file_bytes or 0 in page.databytecounts:  # else what is missing would become black
            raise SamplesProblem(TRUNCATED)
        pixels = page.asarray()
        if page.axes.startswith("S"):  # one plane after the other
            pixels = np.moveaxis(pixels, 0, -1)
        declared = (0.0, 2.0**page.bitspersample - 1) if 8 < page.bitspersample < 16 else None
        if page.photometric == _MIN_IS_WHITE and pixels.dtype.kind == "u":
            pixels = np.asarray((declared[1] if declared else np.iinfo(pixels.dtype).max) - pixels, pixels.dtype)
        samples = split(pixels, declared, has_alpha=bool(page.extrasamples))
        profile, orientation = (page.tags.valueof(tag) for tag in (_ICC_PROFILE, _ORIENTATION))
        return Samples(samples.values, samples.alpha, declared, profile or None, int(orientation) if orientation else 1)

"""Arrays of any number of channels [H,W,C]: `.npy` files, and TIFF files whose channels are not those of an image.

Nothing is decoded before its size is checked, and no pickle is ever read: a `.npy` file is parsed here, by
https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html, from the header to the last value.
"""

from __future__ import annotations

import math
import os
import tokenize
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from diffstudio.imaging.limits import (
    DAMAGED_HEADER,
    FIRST_FRAME,
    LARGEST_PIXELS,
    LARGEST_PIXELS_BYTES,
    TRUNCATED,
    too_large,
    too_many_bytes,
)
from diffstudio.imaging.samples import SamplesProblem, check_complete, check_page, has_alpha, opened_tiff
from diffstudio.plurals import count_of

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries

MOST_CHANNELS = 64
_LONGEST_HEADER = 10_000  # characters: numpy's own limit, above which parsing may be slow
_DAMAGE = (  # of a header, as numpy and Python's parser report it
    *(ValueError, KeyError, TypeError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError, OverflowError),
)
_SAMPLES = "S"
_FRAMES = "TZIRHPAVEMU"  # axes of tifffile along which images follow each other, rather than channels


@dataclass(frozen=True, slots=True)
class ChannelArray:
    """The values of one file, before ranges are chosen."""

    values: NDArray[Any]  # [H,W,C] in native byte order: uint8, uint16, other whole numbers or floats
    notes: tuple[str, ...] = ()  # what was decided, a clause each

    @property
    def channels(self) -> int:
        return int(self.values.shape[2])


def npy_size(file: BinaryIO) -> tuple[int, int]:
    """Width and height in px, from the header. SamplesProblem as `read_npy`."""
    shape, _, _ = _npy_header(file)
    height, width, _ = _layout(shape)
    return width, height


def read_npy(file: BinaryIO) -> ChannelArray:
    """The array [H,W], [H,W,C] or [C,H,W] of a `.npy` file.

    Of the first and the last axis the shorter one has the channels. SamplesProblem for objects (which would be a pickle),
    complex numbers and records, for other shapes, and for a file that is too large or shorter than it declares.
    """
    shape, fortran_order, dtype = _npy_header(file)
    height, width, channels = _layout(shape)
    _check_size(width, height, channels, dtype.itemsize)
    count = height * width * channels
    start = file.tell()
    if file.seek(0, os.SEEK_END) - start < count * dtype.itemsize:
        raise SamplesProblem(TRUNCATED)
    file.seek(start)
    values = np.frombuffer(file.read(count * dtype.itemsize), dtype)
    values = values.reshape(shape[::-1]).T if fortran_order else values.reshape(shape)
    if len(shape) == 2:
        values = values[..., None]
    elif shape != (height, width, channels):
        values = np.moveaxis(values, 0, -1)
    return ChannelArray(_plain(values))


def _npy_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type of the values; the file's position is then at the first value."""
    file.seek(0)
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape, fortran_order, dtype = read(file, max_header_size=_LONGEST_HEADER)
    except _DAMAGE as error:
        raise SamplesProblem(DAMAGED_HEADER) from error
    if dtype.hasobject:
        raise SamplesProblem("it holds Python objects (a pickle), which are never read")
    if dtype.kind not in "buif" or dtype.shape:
        raise SamplesProblem(f"it holds {dtype}, not whole numbers or floats")
    return shape, fortran_order, dtype


def _layout(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and number of channels of an array of this shape. SamplesProblem."""
    if len(shape) == 2 and min(shape) > 0:
        return shape[0], shape[1], 1
    if len(shape) == 3 and min(shape) > 0 and min(shape[0], shape[2]) <= MOST_CHANNELS:
        first = shape[0] < shape[2]
        return (shape[1], shape[2], shape[0]) if first else (shape[0], shape[1], shape[2])
    sides = " × ".join(f"{side:,}" for side in shape[:6]) or "a single number"
    raise SamplesProblem(f"its shape is {sides}: an image has two axes, or three with at most {MOST_CHANNELS} channels")


def _check_size(width: int, height: int, channels: int, value_bytes: int) -> None:
    if width * height > LARGEST_PIXELS:
        raise SamplesProblem(too_large(width, height))
    if (total := width * height * channels * value_bytes) > LARGEST_PIXELS_BYTES:
        raise SamplesProblem(too_many_bytes(total))


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    """The same values in native byte order, one after another; True as white, longer floats as float64."""
    if values.dtype.kind == "b":
        return np.ascontiguousarray(values).astype(np.uint8) * np.uint8(255)
    if values.dtype.kind == "f" and values.dtype.itemsize > 8:
        return np.ascontiguousarray(values, np.float64)
    return np.ascontiguousarray(values, values.dtype.newbyteorder("="))


def tiff_channels_size(file: BinaryIO) -> tuple[int, int] | None:
    """Width and height in px of what `read_tiff_channels` reads, from the header."""
    with opened_tiff(file) as tiff:
        if (axes := _channel_axes(tiff)) is None:
            return None
        page, shape = tiff.pages.first, tiff.series[0].shape
        if axes == _SAMPLES:
            return page.imagewidth, page.imagelength
        return shape[axes.index("X")], shape[axes.index("Y")]


def tiff_channel_count(file: BinaryIO) -> int:
    """The number of channels that `read_tiff_channels` reads, from the header; 0 for an image."""
    with opened_tiff(file) as tiff:
        axes = _channel_axes(tiff)
        if axes is None:
            return 0
        count = tiff.pages.first.samplesperpixel if axes == _SAMPLES else tiff.series[0].shape[axes.index("C")]
        return int(count)


def read_tiff_channels(file: BinaryIO) -> ChannelArray | None:
    """The channels of a TIFF that is not a grey or RGB image: more samples than those have, or channels in its pages.

    None for an image. Of a series over time or depth the first frame. SamplesProblem as `samples.read_tiff`.
    """
    with opened_tiff(file) as tiff:
        axes = _channel_axes(tiff)
        if axes is None:
            return None
        page, series = tiff.pages.first, tiff.series[0]
        if axes == _SAMPLES:
            if page.samplesperpixel > MOST_CHANNELS or page.imagedepth > 1:
                raise SamplesProblem(f"it has {page.samplesperpixel:,} channels; at most {MOST_CHANNELS} are read")
            check_page(page, file)
            values = page.asarray()
            notes = (FIRST_FRAME,) if len(tiff.pages) > 1 else ()
            return ChannelArray(_plain(np.moveaxis(values, 0, -1) if page.axes.startswith("S") else values), notes)
        values = _series_values(series, file)[tuple(slice(None) if axis in "CYX" else 0 for axis in axes)]
        kept = "".join(axis for axis in axes if axis in "CYX")
        values = np.transpose(values, [kept.index(axis) for axis in "YXC"])
        frames = math.prod(side for side, axis in zip(series.shape, axes, strict=True) if axis not in "CYX")
        return ChannelArray(
            _plain(values),
            ((FIRST_FRAME,) if frames > 1 else ()) + (f"its pages are read as {count_of(values.shape[2], 'channel')}",),
        )


def _channel_axes(tiff: TiffFile) -> str | None:
    """Where the channels of a TIFF are: _SAMPLES, or the axes of its pages with one `C`; None for an image.

    Pages are channels where ImageJ's, OME's or tifffile's own metadata say so.
    """
    page = tiff.pages.first
    if page.samplesperpixel > 1:
        grey = page.photometric in (0, 1)
        return _SAMPLES if page.samplesperpixel > 4 or (grey and not has_alpha(page)) else None
    if len(tiff.pages) < 2:
        shaped = tiff.shaped_metadata
        if shaped and math.prod(shaped[0]["shape"]) > page.size:
            raise SamplesProblem(TRUNCATED)
        return None
    series = tiff.series[0]
    axes, shape = series.axes, series.shape
    if series.kind == "shaped" and axes == "QYX":  # an array [C,H,W], or [H,W,C]
        axes = "YXC" if shape[2] < shape[0] and shape[2] <= MOST_CHANNELS else "CYX"
    if axes.count("C") != 1 or any(axis not in _FRAMES + "CYX" for axis in axes):
        return None
    return axes if 1 < shape[axes.index("C")] <= MOST_CHANNELS else None


def _series_values(series: TiffPageSeries, file: BinaryIO) -> NDArray[Any]:
    check_page(series.keyframe, file)
    total = math.prod(series.shape) * np.dtype(series.dtype).itemsize
    if total > LARGEST_PIXELS_BYTES:
        raise SamplesProblem(too_many_bytes(total))
    for page in (page for page in series.pages if page is not None):  # None lies right behind the page before
        check_complete(page, file)
    values: NDArray[Any] = series.asarray()
    return values

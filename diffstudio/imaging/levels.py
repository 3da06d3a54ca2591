"""Image files as levels for training: [H,W,C] of 8 or 16 bits, with the channels that a network is trained on.

A file of n channels that is not an image keeps them as they are, each with a range of its own. Values beyond a range
are cut to it. Colours: see `colour`; ranges of images: see `value_range`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffstudio.imaging import colour
from diffstudio.imaging.arrays import ChannelArray
from diffstudio.imaging.decoding import decoded_file
from diffstudio.imaging.samples import Samples, SamplesProblem
from diffstudio.imaging.value_range import Depth, Range, SampleType, chosen_range, measure, range_of_file, to_bits
from diffstudio.plurals import count_of

Levels: TypeAlias = NDArray[Any]  # uint8 or uint16

GREY_TOLERANCE = 2  # of 255: conversions of grey by a colour profile differ by as much between channels
_FILLED = 0.5
_WIDE = 4.0  # a range this many times wider than that of most values is that of a few outliers


@dataclass(frozen=True, slots=True)
class PixelForm:
    """What every file of a folder becomes for a network."""

    channels: int = 3  # 1: grey, 3: RGB, others: those of arrays; with `alpha` one more, which is the last
    bits: int = 8  # of each value: 8 or 16
    alpha: bool = False
    ranges: Mapping[SampleType, Range] = field(default_factory=dict)  # of images of more than 8 bits a channel
    channel_ranges: tuple[Range, ...] = ()  # of arrays of other numbers of channels, one each

    @property
    def colours(self) -> int:
        """The channels without opacity."""
        return self.channels - self.alpha

    @property
    def is_image(self) -> bool:
        """Whether it is grey or RGB; otherwise an array."""
        return self.colours in (1, 3)

    @property
    def largest(self) -> int:
        """The highest level."""
        return 255 if self.bits == 8 else 65535


@dataclass(frozen=True, slots=True)
class LoadedLevels:
    """One file, upright."""

    values: Levels  # [H,W,colours]
    alpha: Levels | None = None  # [H,W]; None where every pixel is opaque


def load_levels(path: Path, form: PixelForm, *, at_least: int | None = None) -> LoadedLevels:
    """The first frame of a file in this form. ImageProblem as `load_image`, and for another number of channels.

    With `at_least`, a large image comes reduced by a whole factor, with each side still that many px or more.
    """
    with decoded_file(path, at_least) as decoded:
        pixels = decoded.pixels
        if isinstance(pixels, ChannelArray):
            values, alpha = _of_array(pixels, form), None
        elif not form.is_image:
            raise SamplesProblem(f"it is an image, not an array of {count_of(form.channels, 'channel')}")
        elif isinstance(pixels, Samples):
            values, alpha = _of_samples(pixels, decoded.profile, form)
        else:
            values, alpha = _of_image(pixels, decoded.profile, form)
        factor = min(values.shape[:2]) // at_least if at_least else 1
        if factor > 1:
            values, alpha = _reduced(values, alpha, factor)
        upright_alpha = None if alpha is None else _upright(alpha, decoded.orientation)
        return LoadedLevels(_upright(values, decoded.orientation), upright_alpha)


def is_grey(image: Image.Image) -> bool:
    """Whether red, green and blue of an RGB or RGBA image are equal, up to GREY_TOLERANCE, wherever it is not clear."""
    pixels = np.asarray(image)
    colours = pixels[..., :3].astype(np.int16)
    spread = colours.max(axis=2) - colours.min(axis=2)
    if pixels.shape[2] == 4:
        spread = spread[pixels[..., 3] > 0]
    return int(spread.max(initial=0)) <= GREY_TOLERANCE


def ranges_of_channels(files: Sequence[Sequence[Depth]]) -> tuple[Range, ...]:
    """One range for each channel, over all arrays of a folder: [files][channels] -> [channels].

    Whole numbers without a sign: for all channels from 0 to the largest value of 8, 10, 12, 14 or 16 bits, so that they
    can be compared. Floats: 0 to 1, -1 to 1 or 0 to 255, where they fit and fill at least half of it. All else is stretched
    from its lowest to its highest value or, if a few outliers make that more than four times wider, from the median of the files'
    0.1 percentiles to that of their 99.9 percentiles.
    """
    every = [depth for file in files for depth in file]
    low, high = min(depth.low for depth in every), max(depth.high for depth in every)
    channels = list(zip(*files, strict=True))
    if all(depth.sample_type is not SampleType.FLOAT for depth in every) and low >= 0 and high <= 65535:
        used = 0.0, next(float(2**bits - 1) for bits in (8, 10, 12, 14, 16) if high <= 2**bits - 1)
        return (used,) * len(channels)
    return tuple(_range_of_channel(depths) for depths in channels)


def _range_of_channel(depths: Sequence[Depth]) -> Range:
    low, high = min(depth.low for depth in depths), max(depth.high for depth in depths)
    if any(depth.sample_type is SampleType.FLOAT for depth in depths):
        usual = range_of_file(Depth(SampleType.FLOAT, low, high))
        if usual != (low, high) and high - low >= _FILLED * (usual[1] - usual[0]):
            return usual
    inner_low, inner_high = (float(np.median([depth.inner[end] for depth in depths])) for end in (0, 1))
    if inner_high > inner_low and high - low > _WIDE * (inner_high - inner_low):
        return inner_low, inner_high
    return (low, high) if high > low else (low, low + 1.0)


def _of_array(array: ChannelArray, form: PixelForm) -> Levels:
    if array.channels != form.colours or form.alpha:
        raise SamplesProblem(f"it has {count_of(array.channels, 'channel')}, not {form.channels}")
    if form.is_image:
        ranges = (chosen_range(measure(array.values, eight_bits(array)), form.ranges),) * array.channels
    else:
        ranges = form.channel_ranges
    planes = [to_bits(array.values[..., index], used, form.largest) for index, used in enumerate(ranges)]
    return _typed(np.stack(planes, axis=-1), form)


def eight_bits(array: ChannelArray) -> Range | None:
    """The range that an array of 8 bits declares by its type."""
    return (0.0, 255.0) if array.values.dtype == np.uint8 else None


def _of_samples(found: Samples, profile: bytes | None, form: PixelForm) -> tuple[Levels, Levels | None]:
    used = chosen_range(measure(found.values, found.declared), form.ranges)
    if form.bits == 8 and not profile:
        return _with_colours(to_bits(found.values, used, 255).astype(np.uint8), form), _not_opaque(found.alpha)
    values = to_bits(found.values, used, 65535)
    if profile:
        with suppress(colour.ProfileProblem):  # the inspection names it, as what `load_image` could not follow
            values = colour.deep_to_deep_srgb(values, profile)
    alpha = _not_opaque(found.alpha)
    if form.bits == 8:
        values8 = np.rint(values / np.float32(257)).astype(np.uint8)
        return _with_colours(values8, form), alpha
    return _with_colours(values, form), None if alpha is None else alpha.astype(np.uint16) * np.uint16(257)


def _not_opaque(alpha: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
    return None if alpha is None or int(alpha.min(initial=255)) == 255 else alpha


def _of_image(image: Image.Image, profile: bytes | None, form: PixelForm) -> tuple[Levels, Levels | None]:
    converted, _ = colour.to_srgb(image, profile)
    pixels = np.asarray(converted)
    alpha: Levels | None = pixels[..., 3] if pixels.shape[2] == 4 else None
    values: Levels = pixels[..., :3]
    if form.bits == 16:
        values = values.astype(np.uint16) * np.uint16(257)
        alpha = None if alpha is None else alpha.astype(np.uint16) * np.uint16(257)
    return _with_colours(values, form), alpha


def _with_colours(values: Levels, form: PixelForm) -> Levels:
    """Grey [H,W] or RGB [H,W,3] as [H,W,colours]; RGB becomes grey by ITU-R BT.601, as Pillow converts it."""
    if values.ndim == 2:
        return np.repeat(values[..., None], form.colours, axis=2)
    if form.colours == 3:
        return values
    red, green, blue = (values[..., index].astype(np.uint64) for index in range(3))
    grey = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
    return _typed(grey[..., None], form)


def _typed(values: NDArray[Any], form: PixelForm) -> Levels:
    return values.astype(np.uint8 if form.bits == 8 else np.uint16)


def _reduced(values: Levels, alpha: Levels | None, factor: int) -> tuple[Levels, Levels | None]:
    """Means over squares of `factor` px, weighted by opacity."""
    weight = None if alpha is None else alpha.astype(np.float32)
    planes = []
    for index in range(values.shape[2]):
        plane = values[..., index].astype(np.float32)
        if weight is None:
            planes.append(_means(plane, factor))
        else:
            total = _means(weight, factor)
            planes.append(np.divide(_means(plane * weight, factor), total, out=np.zeros_like(total), where=total > 0))
    smaller = np.rint(np.stack(planes, axis=-1)).astype(values.dtype)
    return smaller, None if weight is None else np.rint(_means(weight, factor)).astype(values.dtype)


def _upright(values: Levels, orientation: int) -> Levels:
    """[H,W] or [H,W,C] as the EXIF orientation, 1 to 8, says."""
    if orientation in (5, 6, 7, 8):
        values = np.swapaxes(values, 0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return np.ascontiguousarray(values)


def _means(plane: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(plane).reduce(factor))

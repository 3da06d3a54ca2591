"""Read an image file, whatever it holds: any format, orientation, colour profile and bit depth becomes upright sRGB.

No torch. What is read without trust: see `decoding`. Colours: see `colour`; more than 8 bits a channel: see
`value_range`. Training reads the same files as arrays of any number of channels: see `levels`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from diffstudio.imaging import arrays, colour, jpeg_xl, samples
from diffstudio.imaging.arrays import ChannelArray
from diffstudio.imaging.decoding import (
    Decoded,
    check_file,
    decoded_file,
    decoded_image,
    may_be_array,
    open_with_pillow,
    upright_size,
)
from diffstudio.imaging.formats import JPEG_XL, NPY, format_of
from diffstudio.imaging.problems import image_errors
from diffstudio.imaging.samples import Samples
from diffstudio.imaging.value_range import Depth, Range, SampleType, chosen_range, measure, measure_channel, to_bits

Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
_EIGHT_BITS = (0.0, 255.0)  # declared by arrays of that type
NO_RANGES: Mapping[SampleType, Range] = {}

_UPRIGHT = {  # EXIF orientation -> what turns the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """An image file as pixels."""

    image: Image.Image  # RGB, or RGBA if a pixel is transparent; sRGB, upright
    size: tuple[int, int]  # full width and height in px
    notes: tuple[str, ...] = ()  # what could not be followed, a clause each
    depth: Depth | None = None  # of more than 8 bits a channel
    channels: tuple[Depth, ...] = ()  # of an array: the values of each of its channels
    shown: str = ""  # the one of the notes that says which of its channels the image shows


def load_image(
    path: Path, *, at_least: int | None = None, ranges: Mapping[SampleType, Range] = NO_RANGES
) -> LoadedImage:
    """The first frame of an image file, as sRGB.

    With `at_least`, a large image comes reduced by a whole factor, with each side still that many px or more. `ranges`
    are those of the folder that the file is in, for more than 8 bits a channel. ImageProblem, whose `why` is a clause
    for people, when the file cannot be read as a whole.
    """
    with decoded_file(path, at_least) as decoded:
        return _finished(decoded, at_least, ranges)


def read_image(path: Path, *, at_least: int | None = None) -> tuple[Image.Image, tuple[int, int]]:
    """The pixels of `load_image`, and the full width and height in px."""
    loaded = load_image(path, at_least=at_least)
    return loaded.image, loaded.size


def image_notes(path: Path) -> tuple[str, ...]:
    """What of an image file cannot be followed, a sentence each. ImageProblem as `load_image`."""
    return tuple(f"{path.name}: {note}." for note in load_image(path, at_least=1).notes)


def read_image_bytes(data: bytes, name: str, *, at_least: int | None = None) -> Image.Image:
    """An image that is part of another file, as `load_image`; `name` is what an ImageProblem calls it."""
    with image_errors(Path(name)), decoded_image(io.BytesIO(data), Path(name), at_least) as decoded:
        return _finished(decoded, at_least, NO_RANGES).image


def read_size(path: Path) -> tuple[int, int]:
    """Width and height in px of the upright image, from its header. ImageProblem if it has no size."""
    with image_errors(path):
        check_file(path)
        with path.open("rb") as file:
            head = file.read(32)
            if format_of(head) == JPEG_XL:
                file.seek(0)
                header = jpeg_xl.read_header(file.read(), with_profile=False)
                return header.width, header.height
            if format_of(head) == NPY:
                return arrays.npy_size(file)
            try:
                with open_with_pillow(file, head, path) as image:
                    return (may_be_array(image) and arrays.tiff_channels_size(file)) or upright_size(image)
            except UnidentifiedImageError:
                if format_of(head) != "TIFF":
                    raise
                return arrays.tiff_channels_size(file) or samples.tiff_size(file)


def read_rgb(path: Path, background: Colour = WHITE) -> Image.Image:
    """The first frame, upright, as RGB, with transparency laid on `background`. ImageProblem as `load_image`."""
    return flatten(load_image(path).image, background)


def flatten(image: Image.Image, background: Colour = WHITE) -> Image.Image:
    """An RGB or RGBA image as RGB, with transparency laid on `background`."""
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*background, 255)), image)
    return image.convert("RGB")


# ---- from stored pixels to sRGB --------------------------------------------------------------------------------------


def _finished(decoded: Decoded, at_least: int | None, ranges: Mapping[SampleType, Range]) -> LoadedImage:
    depth, notes, channels, shown = None, list(decoded.notes), tuple[Depth, ...](), ""
    if isinstance(decoded.pixels, Image.Image):
        image, note = colour.to_srgb(_reduced(decoded.pixels, at_least), decoded.profile)
    else:
        found, values = decoded.pixels, decoded.pixels.values.size
        if isinstance(found, ChannelArray):
            channels = tuple(measure_channel(found.values[..., index]) for index in range(found.channels))
            found, shown = _shown(found)
        image, note, depth = _from_samples(found, decoded.profile, ranges)
        image = _reduced(image, at_least)
        not_numbers = sum(channel.not_numbers for channel in channels) or depth.not_numbers
        if not_numbers == values:
            raise samples.SamplesProblem("none of its values is a finite number")
        if not_numbers:
            notes.append(f"{not_numbers:,} of its values are not finite numbers and are black")
        if found.declared == _EIGHT_BITS:
            depth = None
    notes += filter(None, (note, shown))
    if decoded.orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[decoded.orientation])
    image.info = {}  # a profile in it would be written into copies
    return LoadedImage(image, decoded.size, tuple(notes), depth, channels, shown)


def _shown(array: ChannelArray) -> tuple[Samples, str]:
    """The first channels of an array as a grey or RGB image; and what that leaves out, where it does."""
    bits = _EIGHT_BITS if array.values.dtype == np.uint8 else None
    if array.channels < 3:
        note = "it has 2 channels, of which the first is shown" if array.channels == 2 else ""
        return Samples(array.values[..., 0], declared=bits), note
    note = f"it has {array.channels} channels, of which the first three are shown" if array.channels > 3 else ""
    return Samples(array.values[..., :3], declared=bits), note


def _from_samples(
    found: Samples, profile: bytes | None, ranges: Mapping[SampleType, Range]
) -> tuple[Image.Image, str, Depth]:
    depth = measure(found.values, found.declared)
    used = chosen_range(depth, ranges)
    note = ""
    rgb: NDArray[np.uint8] | None = None
    if profile and found.values.ndim == 3:  # converted before it is rounded to 8 bits
        try:
            rgb = colour.deep_to_srgb(to_bits(found.values, used, 65535), profile)
        except colour.ProfileProblem as problem:
            note = str(problem)
        profile = None
    if rgb is None:
        rgb = to_bits(found.values, used, 255).astype(np.uint8)
    image, grey_note = colour.to_srgb(Image.fromarray(rgb), profile)
    if found.alpha is not None and int(found.alpha.min(initial=255)) < 255:
        image.putalpha(Image.fromarray(found.alpha))
    return image, note or grey_note, depth


def _reduced(image: Image.Image, at_least: int | None) -> Image.Image:
    factor = min(image.size) // at_least if at_least else 1
    return image.reduce(factor) if factor > 1 else image  # means over squares, weighted by opacity

"""From an image file to its stored pixels: every size is checked before anything is decoded.

No trust: a file may lie about its size, end half-way, or be something else altogether.
"""

from __future__ import annotations

import contextlib
import io
import shlex
import stat
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from diffstudio.errors import NOT_A_PLAIN_FILE
from diffstudio.imaging import arrays, colour, jpeg_xl, samples
from diffstudio.imaging.arrays import ChannelArray
from diffstudio.imaging.formats import HEIF, JPEG_XL, NPY, SUFFIXES_OF, format_of
from diffstudio.imaging.limits import FIRST_FRAME, LARGEST_PIXELS, too_large
from diffstudio.imaging.problems import image_errors, image_problem
from diffstudio.imaging.samples import Samples

_LARGE_PIXELS = 16_000_000  # images above this are decoded one at a time, to bound the memory of several threads
_ONE_LARGE_AT_A_TIME = threading.Lock()
_MOST_PNG_CHUNKS = 1000  # looked at before the pixels
_ALPHA = {1, 2}  # values of the tag ExtraSamples: associated and unassociated
_CHANNEL_MARKS = ('"shape":', "ImageJ=", "<OME")  # in ImageDescription, by programs that store channels as pages

warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # sizes are checked here, at the same limit
warnings.filterwarnings(
    "ignore", category=UserWarning, module=r"PIL\."
)  # damaged metadata says nothing about the pixels
PngImagePlugin.MAX_TEXT_CHUNK = 8 << 20  # Pillow refuses an image for a text or profile above it; 1 MiB by default


@dataclass(frozen=True, slots=True)
class Decoded:
    """Pixels as stored, before colours, range and orientation are applied."""

    size: tuple[int, int]  # in px, upright
    pixels: Image.Image | Samples | ChannelArray  # an image is of mode L, LA, RGB, RGBA, CMYK or LAB
    profile: bytes | None = None
    orientation: int = 1
    notes: tuple[str, ...] = ()


@runtime_checkable
class _Frames(Protocol):
    @property
    def is_animated(self) -> bool: ...


@contextmanager
def decoded_file(path: Path, at_least: int | None = None) -> Iterator[Decoded]:
    """The stored pixels of an image file. ImageProblem for whatever goes wrong, in the block too."""
    with image_errors(path):
        check_file(path)
        with path.open("rb") as file, decoded_image(file, path, at_least) as decoded:
            yield decoded


@contextmanager
def decoded_image(file: BinaryIO, path: Path, at_least: int | None) -> Iterator[Decoded]:
    """The stored pixels of an open file; of large images one at a time, until the block ends."""
    head = file.read(32)
    if format_of(head) == JPEG_XL:
        file.seek(0)
        yield _jpeg_xl(file.read(), path, at_least)
        return
    if format_of(head) == NPY:
        with _one_at_a_time(arrays.npy_size(file)):
            yield _of_array(arrays.read_npy(file))
        return
    with contextlib.ExitStack() as open_files:
        image: Image.Image | None = None
        try:
            image = open_files.enter_context(open_with_pillow(file, head, path))
        except UnidentifiedImageError:
            if format_of(head) != "TIFF":
                raise
        if image is not None:
            check_size(image.size, path)
        with _one_at_a_time(image.size if image is not None else samples.tiff_size(file)):
            yield _tiff_beyond_pillow(file) if image is None else _decoded(image, file, at_least)


def _tiff_beyond_pillow(file: BinaryIO) -> Decoded:
    if (array := arrays.read_tiff_channels(file)) is not None:
        return _of_array(array)
    found = samples.read_tiff(file)
    height, width = found.values.shape[:2]
    notes = (FIRST_FRAME,) if samples.tiff_pages(file) > 1 else ()
    return Decoded(turned((width, height), found.orientation), found, found.profile, found.orientation, notes)


def _of_array(array: ChannelArray) -> Decoded:
    return Decoded((array.values.shape[1], array.values.shape[0]), array, notes=array.notes)


@contextmanager
def open_with_pillow(file: BinaryIO, head: bytes, path: Path) -> Iterator[Image.Image]:
    """The image as Pillow sees it, with nothing decoded yet."""
    kind = format_of(head)
    if kind == HEIF:
        _register_heif(path)
    if size := _declared_size(kind, head):  # Pillow makes room for two WebP canvases before it tells their size
        check_size(size, path)
    file.seek(0)
    with Image.open(file, formats=("HEIF",) if kind == HEIF else _formats()) as image:
        yield image


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in SUFFIXES_OF if name in Image.OPEN)


def _register_heif(path: Path) -> None:
    try:
        import pillow_heif
    except ImportError as error:
        command = f"{shlex.quote(sys.executable)} -m pip install pillow-heif"
        raise image_problem(
            path,
            "it is HEIC or HEIF, which needs the extra package pillow-heif (it includes x265, under the GPL): "
            f"`{command}`",
            "Install it, or choose another image",
        ) from error
    pillow_heif.register_heif_opener()


def _declared_size(kind: str, head: bytes) -> tuple[int, int] | None:
    """Width and height in px of a PNG or WebP: https://developers.google.com/speed/webp/docs/riff_container."""
    match kind, head[12:16]:
        case "PNG", b"IHDR":
            return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
        case "WEBP", b"VP8X":
            return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
        case _:  # without VP8X, each side of a WebP has 14 bits, and nothing is decoded early
            return None


def check_size(size: tuple[int, int], path: Path) -> None:
    if size[0] * size[1] > LARGEST_PIXELS:
        raise image_problem(path, too_large(*size), "Use a smaller copy of it")


def _one_at_a_time(size: tuple[int, int]) -> contextlib.AbstractContextManager[object]:
    return _ONE_LARGE_AT_A_TIME if size[0] * size[1] > _LARGE_PIXELS else contextlib.nullcontext()


def _decoded(image: Image.Image, file: BinaryIO, at_least: int | None) -> Decoded:
    if may_be_array(image) and (array := arrays.read_tiff_channels(file)) is not None:
        return _of_array(array)
    size = upright_size(image)
    profile, note = _profile(image, file)
    if at_least is not None:
        image.draft(None, (at_least, at_least))
    pixels: Image.Image | Samples | None = _deep_samples(image, file)
    if pixels is None:
        pixels = _eight_bits(image)
    notes = [note] if note else []
    if isinstance(image, TiffImagePlugin.TiffImageFile) and _has_unused_channel(image):
        notes.append("its fourth channel is not opacity and is not used")
    if image.format != "MPO" and _is_animated(image):  # the other images of an MPO are previews and gain maps
        notes.append(FIRST_FRAME)
    return Decoded(size, pixels, profile, _orientation(image), tuple(notes))


def _jpeg_xl(data: bytes, path: Path, at_least: int | None) -> Decoded:
    header = jpeg_xl.read_header(data, with_profile=False)
    check_size((header.width, header.height), path)
    if header.is_jpeg:
        with contextlib.suppress(RuntimeError, ValueError):  # else its pixels can be decoded all the same
            jpeg = io.BytesIO(jpeg_xl.restored_jpeg(data))
            with Image.open(jpeg, formats=("JPEG",)) as image:
                return _decoded(image, jpeg, at_least)
    with _one_at_a_time((header.width, header.height)):
        pixels = jpeg_xl.decode_pixels(data)
    colours = jpeg_xl.read_header(data).colours
    notes = [colours.note] if colours.note else []
    if header.animated:
        notes.append(FIRST_FRAME)
    size = pixels.shape[1], pixels.shape[0]
    declared = (0.0, float(np.iinfo(pixels.dtype).max) if pixels.dtype.kind == "u" else 1.0)
    found: Image.Image | Samples = samples.split(pixels, declared)
    if pixels.dtype == np.uint8:
        found = Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)
    return Decoded(size, found, colours.profile, notes=tuple(notes))


def may_be_array(image: Image.Image) -> bool:
    """Whether a file that Pillow opened may be a TIFF whose channels are not those of a grey or RGB image."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    samples_per_pixel, photometric = image.tag_v2.get(277, 1), image.tag_v2.get(262, 1)
    if samples_per_pixel > 4 or (samples_per_pixel > 1 and photometric in (0, 1)):
        return True
    about = str(image.tag_v2.get(270, ""))
    return any(mark in about for mark in _CHANNEL_MARKS)


def _has_unused_channel(image: TiffImagePlugin.TiffImageFile) -> bool:
    extra = image.tag_v2.get(338, ())
    return image.tag_v2.get(262) == 2 and bool(extra) and not _ALPHA.intersection(extra)


def _is_animated(image: Image.Image) -> bool:
    try:
        return isinstance(image, _Frames) and image.is_animated
    except Exception:  # noqa: BLE001 - damage after the first frame does not matter
        return False


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 without one. EXIF behind the pixels of a PNG is not read: that would decode them."""
    try:
        value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
        return value if isinstance(value, int) else 1
    except Exception:  # noqa: BLE001 - damaged EXIF says nothing about the pixels
        return 1


def _profile(image: Image.Image, file: BinaryIO) -> tuple[bytes | None, str]:
    """The ICC profile of an image, or one that says the same as its PNG chunks; and what cannot be followed."""
    profile = image.info.get("icc_profile")
    if image.format == "PNG":
        declared = colour.Declared()
        if code_points := _png_code_points(file):
            declared, profile = colour.declared_by_code_points(*code_points), None
        elif not profile and "srgb" not in image.info and image.info.keys() & {"gamma", "chromaticity"}:
            declared = colour.declared_by_png(image.info.get("gamma"), image.info.get("chromaticity"))
        return profile or declared.profile, declared.note
    return profile or None, ""


def _png_code_points(file: BinaryIO) -> tuple[int, int] | None:
    """Primaries and transfer function of the cICP chunk, which Pillow does not read."""
    position, chunk = file.tell(), 8
    try:
        for _ in range(_MOST_PNG_CHUNKS):
            file.seek(chunk)
            head = file.read(10)
            length, kind = int.from_bytes(head[:4], "big"), head[4:8]
            if kind == b"cICP" and length == 4 and len(head) == 10:
                return head[8], head[9]
            if len(head) < 8 or kind == b"IDAT":
                break
            chunk += length + 12
        return None
    finally:
        file.seek(position)


def _deep_samples(image: Image.Image, file: BinaryIO) -> Samples | None:
    """Pixels of more than 8 bits a channel; None where there are none."""
    if isinstance(image, PngImagePlugin.PngImageFile) and image.tile and str(image.tile[0].args).endswith(";16B"):
        return samples.read_png(file, image.info.get("transparency"))
    bits = image.tag_v2.get(258, (8,)) if isinstance(image, TiffImagePlugin.TiffImageFile) else (8,)
    if max(bits) > 8 and image.mode not in ("CMYK", "LAB"):
        return samples.read_tiff(file)
    if image.mode.startswith("I") or image.mode == "F":
        image.load()
        scaled = image.mode != "F" and image.format in ("PPM", "JPEG2000")  # by Pillow, from what the file declares
        return Samples(np.asarray(image), declared=(0.0, 65535.0) if scaled else None)
    return None


def _eight_bits(image: Image.Image) -> Image.Image:
    """A copy in mode L, LA, RGB, RGBA, CMYK or LAB from any of Pillow's modes of 8 bits."""
    image.load()
    if image.has_transparency_data and image.mode != "LAB":
        result = image.convert("LA" if image.mode in ("LA", "La") else "RGBA")
        lowest_opacity = int(np.asarray(result.getchannel("A")).min())
        return result if lowest_opacity < 255 else result.convert(result.mode[:-1])
    if image.mode in ("CMYK", "LAB", "L"):
        return image.copy()
    return image.convert("L" if image.mode == "1" else "RGB")


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height in px of an opened image once it is turned as its EXIF orientation says."""
    return (
        image.size if image.format == "TIFF" else turned(image.size, _orientation(image))
    )  # Pillow has turned a TIFF's


def turned(size: tuple[int, int], orientation: object) -> tuple[int, int]:
    """A width and height as they are with an EXIF orientation."""
    return (size[1], size[0]) if orientation in (5, 6, 7, 8) else size


def check_file(path: Path) -> None:
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):  # opening a pipe or a device could wait for ever
        raise image_problem(path, NOT_A_PLAIN_FILE)
    if about.st_size == 0:
        raise image_problem(path, "the file is empty")

"""Read an image file, whatever it holds: any format, orientation, colour profile and bit depth becomes upright sRGB.

No torch, and no trust: a file may lie about its size, end half-way, or be something else altogether. Every size is
checked before anything is decoded. Colours: see `colour`; more than 8 bits a channel: see `value_range`.
"""

from __future__ import annotations

import contextlib
import io
import shlex
import stat
import struct
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from diffstudio.errors import IS_A_FOLDER, MOVED_OR_DELETED, ImageProblem, Interrupted
from diffstudio.imaging import colour, jpeg_xl, samples
from diffstudio.imaging.formats import HEIF, JPEG_XL, SUFFIXES_OF, format_of
from diffstudio.imaging.limits import LARGEST_PIXELS, NOT_AN_IMAGE, TOO_LARGE, TRUNCATED, too_large
from diffstudio.imaging.samples import Samples
from diffstudio.imaging.value_range import Depth, Range, SampleType, chosen_range, measure, to_bits

Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
NO_RANGES: Mapping[SampleType, Range] = {}
FIRST_FRAME = "only its first frame is used"
_LARGE_PIXELS = 16_000_000  # images above this are decoded one at a time, to bound the memory of several threads
_ONE_LARGE_AT_A_TIME = threading.Lock()
_MOST_PNG_CHUNKS = 1000  # looked at before the pixels

warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # sizes are checked here, at the same limit
PngImagePlugin.MAX_TEXT_CHUNK = 8 << 20  # Pillow refuses an image for a text or profile above it; 1 MiB by default

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


@runtime_checkable
class _Frames(Protocol):
    @property
    def is_animated(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class _Decoded:
    """Pixels as stored, before colours, range and orientation are applied."""

    size: tuple[int, int]  # in px, upright
    pixels: Image.Image | Samples  # of mode L, LA, RGB, RGBA, CMYK or LAB
    profile: bytes | None = None
    orientation: int = 1
    notes: tuple[str, ...] = ()


def load_image(
    path: Path, *, at_least: int | None = None, ranges: Mapping[SampleType, Range] = NO_RANGES
) -> LoadedImage:
    """The first frame of an image file, as sRGB.

    With `at_least`, a large image comes reduced by a whole factor, with each side still that many px or more. `ranges`
    are those of the folder that the file is in, for more than 8 bits a channel. ImageProblem, whose `why` is a clause
    for people, when the file cannot be read as a whole.
    """
    with image_errors(path):
        _check_file(path)
        with path.open("rb") as file:
            return _load(file, path, at_least, ranges)


def read_image(path: Path, *, at_least: int | None = None) -> tuple[Image.Image, tuple[int, int]]:
    """The pixels of `load_image`, and the full width and height in px."""
    loaded = load_image(path, at_least=at_least)
    return loaded.image, loaded.size


def image_notes(path: Path) -> tuple[str, ...]:
    """What of an image file cannot be followed, a sentence each. ImageProblem as `load_image`."""
    return tuple(f"{path.name}: {note}." for note in load_image(path, at_least=1).notes)


def read_image_bytes(data: bytes, name: str, *, at_least: int | None = None) -> Image.Image:
    """An image that is part of another file, as `load_image`; `name` is what an ImageProblem calls it."""
    with image_errors(Path(name)):
        return _load(io.BytesIO(data), Path(name), at_least, NO_RANGES).image


def read_size(path: Path) -> tuple[int, int]:
    """Width and height in px of the upright image, from its header. ImageProblem if it has no size."""
    with image_errors(path):
        _check_file(path)
        with path.open("rb") as file:
            head = file.read(32)
            if format_of(head) == JPEG_XL:
                file.seek(0)
                header = jpeg_xl.read_header(file.read())
                return header.width, header.height
            try:
                with _opened(file, head, path) as image:
                    return upright_size(image)
            except UnidentifiedImageError:
                if format_of(head) != "TIFF":
                    raise
                return samples.tiff_size(file)


def read_rgb(path: Path, background: Colour = WHITE) -> Image.Image:
    """The first frame, upright, as RGB, with transparency laid on `background`. ImageProblem as `load_image`."""
    return flatten(load_image(path).image, background)


def flatten(image: Image.Image, background: Colour = WHITE) -> Image.Image:
    """An RGB or RGBA image as RGB, with transparency laid on `background`."""
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*background, 255)), image)
    return image.convert("RGB")


def _check_file(path: Path) -> None:
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):  # opening a pipe or a device could wait for ever
        raise image_problem(path, "it is not a regular file")
    if about.st_size == 0:
        raise image_problem(path, "the file is empty")


# ---- decoding --------------------------------------------------------------------------------------------------------


def _load(file: BinaryIO, path: Path, at_least: int | None, ranges: Mapping[SampleType, Range]) -> LoadedImage:
    head = file.read(32)
    if format_of(head) == JPEG_XL:
        file.seek(0)
        return _finished(_jpeg_xl(file.read(), path, at_least), at_least, ranges)
    try:
        with _opened(file, head, path) as image:
            _check_size(image.size, path)
            with _one_at_a_time(image.size):
                return _finished(_decoded(image, file, at_least), at_least, ranges)
    except UnidentifiedImageError:
        if format_of(head) != "TIFF":
            raise
        found = samples.read_tiff(file)
        height, width = found.values.shape[:2]
        size = turned((width, height), found.orientation)
        return _finished(_Decoded(size, found, found.profile, found.orientation), at_least, ranges)


@contextmanager
def _opened(file: BinaryIO, head: bytes, path: Path) -> Iterator[Image.Image]:
    """The image as Pillow sees it, with nothing decoded yet."""
    kind = format_of(head)
    if kind == HEIF:
        _register_heif(path)
    if size := _declared_size(kind, head):  # Pillow makes room for two WebP canvases before it tells their size
        _check_size(size, path)
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


def _check_size(size: tuple[int, int], path: Path) -> None:
    if size[0] * size[1] > LARGEST_PIXELS:
        raise image_problem(path, too_large(*size), "Use a smaller copy of it")


def _one_at_a_time(size: tuple[int, int]) -> contextlib.AbstractContextManager[object]:
    return _ONE_LARGE_AT_A_TIME if size[0] * size[1] > _LARGE_PIXELS else contextlib.nullcontext()


def _decoded(image: Image.Image, file: BinaryIO, at_least: int | None) -> _Decoded:
    size = upright_size(image)
    profile, note = _profile(image, file)
    if at_least is not None:
        image.draft(None, (at_least, at_least))
    pixels: Image.Image | Samples | None = _deep_samples(image, file)
    if pixels is None:
        pixels = _eight_bits(image)
    notes = [note] if note else []
    if image.format != "MPO" and _is_animated(image):  # the other images of an MPO are previews and gain maps
        notes.append(FIRST_FRAME)
    return _Decoded(size, pixels, profile, _orientation(image), tuple(notes))


def _jpeg_xl(data: bytes, path: Path, at_least: int | None) -> _Decoded:
    header = jpeg_xl.read_header(data)
    _check_size((header.width, header.height), path)
    if header.is_jpeg:
        with contextlib.suppress(RuntimeError, ValueError):  # else its pixels can be decoded all the same
            jpeg = io.BytesIO(jpeg_xl.restored_jpeg(data))
            with Image.open(jpeg, formats=("JPEG",)) as image:
                return _decoded(image, jpeg, at_least)
    with _one_at_a_time((header.width, header.height)):
        pixels = jpeg_xl.decode_pixels(data)
    notes = [header.colours.note] if header.colours.note else []
    if header.animated:
        notes.append(FIRST_FRAME)
    size = pixels.shape[1], pixels.shape[0]
    declared = (0.0, float(np.iinfo(pixels.dtype).max) if pixels.dtype.kind == "u" else 1.0)
    found: Image.Image | Samples = samples.split(pixels, declared)
    if pixels.dtype == np.uint8:
        found = Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)
    return _Decoded(size, found, header.colours.profile, notes=tuple(notes))


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


# ---- from stored pixels to sRGB --------------------------------------------------------------------------------------


def _finished(decoded: _Decoded, at_least: int | None, ranges: Mapping[SampleType, Range]) -> LoadedImage:
    depth, notes = None, list(decoded.notes)
    if isinstance(decoded.pixels, Image.Image):
        image, note = colour.to_srgb(_reduced(decoded.pixels, at_least), decoded.profile)
    else:
        image, note, depth = _from_samples(decoded.pixels, decoded.profile, ranges)
        image = _reduced(image, at_least)
        if depth.not_numbers:
            notes.append(f"{depth.not_numbers:,} of its values are not finite numbers and are black")
    if note:
        notes.append(note)
    if decoded.orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[decoded.orientation])
    image.info = {}  # a profile in it would be written into copies
    return LoadedImage(image, decoded.size, tuple(notes), depth)


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


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height in px of an opened image once it is turned as its EXIF orientation says."""
    return (
        image.size if image.format == "TIFF" else turned(image.size, _orientation(image))
    )  # Pillow has turned a TIFF's


def turned(size: tuple[int, int], orientation: object) -> tuple[int, int]:
    """A width and height as they are with an EXIF orientation."""
    return (size[1], size[0]) if orientation in (5, 6, 7, 8) else size


# ---- errors ----------------------------------------------------------------------------------------------------------


@contextmanager
def image_errors(path: Path) -> Iterator[None]:
    """Raise an ImageProblem for whatever goes wrong while the image at `path` is read."""
    try:
        yield
    except (ImageProblem, Interrupted):
        raise
    except Exception as error:  # Pillow's plug-ins raise almost any kind on hostile bytes
        remedy = MOVED_OR_DELETED if isinstance(error, FileNotFoundError) else ""
        raise image_problem(path, _reason(error), remedy) from error


def image_problem(path: Path, why: str, remedy: str = "") -> ImageProblem:
    return ImageProblem(f"{path.name} cannot be read", why, remedy or "Choose another image")


def _reason(error: Exception) -> str:
    """Why an image could not be read, as a clause for people."""
    match error:
        case Image.DecompressionBombError() | Image.DecompressionBombWarning():
            return TOO_LARGE
        case samples.SamplesProblem():
            return str(error)
        case UnidentifiedImageError():
            return NOT_AN_IMAGE
        case PermissionError():
            return "there is no permission to read it"
        case IsADirectoryError():
            return IS_A_FOLDER
        case FileNotFoundError():
            return "the file does not exist"
        case MemoryError():
            return "there is not enough memory to decode it"
        case EOFError() | struct.error():
            return TRUNCATED
        case OSError() if "truncated" in str(error).lower():
            return TRUNCATED
        case OSError() if error.strerror:
            return error.strerror[:1].lower() + error.strerror[1:]
        case _:
            return f"it is damaged ({str(error).rstrip('.') or type(error).__name__})"

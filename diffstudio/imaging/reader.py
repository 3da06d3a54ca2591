"""Read an image file, whatever it holds: any format, orientation and bit depth becomes upright 8-bit RGB or RGBA.

No torch, and no trust: a file may lie about its size, end half-way, or be something else altogether.
"""

from __future__ import annotations

import contextlib
import stat
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from diffstudio.errors import IS_A_FOLDER, MOVED_OR_DELETED, ImageProblem, Interrupted
from diffstudio.imaging.limits import LARGEST_PIXELS, NOT_AN_IMAGE, TOO_LARGE, TRUNCATED, too_large

Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
_LARGE_PIXELS = 16_000_000  # images above this are decoded one at a time, to bound the memory of several threads
_ONE_LARGE_AT_A_TIME = threading.Lock()

# Formats that Pillow knows but that start another program, or hold no pixels of their own without a plug-in.
_LEFT_OUT = frozenset({"EPS", "WMF", "EMF", "MPEG", "HDF5", "GRIB", "BUFR", "FPX", "PDF"})
# First bytes of the common formats, by which a file without a suffix is known: PNG, JPEG, GIF, BMP, TIFF, WebP (RIFF).
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF")

_UPRIGHT = {  # EXIF orientation -> what turns the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in Image.OPEN if name not in _LEFT_OUT)


@cache
def image_suffixes() -> frozenset[str]:
    """The file name endings of every format that can be read here, in lower case with their dot."""
    readable = set(_formats())
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in readable)


def looks_like_an_image(path: Path) -> bool:
    """Whether its suffix is one of an image file; without a suffix, whether its first bytes are."""
    suffix = path.suffix.lower()
    if suffix:
        return suffix in image_suffixes()
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as file:
            return file.read(8).startswith(_SIGNATURES)
    except OSError:
        return False


def read_image(path: Path, *, at_least: int | None = None) -> tuple[Image.Image, tuple[int, int]]:
    """The first frame, upright, as RGB, or as RGBA if a pixel is transparent; and its full width and height in px.

    With `at_least`, a large image comes reduced by a whole factor, with each side still that many px or more.
    ImageProblem, whose `why` is a clause for people, when the file cannot be read as a whole.
    """
    with image_errors(path):
        _check_file(path)
        with Image.open(path, formats=_formats()) as file:
            width, height = file.size
            if width * height > LARGEST_PIXELS:
                raise image_problem(path, too_large(width, height), "Use a smaller copy of it")
            orientation = _orientation(file)
            if at_least is not None:
                file.draft(None, (at_least, at_least))
            with _ONE_LARGE_AT_A_TIME if width * height > _LARGE_PIXELS else contextlib.nullcontext():
                image = _reduced(_eight_bits(file), at_least)
        if orientation in _UPRIGHT:
            image = image.transpose(_UPRIGHT[orientation])
        if orientation >= 5:
            width, height = height, width
        return image, (width, height)


def read_rgb(path: Path, background: Colour = WHITE) -> Image.Image:
    """The first frame, upright, as RGB, with transparency laid on `background`. ImageProblem as `read_image`."""
    image, _ = read_image(path)
    return flatten(image, background)


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


def _orientation(file: Image.Image) -> int:
    try:
        value = file.getexif().get(ExifTags.Base.Orientation, 1)
        return value if isinstance(value, int) else 1
    except Exception:  # noqa: BLE001 - damaged EXIF says nothing about the pixels
        return 1


def _eight_bits(file: Image.Image) -> Image.Image:
    """RGB, or RGBA if a pixel is transparent, from any of Pillow's modes."""
    file.load()
    if file.mode.startswith("I") or file.mode == "F":
        return _grey_of_many_bits(file).convert("RGB")
    if not file.has_transparency_data:
        return file.convert("RGB")
    image = file.convert("RGBA")
    lowest_opacity = int(np.asarray(image.getchannel("A")).min())
    return image if lowest_opacity < 255 else image.convert("RGB")


def _reduced(image: Image.Image, at_least: int | None) -> Image.Image:
    factor = min(image.size) // at_least if at_least else 1
    return image.reduce(factor) if factor > 1 else image  # means over squares, weighted by opacity


def _grey_of_many_bits(file: Image.Image) -> Image.Image:
    """16 bits scaled by their full range; 32 bits and floats by 1, 255 or 65,535, the first that holds every value."""
    values = np.nan_to_num(np.asarray(file).astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    largest = float(values.max(initial=0.0))
    if file.mode.startswith("I;16"):
        white = 65535.0
    else:
        ranges = (1.0, 255.0, 65535.0) if file.mode == "F" else (255.0, 65535.0)
        white = next((white for white in ranges if largest <= white), largest)
    return Image.fromarray(np.clip(np.rint(values * (255 / white)), 0, 255).astype(np.uint8))


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

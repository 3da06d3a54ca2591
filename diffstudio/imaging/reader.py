"""One picture file, read safely whatever it holds: used when a folder is inspected and when it is prepared.

No torch here, and no trust: a file may lie about its size, end half-way, or be something else altogether.
"""

from __future__ import annotations

import contextlib
import stat
import struct
import threading
from functools import cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from diffstudio.errors import ImageProblem

LARGEST_PIXELS = 89_478_485  # where Pillow begins to suspect a decompression bomb: a quarter of a GiB as RGB
LARGE_PIXELS = 16_000_000  # above this, pictures are decoded one at a time to bound the memory of several threads
_ONE_LARGE_AT_A_TIME = threading.Lock()

# Formats that Pillow knows but that start another program, or hold no pixels of their own without a plug-in.
_LEFT_OUT = frozenset({"EPS", "WMF", "EMF", "MPEG", "HDF5", "GRIB", "BUFR", "FPX", "PDF"})
# First bytes of the common formats, by which a file without a suffix is known: PNG, JPEG, GIF, BMP, TIFF, WebP (RIFF).
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF")

_UPRIGHT = {  # EXIF orientation -> what turns the picture upright
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
    """The file name endings, in lower case with their dot, of what Pillow can read here."""
    readable = set(_formats())
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in readable)


def looks_like_an_image(path: Path) -> bool:
    """Whether the name says so; for a name without a suffix, whether the first bytes do."""
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
    """The first frame, upright, as RGB, or RGBA where something shines through; and its own width and height in px.

    With `at_least`, a large picture comes at a whole fraction of its size, each side still that many px or more.
    ImageProblem, whose `why` is a clause for people, when the file is no whole picture.
    """
    try:
        _check_file(path)
        with Image.open(path, formats=_formats()) as file:
            width, height = file.size
            if width * height > LARGEST_PIXELS:
                raise _problem(path, _too_large(width, height), "Use a smaller copy of it")
            orientation = _orientation(file)
            if at_least is not None:
                file.draft(None, (at_least, at_least))
            with _ONE_LARGE_AT_A_TIME if width * height > LARGE_PIXELS else contextlib.nullcontext():
                picture = _reduced(_eight_bits(file), at_least)
        if orientation in _UPRIGHT:
            picture = picture.transpose(_UPRIGHT[orientation])
        if orientation >= 5:
            width, height = height, width
        return picture, (width, height)
    except ImageProblem:
        raise
    except Exception as error:  # Pillow's plug-ins raise almost any kind on hostile bytes; each ends in one named file
        raise _problem(path, _reason(error)) from error


def _check_file(path: Path) -> None:
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):  # opening a pipe or a device could wait for ever
        raise _problem(path, "it is not a plain file")
    if about.st_size == 0:
        raise _problem(path, "the file is empty")


def _orientation(file: Image.Image) -> int:
    try:
        value = file.getexif().get(ExifTags.Base.Orientation, 1)
        return value if isinstance(value, int) else 1
    except Exception:  # noqa: BLE001 - damaged EXIF says nothing of the pixels: the picture is taken as it lies
        return 1


def _eight_bits(file: Image.Image) -> Image.Image:
    """RGB, or RGBA when a pixel is not wholly opaque, of any of Pillow's modes."""
    file.load()
    if file.mode.startswith("I") or file.mode == "F":
        return _grey_of_many_bits(file).convert("RGB")
    if not file.has_transparency_data:
        return file.convert("RGB")
    picture = file.convert("RGBA")
    lowest_opacity = int(np.asarray(picture.getchannel("A")).min())
    return picture if lowest_opacity < 255 else picture.convert("RGB")


def _reduced(picture: Image.Image, at_least: int | None) -> Image.Image:
    factor = min(picture.size) // at_least if at_least else 1
    return picture.reduce(factor) if factor > 1 else picture  # means over squares, weighted by opacity


def _grey_of_many_bits(file: Image.Image) -> Image.Image:
    """16 bits by their whole range; 32 bits and floats by 1, 255 or 65,535, the first that holds every value."""
    values = np.nan_to_num(np.asarray(file).astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    largest = float(values.max(initial=0.0))
    if file.mode.startswith("I;16"):
        white = 65535.0
    else:
        ranges = (1.0, 255.0, 65535.0) if file.mode == "F" else (255.0, 65535.0)
        white = next((white for white in ranges if largest <= white), largest)
    return Image.fromarray(np.clip(np.rint(values * (255 / white)), 0, 255).astype(np.uint8))


def _problem(path: Path, why: str, remedy: str = "") -> ImageProblem:
    return ImageProblem(f"The picture {path.name} cannot be used", why, remedy)


def _too_large(width: int, height: int) -> str:
    return f"at {width:,} x {height:,} px it is larger than the {LARGEST_PIXELS // 1_000_000} megapixels that are read"


def _reason(error: Exception) -> str:
    """Why Pillow gave up, for a person."""
    match error:
        case Image.DecompressionBombError() | Image.DecompressionBombWarning():
            return f"it is larger than the {LARGEST_PIXELS // 1_000_000} megapixels that are read"
        case UnidentifiedImageError():
            return "it is not a picture of a kind that can be read"
        case PermissionError():
            return "it may not be read"
        case FileNotFoundError():
            return "it is not there (any more)"
        case MemoryError():
            return "decoding it needs more memory than there is"
        case EOFError() | struct.error():
            return "the file is cut short"
        case OSError() if "truncated" in str(error).lower():
            return "the file is cut short"
        case OSError() if error.strerror:
            return error.strerror[:1].lower() + error.strerror[1:]
        case _:
            return f"it is damaged ({str(error) or type(error).__name__})"

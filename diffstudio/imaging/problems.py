"""ImageProblem for whatever can go wrong while an image file is read."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from diffstudio.errors import IS_A_FOLDER, MOVED_OR_DELETED, ImageProblem, Interrupted
from diffstudio.imaging.limits import NOT_AN_IMAGE, TOO_LARGE, TRUNCATED
from diffstudio.imaging.samples import SamplesProblem


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
        case SamplesProblem():
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
            return f"it is damaged ({text})" if (text := str(error).rstrip(".")) else "it is damaged"

"""Files of the gallery: names nobody else has, whole or not at all, and pictures opened with care."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sqlite3
import threading
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageOps, UnidentifiedImageError

from diffstudio.errors import ImageProblem, StorageProblem
from diffstudio.studio.picture_text import LARGEST_PIXELS, UNREADABLE

_LONGEST_SLUG = 48
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def slug(prompt: str) -> str:
    """A prompt as part of a file name: lower-case letters and digits of any script, hyphens between."""
    words = re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", prompt[:400]).lower())
    text = "-".join(words).encode("utf-8", "ignore").decode()
    while len(text) > _LONGEST_SLUG or len(text.encode()) > 2 * _LONGEST_SLUG:
        text = text[:-1]
    return text.rstrip("-")


@contextmanager
def told(what: str, place: Path) -> Iterator[None]:
    """Turn what disks and databases raise into a StorageProblem that says which, why, and what to do."""
    try:
        yield
    except sqlite3.Error as error:
        full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
        remedy = "Free some space and try again" if full else "Close other programs that use it, and try again"
        raise StorageProblem(what, "the disk is full" if full else str(error), remedy) from error
    except OSError as error:
        if error.errno in _FULL:
            raise StorageProblem(what, "the disk is full", "Free some space and try again") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StorageProblem(what, f"{place} may not be written to", "Choose another folder in Settings") from error
        raise StorageProblem(what, error.strerror or str(error), f"Look whether {place} can be reached") from error


def write_new(folder: Path, name: str, suffix: str, write: Callable[[BinaryIO], None]) -> Path:
    """Write `folder/name.suffix`, or `name-2.suffix` when that is taken. The file appears whole or not at all."""
    part = folder / f".{os.getpid()}-{threading.get_ident()}.part"
    try:
        with part.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        return move_new(part, folder / f"{name}{suffix}")
    finally:
        part.unlink(missing_ok=True)


def move_new(source: Path, target: Path) -> Path:
    """Move a file to where none is: to `target`, or to the next free name like it. Atomic, and never over another."""
    number = 1
    while True:
        candidate = target if number == 1 else target.with_name(f"{target.stem}-{number}{target.suffix}")
        try:
            os.link(source, candidate)
        except FileExistsError:
            number += 1
        except OSError as error:
            if error.errno in _FULL or not source.exists():
                raise
            return _move_without_links(source, target, number)  # FAT and some network disks have none
        else:
            source.unlink()
            return candidate


def _move_without_links(source: Path, target: Path, number: int) -> Path:
    while True:
        candidate = target if number == 1 else target.with_name(f"{target.stem}-{number}{target.suffix}")
        try:
            os.close(os.open(candidate, os.O_CREAT | os.O_EXCL | os.O_WRONLY))  # the name is ours from here on
        except FileExistsError:
            number += 1
        else:
            try:
                shutil.move(source, candidate)
            except OSError:
                candidate.unlink(missing_ok=True)
                raise
            return candidate


def open_picture(path: Path, side: int) -> Image.Image:
    """A picture of at most `side` px, turned as its EXIF says, RGB or RGBA. Raises ImageProblem."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > LARGEST_PIXELS:
                raise ImageProblem(
                    f"{path.name} is too large to show",
                    f"{image.width:,} × {image.height:,} px",
                    "Make it smaller with another program",
                )
            image.draft("RGB", (side, side))
            turned = ImageOps.exif_transpose(image)
            turned = turned.convert("RGBA" if turned.has_transparency_data else "RGB")
            turned.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
            return turned
    except FileNotFoundError:
        raise ImageProblem(f"There is no picture at {path}", remedy="It may have been moved or deleted") from None
    except UnidentifiedImageError:
        raise ImageProblem(
            f"{path.name} is not a picture that can be read here", remedy="Delete it or replace it"
        ) from None
    except UNREADABLE as error:
        raise ImageProblem(f"{path.name} cannot be read", str(error).rstrip("."), "Delete it or replace it") from error

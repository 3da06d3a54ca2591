"""Names of the gallery's files and folders."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path, PurePosixPath

from diffstudio.imaging.formats import GALLERY_SUFFIXES

SUFFIXES = GALLERY_SUFFIXES
TRASH = ".trash"
_LONGEST_SLUG = 48


def slug(prompt: str) -> str:
    """A prompt as part of a file name: lower-case letters and digits of any script, hyphens between."""
    parts = re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", prompt[:400]).lower())
    text = "-".join(parts).encode("utf-8", "ignore").decode()
    while len(text) > _LONGEST_SLUG or len(text.encode()) > 2 * _LONGEST_SLUG:
        text = text[:-1]
    return text.rstrip("-")


def is_inside(path: str) -> bool:
    """Whether a stored path, with forward slashes, stays below the folder that it is relative to."""
    parts = PurePosixPath(path).parts
    drive = path[1:2] == ":"
    return bool(parts) and not path.startswith(("/", "\\")) and not drive and ".." not in parts and "\0" not in path


def name_not_kept(error: ValueError) -> str:
    """Why a file was skipped whose name the database cannot hold."""
    return f"its name cannot be kept: {error}"


def folder_id(folder: Path) -> str:
    """Device and inode of a folder: a folder that is created where a drive was mounted has others. OSError."""
    stat = os.stat(folder)
    return f"{stat.st_dev}:{stat.st_ino}"


def is_gone(path: Path) -> bool:
    """Whether there certainly is no such file; False where that cannot be found out."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False

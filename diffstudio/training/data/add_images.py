"""Copy images into a folder of training images, with their captions."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from diffstudio.atomic import free_name, storage_errors

CAPTION_SUFFIX = ".txt"


def copy_into(images: Sequence[Path], folder: Path) -> int:
    """Copy images that are not in the folder yet, under free names; returns how many. StorageProblem.

    A text file beside an image, with its name, is its caption and is copied too.
    """
    copied = 0
    failed = "The images could not be copied"
    with storage_errors(failed, folder):
        for image in images:
            if image.parent == folder:
                continue
            target = free_name(folder / image.name)
            caption = image.with_suffix(CAPTION_SUFFIX)
            if caption.is_file():
                shutil.copyfile(caption, target.with_suffix(CAPTION_SUFFIX))
            shutil.copyfile(image, target)
            copied += 1
    return copied

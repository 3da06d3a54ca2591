"""Copy images into a folder of training images, with their captions."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from diffstudio.storage_errors import storage_errors
from diffstudio.training.data.captions.caption_files import CAPTION_SUFFIXES


def copy_into(images: Sequence[Path], folder: Path) -> int:
    """Copy images that are not in the folder yet, under free names; returns how many. StorageProblem.

    The caption files beside an image, with its name, are copied too. A name is free if no file in the folder
    has it with any suffix: the caption of `a.jpg` would be that of `a.png` too.
    """
    copied = 0
    failed = "The images could not be copied"
    with storage_errors(failed, folder):
        taken = {entry.stem.casefold() for entry in folder.iterdir()}
        for image in images:
            if image.parent == folder:
                continue
            stem = _free_stem(image.stem, taken)
            target = folder / f"{stem}{image.suffix}"
            for suffix in CAPTION_SUFFIXES:
                for caption in (image.with_suffix(suffix), image.with_name(image.name + suffix)):
                    if caption.is_file() and not target.with_suffix(suffix).exists():
                        shutil.copyfile(caption, target.with_suffix(suffix))
            shutil.copyfile(image, target)
            taken.add(stem.casefold())
            copied += 1
    return copied


def _free_stem(stem: str, taken: Collection[str]) -> str:
    """`stem`, or the first of `stem-2` and so on that is not taken."""
    numbered = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
    return next(name for name in numbered if name.casefold() not in taken)

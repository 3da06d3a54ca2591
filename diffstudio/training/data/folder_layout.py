"""Lists the images of a folder and its sub-folders, each with its caption file. No torch, and no pixels."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from diffstudio.errors import CHOOSE_IMAGE_FOLDER, FolderProblem
from diffstudio.imaging.formats import looks_like_an_image
from diffstudio.training.data.folder_report import Skipped, nothing_to_train_on


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file with the name of an image."""

    path: Path  # inside the folder
    caption: Path | None  # inside the folder


def check_folder(folder: Path) -> None:
    what, remedy = nothing_to_train_on(folder), CHOOSE_IMAGE_FOLDER
    try:
        if not folder.exists():
            raise FolderProblem(what, "the folder does not exist", remedy)
        if not folder.is_dir():
            raise FolderProblem(what, "it is a file, not a folder", remedy)
        with os.scandir(folder) as entries:
            if next(entries, None) is None:
                raise FolderProblem(what, "the folder is empty", remedy)
    except OSError as error:
        raise FolderProblem(what, error.strerror or str(error), remedy) from error


def list_folder(folder: Path, others: Counter[str]) -> Iterator[ImageFile | Skipped]:
    """Every image file below the folder, with its caption file. Links are followed; each folder is visited once."""
    seen: set[Path] = set()
    pending = [Path()]
    while pending:
        inside = pending.pop()
        try:
            real = (folder / inside).resolve(strict=True)
            if real in seen:  # a link to a parent, or a second link to the same folder
                continue
            seen.add(real)
            with os.scandir(folder / inside) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except (OSError, RuntimeError) as error:  # RuntimeError: a link loop, before Python 3.13
            why = (isinstance(error, OSError) and error.strerror) or "a link loop"
            yield Skipped(inside, f"the folder cannot be read ({why.lower()})")
            continue
        texts = {entry.name.casefold(): entry.name for entry in listed if entry.name.casefold().endswith(".txt")}
        for entry in listed:
            path = inside / entry.name
            if entry.name.startswith(".") or entry.name == "__MACOSX":  # files of other programs
                continue
            if _is_folder(entry):
                pending.append(path)
            elif looks_like_an_image(folder / path):
                text = texts.get(f"{path.stem}.txt".casefold()) or texts.get(f"{entry.name}.txt".casefold())
                yield ImageFile(path, inside / text if text else None)
            else:
                others[path.suffix.lower()] += 1


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a broken link or a link loop
        return False

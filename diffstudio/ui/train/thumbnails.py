"""Small pictures of a folder, made off the window's thread by the same careful reader that training uses."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from PySide6.QtGui import QImage

from diffstudio.errors import ImageProblem
from diffstudio.imaging.reader import looks_like_an_image, read_image
from diffstudio.training.data.preprocess import resize_to_square
from diffstudio.ui.widgets.images import numpy_to_qimage

MOST_LOOKED_AT = 200  # files of a folder, when a few pictures of it are wanted
WHITE = (255, 255, 255)

_T = TypeVar("_T")


def thumbnail(path: Path, side: int) -> QImage | None:
    """The middle square of a picture, `side` px, transparency on white; None when it cannot be read."""
    try:
        picture, _ = read_image(path, at_least=side)
    except ImageProblem:
        return None
    return numpy_to_qimage(resize_to_square(picture, side, WHITE, "crop"))


def spread(things: Sequence[_T], count: int) -> list[_T]:
    """At most `count` of them, evenly from the first to the last: all groups of a folder get their share."""
    if len(things) <= count:
        return list(things)
    return [things[index * len(things) // count] for index in range(count)]


def first_pictures(folder: Path) -> Generator[Path, None, None]:
    """Some pictures of a folder without looking at all of it: one from each sub-folder in turn, then the next of each."""
    try:
        inside = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir())
    except OSError:  # moved or unplugged since
        return
    waiting = [_pictures_in(Path(path)) for path in [str(folder), *inside[:24]]]
    for _ in range(MOST_LOOKED_AT):
        if not waiting:
            return
        source = waiting.pop(0)
        path = next(source, None)
        if path is not None:
            waiting.append(source)
            yield path


def _pictures_in(folder: Path) -> Iterator[Path]:
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    except OSError:
        return
    for name in names[:MOST_LOOKED_AT]:
        if looks_like_an_image(folder / name):
            yield folder / name

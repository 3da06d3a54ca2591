"""Thumbnails of training images, read in a thread by the same reader as in training."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from PySide6.QtCore import Qt
from PySide6.QtGui import QImage, QPainter

from diffstudio.errors import ImageProblem
from diffstudio.evaluation import even_spacing
from diffstudio.imaging.formats import looks_like_an_image
from diffstudio.imaging.reader import NO_RANGES, WHITE, load_image
from diffstudio.imaging.value_range import Range, SampleType
from diffstudio.training.data.folder_report import ImageRecord
from diffstudio.training.data.pixel_choice import why_unfit
from diffstudio.training.data.preprocess import PAD, resize_to, share_kept, size_for, training_preview
from diffstudio.training.recipe import DataRecipe
from diffstudio.ui.widgets.images.image_reading import numpy_to_qimage

MAX_FILES_PER_FOLDER = 200  # enough to find a few images for the folder card

_T = TypeVar("_T")


def thumbnail(path: Path, side: int, ranges: Mapping[SampleType, Range] = NO_RANGES) -> QImage | None:
    """The centre square of an image, `side` px, transparency on white; None if it cannot be read.

    `ranges`: those of the folder, for images of more than 8 bits a channel.
    """
    try:
        image = load_image(path, at_least=side, ranges=ranges).image
    except ImageProblem:
        return None
    return numpy_to_qimage(resize_to(image, (side, side), WHITE, "crop"))


def as_seen(path: Path, record: ImageRecord, side: int, data: DataRecipe) -> QImage | None:
    """An image as the network sees it, cropped or padded and with its pixels, on a transparent square of `side` px.

    None if it cannot be read as the recipe says, or is not used.
    """
    if why_unfit(record, data):
        return None
    try:
        seen = numpy_to_qimage(training_preview(path, data, record.width, record.height))
    except ImageProblem:
        return None
    larger = max(seen.width(), seen.height()) < side
    how = Qt.TransformationMode.FastTransformation if larger else Qt.TransformationMode.SmoothTransformation
    seen = seen.scaled(side, side, Qt.AspectRatioMode.KeepAspectRatio, how)
    square = QImage(side, side, QImage.Format.Format_ARGB32_Premultiplied)
    square.fill(Qt.GlobalColor.transparent)
    painter = QPainter(square)
    painter.drawImage((side - seen.width()) // 2, (side - seen.height()) // 2, seen)
    painter.end()
    return square


def seen_sentence(record: ImageRecord, data: DataRecipe) -> str:
    """`seen at 64 x 64 px, 33% cropped`, or why an image is not used."""
    if why := why_unfit(record, data):
        return f"not used: {why}"
    width, height = size_for(record.width, record.height, data)
    lost = 0 if data.fit == PAD else round(100 * (1 - share_kept(record.width, record.height, (width, height))))
    return f"seen at {width} × {height} px" + (f", {lost}% cropped" if lost else "")


def evenly_spaced(items: Sequence[_T], count: int) -> list[_T]:
    """At most `count` of the items, evenly spaced, so that every group of a folder is represented."""
    return [items[index] for index in even_spacing.evenly_spaced(len(items), count)]


def first_images(folder: Path) -> Generator[Path, None, None]:
    """Some images of a folder, one from each subfolder in turn, without listing all of it."""
    try:
        subfolders = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir())
    except OSError:  # moved or unplugged since
        return
    sources = [_images_in(Path(path)) for path in [str(folder), *subfolders[:24]]]
    for _ in range(MAX_FILES_PER_FOLDER):
        if not sources:
            return
        source = sources.pop(0)
        path = next(source, None)
        if path is not None:
            sources.append(source)
            yield path


def _images_in(folder: Path) -> Iterator[Path]:
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    except OSError:
        return
    for name in names[:MAX_FILES_PER_FOLDER]:
        if looks_like_an_image(folder / name):
            yield folder / name

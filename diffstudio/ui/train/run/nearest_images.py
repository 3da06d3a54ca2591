"""Samples of a run with the training images nearest to them, read in a thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from PySide6.QtGui import QImage

from diffstudio.training.run.events import RunSamples
from diffstudio.training.run.run_folder import RunFolder
from diffstudio.ui.train.folder.thumbnails import thumbnail
from diffstudio.ui.widgets.images.image_reading import read_image

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class SamplePair:
    """A sample, and the training image nearest to it."""

    sample: QImage
    nearest: QImage  # null when it cannot be read any more
    path: Path  # of the training image
    prompt: str
    ratio: float | None  # of its distance to that of the next images: near 0 for a copy
    copied: bool

    def text(self) -> str:
        """What the pair shows, in a sentence."""
        what = "A copy of" if self.copied else "Nearest training image:"
        ratio = f" · distance ratio {self.ratio:.2f}" if self.ratio is not None else ""
        return f"{what} {self.path.name}{ratio}"


def most_alike(sheet: RunSamples, count: int) -> list[int]:
    """The samples to show: copies first, then those that are nearest to a training image."""

    def order(index: int) -> tuple[bool, float]:
        ratio = sheet.ratios[index] if index < len(sheet.ratios) else 1.0
        return index not in sheet.copied, ratio

    return sorted(range(len(sheet.nearest)), key=order)[:count]


def read_pairs(run: RunFolder, folder: Path, sheet: RunSamples, count: int, side: int) -> list[SamplePair]:
    """The `count` samples that are most alike to training images in `folder`, each `side` px."""
    image = read_image(run.path / sheet.ema)
    pairs = []
    for index in most_alike(sheet, count) if not image.isNull() else ():
        path = folder / sheet.nearest[index]
        inside = path.resolve().is_relative_to(folder.resolve())  # run folders come from elsewhere too
        pairs.append(
            SamplePair(
                _sample(image, sheet, index),
                (thumbnail(path, side) if inside else None) or QImage(),
                path,
                _at(sheet.prompts, index, ""),
                _at(sheet.ratios, index, None),
                index in sheet.copied,
            )
        )
    return pairs


def _sample(image: QImage, sheet: RunSamples, index: int) -> QImage:
    width, height = image.width() // max(1, sheet.columns), image.height() // max(1, sheet.rows)
    return image.copy(index % sheet.columns * width, index // sheet.columns * height, width, height)


def _at(values: Sequence[_T], index: int, default: _T) -> _T:
    return values[index] if index < len(values) else default

"""FolderReport: what the inspection of a folder of training images found. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from diffstudio.imaging.value_range import Range, SampleType


@dataclass(frozen=True, slots=True)
class InspectionProgress:
    done: int
    total: int  # 0 while the files are counted
    path: Path  # inside the folder


@dataclass(frozen=True, slots=True)
class ImageRecord:
    path: Path  # inside the folder
    width: int  # px, after EXIF rotation
    height: int
    caption: str | None
    group: str  # the first sub-folder, or "" for images in the folder itself
    has_alpha: bool  # at least one pixel is transparent


@dataclass(frozen=True, slots=True)
class Skipped:
    path: Path  # inside the folder
    why: str  # a clause, without a full stop


@dataclass(frozen=True, slots=True)
class RangeInFolder:
    """Which values become black and white in all images of one type of values: see `imaging.value_range`."""

    sample_type: SampleType
    low: float
    high: float
    paths: tuple[Path, ...]  # inside the folder

    def sentence(self) -> str:
        """`3 images with 16-bit values: 0 becomes black and 4,095 white`."""
        return (
            f"{count_of(len(self.paths), 'image')} with {self.sample_type.description}: "
            f"{self.low:,g} becomes black and {self.high:,g} white"
        )


@dataclass(frozen=True, slots=True)
class FolderReport:
    """The contents of a folder. Images are sorted by path. Duplicates are reported but kept: their captions may differ."""

    folder: Path
    images: tuple[ImageRecord, ...]
    skipped: tuple[Skipped, ...] = ()
    caption_problems: tuple[Skipped, ...] = ()  # captions that could not be read, or not completely
    duplicates: tuple[tuple[Path, Path], ...] = ()  # the same pixels: the first image and its copy
    near_duplicates: tuple[tuple[Path, Path], ...] = ()  # by perceptual hash
    too_small: tuple[Path, ...] = ()  # below MIN_SIDE
    groups: Mapping[str, int] = field(default_factory=dict)  # name -> number of images
    notes: tuple[Skipped, ...] = ()  # images that are used, and what in them could not be followed
    ranges: tuple[RangeInFolder, ...] = ()  # of images of more than 8 bits a channel

    @property
    def value_ranges(self) -> dict[SampleType, Range]:
        """The one range that all images of a type of values share."""
        return {found.sample_type: (found.low, found.high) for found in self.ranges}

    @property
    def captioned(self) -> int:
        return sum(image.caption is not None for image in self.images)

    @property
    def transparent(self) -> int:
        return sum(image.has_alpha for image in self.images)

    @property
    def sides(self) -> tuple[int, int, int]:
        """Minimum, median and maximum of the images' shorter sides, px."""
        shorter = sorted(min(image.width, image.height) for image in self.images)
        return shorter[0], shorter[len(shorter) // 2], shorter[-1]

    def smaller_than(self, size: int) -> int:
        """The number of images that are upscaled when training at `size` px."""
        return sum(max(image.width, image.height) < size for image in self.images)

    def sentence(self) -> str:
        """`1,792 images · 128 px · captions for all · 9 groups`."""
        smallest, _, largest = self.sides
        parts = [
            count_of(len(self.images), "image"),
            f"{smallest:,} px" if smallest == largest else f"{smallest:,} to {largest:,} px",
        ]
        if self.captioned:
            all_captioned = self.captioned == len(self.images)
            parts.append("captions for all" if all_captioned else f"captions for {self.captioned:,}")
        else:
            parts.append("no captions")
        if len(self.groups) > 1:
            parts.append(f"{len(self.groups):,} groups")
        if self.skipped:
            parts.append(f"{len(self.skipped):,} cannot be read")
        if self.too_small:
            parts.append(f"{len(self.too_small):,} too small")
        if self.duplicates:
            parts.append(count_of(len(self.duplicates), "duplicate"))
        return " · ".join(parts)


def nothing_to_train_on(folder: Path) -> str:
    return f"There is nothing to train on in {folder}"


def count_of(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"

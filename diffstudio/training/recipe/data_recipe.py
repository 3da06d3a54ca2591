"""The data section of a recipe: what the images of a folder become, and which of them are held out. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from diffstudio.imaging.levels import PixelForm
from diffstudio.imaging.value_range import Range, SampleType
from diffstudio.models.output_format import OutputFormat, ValueType


class ClassesName(StrEnum):
    """What the classes of a folder are."""

    FOLDERS = "folders"  # see training.data.folder_classes
    FIRST_FOLDER = "first folder"  # the first subfolder alone, as before version 0.3
    NONE = "none"


@dataclass(frozen=True, slots=True)
class RangesRecipe:
    """Which values of images of more than 8 bits a channel become black and white; empty: by the folder's images."""

    uint16: tuple[float, ...] = ()  # two numbers, of files with 16 bits and no sign
    integer: tuple[float, ...] = ()  # of other whole numbers
    floating: tuple[float, ...] = ()

    @classmethod
    def of(cls, ranges: Mapping[SampleType, Range]) -> RangesRecipe:
        return cls(**{sample_type.value: limits for sample_type, limits in ranges.items()})

    def as_mapping(self) -> dict[SampleType, Range]:
        found = {SampleType.UINT16: self.uint16, SampleType.INTEGER: self.integer, SampleType.FLOAT: self.floating}
        return {sample_type: (limits[0], limits[1]) for sample_type, limits in found.items() if limits}


class MasksName(StrEnum):
    """How mask files are used. LEAVE_OUT is the default, as in kohya-ss and OneTrainer."""

    USE = "use"  # they weight the loss of their image, pixel by pixel
    LEAVE_OUT = "leave out"


@dataclass(frozen=True, slots=True)
class DataRecipe:
    size: int = 64  # px, width and height; with `bucket` the side of a square of the same area
    background: str = "#ffffff"  # behind transparent pixels and padding
    fit: str = "auto"  # `crop`: the centre square; `bucket`: aspect buckets; `pad`: the whole image on the background
    buckets: tuple[int, ...] = ()  # of `bucket`: width, height, width, height … in px; empty: by the folder's shapes
    channels: int = 0  # 1: grey, 3: colour, others: those of arrays; 0: by the folder
    alpha: bool = False  # opacity as the last channel, rather than images on the background
    bits: int = 0  # of each value, 8 or 16; 0: by the folder
    held_out: float = 0.02  # fraction of the images that is kept for the held-out loss
    exclude: tuple[str, ...] = ()  # subfolders left out
    sequences_together: bool = True  # held out together or not at all: frames of a film, as near-duplicates are
    cross_splits: int = 0  # folds of the cross-validation that chooses the steps of the run; 0: `held_out` is used
    classes: ClassesName = ClassesName.FOLDERS
    flips: float = 0.3  # probability of a horizontal flip
    rotation_degrees: float = 0.0  # at most, in either direction
    translation: float = 0.0  # at most, in either direction, as a fraction of the side
    ranges: RangesRecipe = field(default_factory=RangesRecipe)
    augment_labels: bool = True  # condition the network on the augmentation (EDM, app. F.2)
    channel_ranges: tuple[float, ...] = ()  # of arrays: lowest and highest value of each channel, in turn
    masks: MasksName = MasksName.LEAVE_OUT
    unmasked_weight: float = 0.1  # weight of the loss where a mask is black; it is 1 where the mask is white

    @property
    def form(self) -> PixelForm:
        """What each file becomes. What is not chosen yet counts as in version 0.2: three channels of 8 bits."""
        limits = iter(self.channel_ranges)
        return PixelForm(
            channels=self.channels or 3 + self.alpha,
            bits=self.bits or 8,
            alpha=self.alpha,
            ranges=self.ranges.as_mapping(),
            channel_ranges=tuple(zip(limits, limits, strict=True)),
        )

    @property
    def output(self) -> OutputFormat:
        """What a network that is trained with it generates, in the values of the folder's files."""
        form = self.form
        if form.bits == 8:
            return OutputFormat(form.channels, form.alpha)
        if not form.is_image:
            return OutputFormat(form.channels, False, ValueType.FLOAT32, form.channel_ranges)
        whole = form.ranges.get(SampleType.UINT16)
        values = ValueType.UINT16 if whole or not form.ranges else ValueType.FLOAT32
        found = whole or next(iter(form.ranges.values()), (0.0, float(values.largest)))
        limits = (found,) * form.colours + ((0.0, 1.0),) * form.alpha
        return OutputFormat(form.channels, form.alpha, values, limits)

    @property
    def bucket_sizes(self) -> tuple[tuple[int, int], ...]:
        """Width and height of each aspect bucket, px; empty unless they are chosen."""
        sides = iter(self.buckets)
        return tuple(zip(sides, sides, strict=True)) if self.fit == "bucket" else ()

"""ImageDataset: the images of a folder as training steps read them, with captions, classes and what is held out.

No torch until batches are read.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diffstudio.errors import RunProblem, must_be_between
from diffstudio.models.files.file_access import file_stamp
from diffstudio.training.data.folder_classes import class_labels
from diffstudio.training.data.folder_report import FolderReport, Skipped
from diffstudio.training.data.image_cache import CachedImages, cached_images
from diffstudio.training.data.pixel_choice import AUTO, BUCKET, CROP, with_ranges
from diffstudio.training.data.preprocess import PAD, Size, background_colour, size_for
from diffstudio.training.data.split import folds_of_images, held_out_images
from diffstudio.training.data.usable_images import no_usable_images, usable_images
from diffstudio.training.recipe import DataRecipe
from diffstudio.training.recipe.data_recipe import MasksName

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MIN_SIZE, MAX_SIZE = 8, 2048  # px
_MOST_KEPT = 1 / 16  # of an accelerator's free memory, for all images of a dataset


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """N images with captions and class labels, in the order of their paths."""

    images: NDArray[Any]  # [N,H,W,C] of uint8 or uint16, a memory map; where sizes differ, all values in one row
    captions: tuple[str, ...]  # the first of each image, "" for an image without a caption
    classes: tuple[str, ...]  # names, sorted; "" for a folder without classes
    labels: NDArray[np.int64]  # [N], the index of each image's class in `classes`
    held_out: NDArray[np.bool_]  # [N], not trained on
    paths: tuple[Path, ...]  # inside the folder
    skipped: tuple[Skipped, ...]  # images that can no longer be read
    file: Path  # the cache
    sizes: NDArray[np.int64]  # [N, 2], width and height in px
    channels: int = 3
    unfit: tuple[Skipped, ...] = ()  # images whose channels or shape do not fit the others'
    alternatives: tuple[tuple[str, ...], ...] = ()  # all captions of each image; empty: none has more than one
    repeats: tuple[int, ...] = ()  # how many times as often as others each image is drawn; empty: all equally often
    masked: bool = False  # `images` has one more channel, the mask of each image; white if it has none
    folds: tuple[int, ...] = ()  # the fold of a cross-validation that each image is in, or -1; empty without one
    _kept: dict[torch.device, Tensor] = field(default_factory=dict, repr=False)  # `images`, shared by all folds

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def size(self) -> tuple[int, int]:
        """The most frequent width and height, px; the smaller one of a tie."""
        sizes, counts = np.unique(self.sizes, axis=0, return_counts=True)
        width, height = sizes[counts.argmax()]
        return int(width), int(height)

    @property
    def training_indices(self) -> NDArray[np.int64]:
        return np.flatnonzero(~self.held_out)

    @property
    def held_out_indices(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.held_out)

    def held_out_fold(self, fold: int) -> ImageDataset:
        """The same images with those of a fold held out."""
        return replace(self, held_out=np.array(self.folds) == fold)

    def all_captions(self) -> Iterator[str]:
        """Every caption of every image."""
        return itertools.chain.from_iterable(self.alternatives) if self.alternatives else iter(self.captions)

    def batch(self, indices: Sequence[int] | NDArray[np.int64] | Tensor, *, usual_size: bool = False) -> Tensor:
        """The images at `indices` as float32 [B,C,H,W] in [-1, 1], on the CPU.

        Images of different sizes, and with `usual_size` any others too, are cropped and resized to the dataset's most
        frequent one; training steps take those of one size together.
        """
        return self.batch_with_masks(indices, usual_size=usual_size)[:, : self.channels]

    def batch_with_masks(
        self,
        indices: Sequence[int] | NDArray[np.int64] | Tensor,
        *,
        usual_size: bool = False,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """The same images, on `device`; if `masked`, with the mask as the last channel: [B,C+1,H,W] in [-1,1]."""
        import torch

        stored = self._stored_channels
        chosen = np.asarray(indices, dtype=np.int64)
        if self.images.ndim == 4:
            return self._of_one_size(chosen, torch.device(device))
        offsets = self._offsets[chosen]
        pixels = [
            self.images[start : start + width * height * stored].reshape(height, width, stored)
            for start, (width, height) in zip(offsets, self.sizes[chosen], strict=True)
        ]
        if len({image.shape for image in pixels}) == 1 and not usual_size:
            return _as_tensor(np.stack(pixels), device)
        images = [_covering(_as_tensor(image[None], device), self.size) for image in pixels]
        return torch.cat(images) if images else torch.zeros((0, stored, *self.size[::-1]), device=device)

    def keep_on(self, device: torch.device) -> None:
        """Copy all images to an accelerator, for batches there, if they take a small part of its free memory."""
        import torch

        from diffstudio.models.memory.devices import free_bytes

        if device.type == "cpu" or self.images.ndim != 4 or self.images.dtype != np.uint8 or device in self._kept:
            return
        if self.images.nbytes <= _MOST_KEPT * free_bytes(device):
            self._kept[device] = torch.from_numpy(np.array(self.images)).to(device)

    def _of_one_size(self, chosen: NDArray[np.int64], device: torch.device) -> Tensor:
        import torch

        kept = self._kept.get(device)
        if kept is None:
            return _as_tensor(self.images[chosen], device)
        return _scaled(kept[torch.from_numpy(chosen).to(device)])

    def rows_of(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        """The images at `indices` as they are stored in `images`, in that order."""
        if self.images.ndim == 4:
            rows: NDArray[Any] = self.images[indices]
            return rows
        values = self.sizes.prod(axis=1) * self._stored_channels
        return np.concatenate([self.images[self._offsets[index] :][: values[index]] for index in indices])

    def buckets_of(self, indices: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """`indices` by the size of their images: one list for each size, by width."""
        sizes = self.sizes[indices]
        return [indices[(sizes == size).all(axis=1)] for size in np.unique(sizes, axis=0)]

    @property
    def _stored_channels(self) -> int:
        return self.channels + self.masked

    @cached_property
    def _offsets(self) -> NDArray[np.int64]:
        """[N]: where each image begins in a row of all values."""
        values: NDArray[np.int64] = self.sizes.prod(axis=1) * self._stored_channels
        ends: NDArray[np.int64] = np.cumsum(values)
        return ends - values


def _as_tensor(pixels: NDArray[Any], device: torch.device | str) -> Tensor:
    """uint8 or uint16 [B,H,W,C] -> float32 [B,C,H,W] in [-1,1], computed on `device`, to which few bytes travel."""
    import torch

    half = 127.5 if pixels.dtype == np.uint8 else 32767.5
    values = np.array(pixels) if pixels.dtype == np.uint8 else pixels.astype(np.float32)  # a copy, out of the map
    return _scaled(torch.from_numpy(values).to(device), half)


def _scaled(pixels: Tensor, half: float = 127.5) -> Tensor:
    """[B,H,W,C] of 0 to 2 * half -> float32 [B,C,H,W] in [-1,1]."""
    import torch

    return pixels.permute(0, 3, 1, 2).contiguous().to(torch.float32).div_(half).sub_(1)


def _covering(images: Tensor, size: Size) -> Tensor:
    """[B,C,h,w] -> [B,C,H,W], resized to cover width and height `size` and cropped to its centre."""
    import torch.nn.functional as functional

    width, height = size
    scale = max(width / images.shape[-1], height / images.shape[-2])
    inner = max(height, round(images.shape[-2] * scale)), max(width, round(images.shape[-1] * scale))
    larger = functional.interpolate(images, inner, mode="bilinear", antialias=True)
    top, left = (inner[0] - height) // 2, (inner[1] - width) // 2
    return larger[..., top : top + height, left : left + width]


def build_dataset(
    report: FolderReport,
    data: DataRecipe,
    cache_folder: Path,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> ImageDataset:
    """The images of an inspected folder, from the cache when nothing has changed.

    `on_progress(done, images)` and `cancelled()` are called after each decoded image. Interrupted when `cancelled`
    returns True, FolderProblem when the recipe excludes every image, RunProblem for invalid settings, StorageProblem
    when the disk is full. None of them leaves an unfinished file.
    """
    _check(data)
    records, unfit = usable_images(report, data)
    if not records:
        raise no_usable_images(report, unfit, data)
    stamps = {record.path: stamp for record in records if (stamp := file_stamp(report.folder / record.path))}
    lost = [Skipped(record.path, "the file no longer exists") for record in records if record.path not in stamps]
    records = [record for record in records if record.path in stamps]
    data = with_ranges(data, report)
    if data.masks is MasksName.USE and all(record.mask is None for record in records):
        data = replace(data, masks=MasksName.LEAVE_OUT)
    cached = cached_images(report.folder, records, stamps, data, cache_folder, on_progress, cancelled)
    return _as_dataset(cached, report, data, [*lost, *cached.unreadable], unfit)


def _check(data: DataRecipe) -> None:
    if not MIN_SIZE <= data.size <= MAX_SIZE:
        raise RunProblem(f"recipe.data.size is {data.size} px", must_be_between(MIN_SIZE, MAX_SIZE))
    if data.fit not in (AUTO, CROP, BUCKET, PAD):
        raise RunProblem(f"recipe.data.fit is {data.fit!r}", "it must be `auto`, `crop`, `bucket` or `pad`")
    if not 0 <= data.held_out < 1:
        raise RunProblem(f"recipe.data.held_out is {data.held_out}", "it must be at least 0 and below 1")
    background_colour(data)


def _as_dataset(
    cached: CachedImages, report: FolderReport, data: DataRecipe, lost: Sequence[Skipped], unfit: Sequence[Skipped]
) -> ImageDataset:
    records = cached.records
    classes, labels = class_labels(records, data.classes)
    several = any(len(record.captions) > 1 for record in records)
    repeated = any(record.repeats > 1 for record in records)
    return ImageDataset(
        images=cached.pixels,
        captions=tuple(record.caption or "" for record in records),
        classes=classes,
        labels=labels,
        held_out=held_out_images(records, labels, report, data),
        paths=tuple(record.path for record in records),
        skipped=tuple(lost),
        file=cached.file,
        alternatives=tuple(record.captions for record in records) if several else (),
        repeats=tuple(record.repeats for record in records) if repeated else (),
        sizes=np.array([size_for(record.width, record.height, data) for record in records], dtype=np.int64),
        channels=data.form.channels,
        masked=data.masks is MasksName.USE,
        unfit=tuple(unfit),
        folds=folds_of_images(records, labels, report, data) if data.cross_splits else (),
    )

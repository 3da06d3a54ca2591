"""ImageDataset: the images of a folder, decoded once into a memory-mapped cache file that training steps read.

The cache file is a plain `.npy` of uint8 or uint16 [N,H,W,C], or in one row where sizes differ (aspect buckets). Its
name is a hash of what it was made from: the folder, the paths, sizes and modification times of the files, and the part of
the recipe that affects the pixels. It is written atomically, so a file with the right name is complete. No torch except
in `batch`.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import os
import shutil
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from diffstudio.atomic import atomic_write, remove_part_files
from diffstudio.errors import FolderProblem, ImageProblem, Interrupted, RunProblem, StorageProblem, must_be_between
from diffstudio.imaging.levels import Levels
from diffstudio.models.files.file_access import FileStamp, file_stamp
from diffstudio.storage_errors import storage_errors
from diffstudio.training.data.folder_classes import first_folder
from diffstudio.training.data.folder_report import FolderReport, ImageRecord, Skipped, nothing_to_train_on
from diffstudio.training.data.inspect_folder import map_in_threads
from diffstudio.training.data.pixel_choice import AUTO, BUCKET, CROP, why_unfit, with_ranges
from diffstudio.training.data.preprocess import PAD, Size, background_colour, prepare_image, prepare_mask, size_for
from diffstudio.training.data.split import deal_folds, held_out_by_folder, held_out_by_hash, with_every_class_trained
from diffstudio.training.recipe.data_recipe import ClassesName, DataRecipe, MasksName

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 2  # of the cached pixels: raise it when the same recipe gives different pixels
MIN_SIZE, MAX_SIZE = 8, 2048  # px
KEPT_DAYS = 30  # since the last use of a cache file
_HEADER_BYTES = 128  # fixed, so that the number of images can be corrected at the end
_SPARE_BYTES = 16 * 2**20  # left free on the disk


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
        self, indices: Sequence[int] | NDArray[np.int64] | Tensor, *, usual_size: bool = False
    ) -> Tensor:
        """The same images; if `masked`, with the mask as the last channel: [B,C+1,H,W] in [-1,1]."""
        import torch

        stored = self._stored_channels
        chosen = np.asarray(indices, dtype=np.int64)
        if self.images.ndim == 4:
            return _as_tensor(self.images[chosen])
        offsets = self._offsets[chosen]
        pixels = [
            self.images[start : start + width * height * stored].reshape(height, width, stored)
            for start, (width, height) in zip(offsets, self.sizes[chosen], strict=True)
        ]
        if len({image.shape for image in pixels}) == 1 and not usual_size:
            return _as_tensor(np.stack(pixels))
        images = [_covering(_as_tensor(image[None]), self.size) for image in pixels]
        return torch.cat(images) if images else torch.zeros((0, stored, *self.size[::-1]))

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


def _as_tensor(pixels: NDArray[Any]) -> Tensor:
    """uint8 or uint16 [B,H,W,C] -> float32 [B,C,H,W] in [-1,1]."""
    import torch

    half = 127.5 if pixels.dtype == np.uint8 else 32767.5
    values = np.array(pixels) if pixels.dtype == np.uint8 else pixels.astype(np.float32)  # a copy, out of the map
    return torch.from_numpy(values).permute(0, 3, 1, 2).contiguous().to(torch.float32).div_(half).sub_(1)


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
    records = [record for record in report.images if not _excluded(record.path, data.exclude)]
    if not records:
        raise FolderProblem(
            nothing_to_train_on(report.folder), "every subfolder is excluded", "Exclude fewer subfolders"
        )
    unfit = [Skipped(record.path, why) for record in records if (why := why_unfit(record, data))]
    left_out = {one.path for one in unfit}
    records = [record for record in records if record.path not in left_out]
    if not records:
        raise FolderProblem(
            nothing_to_train_on(report.folder),
            f"{unfit[0].path}: {unfit[0].why}",
            "Change the recipe's channels or fit",
        )
    stamps = {record.path: stamp for record in records if (stamp := file_stamp(report.folder / record.path))}
    lost = [Skipped(record.path, "the file no longer exists") for record in records if record.path not in stamps]
    records = [record for record in records if record.path in stamps]
    data = with_ranges(data, report)
    if data.masks is MasksName.USE and all(record.mask is None for record in records):
        data = replace(data, masks=MasksName.LEAVE_OUT)
    masks = [record.mask for record in records if record.mask is not None] if data.masks is MasksName.USE else []
    mask_stamps = {mask: stamp for mask in masks if (stamp := file_stamp(report.folder / mask))}
    file = cache_folder / f"{_key(report.folder, stamps, mask_stamps, data)}.npy"

    images = _open_cache(file, records, data)
    if images is None:
        with storage_errors(_not_written(cache_folder), cache_folder):
            cache_folder.mkdir(parents=True, exist_ok=True)
            _delete_old_files(cache_folder, keep=file)
            _check_space(cache_folder, math.prod(_shape(records, data)) * data.form.bits // 8)
            bad = _write(file, report.folder, records, data, on_progress, cancelled)
        lost += bad
        gone = {skipped.path for skipped in bad}
        records = [record for record in records if record.path not in gone]
        if not records:
            raise FolderProblem(
                nothing_to_train_on(report.folder),
                "none of its images can be read any more",
                "Inspect the folder again",
            )
        images = _open_cache(file, records, data)
        if images is None:
            raise StorageProblem(f"The image cache in {cache_folder} cannot be read", remedy="Try again")
    with contextlib.suppress(OSError):
        os.utime(file)  # the time of its last use
    return _as_dataset(images, records, report, data, lost, unfit, file)


def count_held_out(report: FolderReport, data: DataRecipe) -> int:
    """How many of the images of an inspected folder `build_dataset` holds out."""
    records = [
        record for record in report.images if not _excluded(record.path, data.exclude) and not why_unfit(record, data)
    ]
    _, labels = _classes(records, data)
    return int(_held_out(records, labels, report, data).sum())


def _check(data: DataRecipe) -> None:
    if not MIN_SIZE <= data.size <= MAX_SIZE:
        raise RunProblem(f"recipe.data.size is {data.size} px", must_be_between(MIN_SIZE, MAX_SIZE))
    if data.fit not in (AUTO, CROP, BUCKET, PAD):
        raise RunProblem(f"recipe.data.fit is {data.fit!r}", "it must be `auto`, `crop`, `bucket` or `pad`")
    if not 0 <= data.held_out < 1:
        raise RunProblem(f"recipe.data.held_out is {data.held_out}", "it must be at least 0 and below 1")
    background_colour(data)


def _excluded(path: Path, exclude: tuple[str, ...]) -> bool:
    folders = path.parent.parts
    return any(folders[: len(parts)] == parts for name in exclude if (parts := Path(name).parts))


def _key(folder: Path, stamps: dict[Path, FileStamp], mask_stamps: dict[Path, FileStamp], data: DataRecipe) -> str:
    inputs: list[object] = [
        FORMAT,
        os.fspath(folder.resolve()),
        data.size,
        background_colour(data),
        CROP if data.fit == AUTO else data.fit,
        sorted(data.ranges.as_mapping().items()),
        [[path.as_posix(), *stamp] for path, stamp in stamps.items()],
    ]
    if data.masks is MasksName.USE:
        inputs += ["masks", *((path.as_posix(), *stamp) for path, stamp in mask_stamps.items())]
    form = data.form
    if (form.channels, form.bits) != (3, 8) or data.bucket_sizes:  # else as in version 0.2, whose files stay valid
        inputs += [form.channels, form.bits, form.alpha, data.channel_ranges, data.bucket_sizes]
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:32]


def _shape(records: Sequence[ImageRecord], data: DataRecipe) -> tuple[int, ...]:
    """Of the cached array."""
    channels = data.form.channels + (data.masks is MasksName.USE)
    if not data.bucket_sizes:
        return len(records), data.size, data.size, channels
    return (channels * sum(math.prod(size_for(record.width, record.height, data)) for record in records),)


def _open_cache(file: Path, records: Sequence[ImageRecord], data: DataRecipe) -> NDArray[Any] | None:
    """The memory map; None when the file is missing or does not match."""
    try:
        images = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    matches = images.dtype == (np.uint8 if data.form.bits == 8 else np.uint16) and images.shape == _shape(records, data)
    return images if matches else None


def _not_written(cache_folder: Path) -> str:
    return f"The image cache cannot be written to {cache_folder}"


def _check_space(cache_folder: Path, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(cache_folder).free
    needed_bytes += _SPARE_BYTES
    if free_bytes < needed_bytes:
        raise StorageProblem(
            f"There is no room for the image cache in {cache_folder}",
            f"{needed_bytes / 2**20:,.0f} MiB are needed and {free_bytes / 2**20:,.0f} MiB are free",
            "Free some space, or train at a smaller image size",
        )


def _write(
    file: Path,
    folder: Path,
    records: Sequence[ImageRecord],
    data: DataRecipe,
    on_progress: Callable[[int, int], None] | None,
    cancelled: Callable[[], bool] | None,
) -> list[Skipped]:
    """Decode the images into `file`; returns those that could not be read.

    Written as a file, not through a memory map: on a full disk that would end the process.
    """

    def decode(record: ImageRecord) -> Levels | Skipped:
        try:
            return _decoded(folder, record, data)
        except ImageProblem as error:
            return Skipped(record.path, error.why)

    bad: list[Skipped] = []
    with atomic_write(file, _not_written(file.parent)) as out:
        _write_header(out, _shape(records, data), data)
        with contextlib.closing(map_in_threads(decode, records)) as results:
            for done, result in enumerate(results, start=1):
                if isinstance(result, Skipped):
                    bad.append(result)
                else:
                    out.write(result.astype(result.dtype.newbyteorder("<"), copy=False).tobytes())
                if on_progress is not None:
                    on_progress(done, len(records))
                if cancelled is not None and cancelled():
                    raise Interrupted("Stopped while decoding the images")
        if bad:
            gone = {skipped.path for skipped in bad}
            out.seek(0)
            _write_header(out, _shape([record for record in records if record.path not in gone], data), data)
    return bad


def _decoded(folder: Path, record: ImageRecord, data: DataRecipe) -> Levels:
    """The image [H,W,C] as it is stored, with the mask as the last channel if masks are used. ImageProblem."""
    size = size_for(record.width, record.height, data)
    levels = prepare_image(folder / record.path, data, size)
    if data.masks is MasksName.LEAVE_OUT:
        return levels
    if record.mask is None:
        mask: Levels = np.full_like(levels[..., :1], data.form.largest)
    else:
        try:
            mask = prepare_mask(folder / record.mask, data, size, (record.width, record.height))
        except ImageProblem as error:
            raise ImageProblem(error.what, f"its mask {record.mask}: {error.why}") from error
    return np.concatenate([levels, mask], axis=2)


def _write_header(out: BinaryIO, shape: tuple[int, ...], data: DataRecipe) -> None:
    """Version 1.0 of numpy.lib.format, padded to a fixed length."""
    kind = "|u1" if data.form.bits == 8 else "<u2"
    about = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    prefix = b"\x93NUMPY\x01\x00" + struct.pack("<H", _HEADER_BYTES - 10)
    out.write(prefix + about.ljust(_HEADER_BYTES - 11).encode("ascii") + b"\n")


def _delete_old_files(cache_folder: Path, keep: Path) -> None:
    """Delete cache files that nobody used for KEPT_DAYS and unfinished files of killed processes."""
    remove_part_files([cache_folder])
    now = time.time()
    for file in cache_folder.glob("*.npy"):
        with contextlib.suppress(OSError):  # in use on Windows, or deleted already
            if file != keep and now - file.stat().st_mtime > KEPT_DAYS * 86400:
                file.unlink()


def _as_dataset(
    images: NDArray[Any],
    records: Sequence[ImageRecord],
    report: FolderReport,
    data: DataRecipe,
    lost: Sequence[Skipped],
    unfit: Sequence[Skipped],
    file: Path,
) -> ImageDataset:
    classes, labels = _classes(records, data)
    folds = _folds(records, labels, report, data) if data.cross_splits else ()
    several = any(len(record.captions) > 1 for record in records)
    repeated = any(record.repeats > 1 for record in records)
    return ImageDataset(
        images=images,
        captions=tuple(record.caption or "" for record in records),
        classes=classes,
        labels=labels,
        held_out=_held_out(records, labels, report, data),
        paths=tuple(record.path for record in records),
        skipped=tuple(lost),
        file=file,
        alternatives=tuple(record.captions for record in records) if several else (),
        repeats=tuple(record.repeats for record in records) if repeated else (),
        sizes=np.array([size_for(record.width, record.height, data) for record in records], dtype=np.int64),
        channels=data.form.channels,
        masked=data.masks is MasksName.USE,
        unfit=tuple(unfit),
        folds=folds,
    )


def _classes(records: Sequence[ImageRecord], data: DataRecipe) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The names of the classes, sorted, and the index of each image's class [N]."""
    groups = [_class_of(record, data.classes) for record in records]
    classes = tuple(sorted(set(groups)))
    index_of = {name: index for index, name in enumerate(classes)}
    return classes, np.array([index_of[group] for group in groups], dtype=np.int64)


def _class_of(record: ImageRecord, classes: ClassesName) -> str:
    match classes:
        case ClassesName.FOLDERS:
            return record.group
        case ClassesName.FIRST_FOLDER:
            return first_folder(record.path)
        case ClassesName.NONE:
            return ""


def _held_out(
    records: Sequence[ImageRecord], labels: NDArray[np.int64], report: FolderReport, data: DataRecipe
) -> NDArray[np.bool_]:
    """[N]: which images are not trained on."""
    paths, same, similar = [record.path for record in records], report.duplicates, report.near_duplicates
    if data.cross_splits:
        return np.zeros(len(paths), dtype=bool)
    if data.classes is ClassesName.FIRST_FOLDER:  # as runs were split before
        return held_out_by_hash(paths, [*same, *similar], data.held_out)
    by_hash = held_out_by_hash(paths, [*similar, *same], data.held_out)  # a copy follows the group of its original
    by_folder = held_out_by_folder(records)
    return with_every_class_trained(by_hash, labels) if by_folder is None else by_folder


def _folds(
    records: Sequence[ImageRecord], labels: NDArray[np.int64], report: FolderReport, data: DataRecipe
) -> tuple[int, ...]:
    """In which fold of a cross-validation each image is held out, or -1."""
    paths, similar = [record.path for record in records], [*report.duplicates, *report.near_duplicates]
    return tuple(deal_folds(paths, similar, labels, data.cross_splits).tolist())

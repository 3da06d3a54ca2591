"""The decoded images of a folder in one file, which training steps read as a memory map. No torch.

The file is a plain `.npy` of uint8 or uint16 [N,H,W,C], or in one row where sizes differ (aspect buckets). Its name is a
hash of what it was made from: the folder, the paths, sizes and modification times of the files, and the part of the
recipe that affects the pixels. It is written atomically, so a file with the right name is complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from diffstudio.atomic import atomic_write, remove_part_files
from diffstudio.errors import FolderProblem, ImageProblem, Interrupted, StorageProblem
from diffstudio.imaging.levels import Levels
from diffstudio.models.files.file_access import FileStamp, file_stamp
from diffstudio.storage_errors import storage_errors
from diffstudio.training.data.folder_report import ImageRecord, Skipped, nothing_to_train_on
from diffstudio.training.data.inspect_folder import map_in_threads
from diffstudio.training.data.pixel_choice import AUTO, CROP
from diffstudio.training.data.preprocess import background_colour, prepare_image, prepare_mask, size_for
from diffstudio.training.recipe import DataRecipe
from diffstudio.training.recipe.data_recipe import MasksName

FORMAT = 2  # of the cached pixels: raise it when the same recipe gives different pixels
KEPT_DAYS = 30  # since the last use of a cache file
_HEADER_BYTES = 128  # fixed, so that the number of images can be corrected at the end
_SPARE_BYTES = 16 * 2**20  # left free on the disk


@dataclass(frozen=True, eq=False, slots=True)
class CachedImages:
    """The decoded images of a folder."""

    pixels: NDArray[Any]  # a memory map: uint8 or uint16 [N,H,W,C]; where sizes differ, all values in one row
    file: Path
    records: Sequence[ImageRecord]  # [N]
    unreadable: Sequence[Skipped]  # found by this call; a file that was complete already has none


def cached_images(
    folder: Path,
    records: Sequence[ImageRecord],
    stamps: Mapping[Path, FileStamp],
    data: DataRecipe,
    cache_folder: Path,
    on_progress: Callable[[int, int], None] | None,
    cancelled: Callable[[], bool] | None,
) -> CachedImages:
    """The images of `records`, from the cache when nothing has changed; `stamps` are those of their files.

    `on_progress(done, images)` and `cancelled()` are called after each decoded image. Interrupted when `cancelled`
    returns True, FolderProblem when no image can be read, StorageProblem. None of them leaves an unfinished file.
    """
    masks = [record.mask for record in records if record.mask is not None] if data.masks is MasksName.USE else []
    mask_stamps = {mask: stamp for mask in masks if (stamp := file_stamp(folder / mask))}
    file = cache_folder / f"{_key(folder, stamps, mask_stamps, data)}.npy"
    bad: list[Skipped] = []
    pixels = _open_cache(file, records, data)
    if pixels is None:
        with storage_errors(_not_written(cache_folder), cache_folder):
            cache_folder.mkdir(parents=True, exist_ok=True)
            _delete_old_files(cache_folder, keep=file)
            _check_space(cache_folder, math.prod(_shape(records, data)) * data.form.bits // 8)
            bad = _write(file, folder, records, data, on_progress, cancelled)
        records = _without(bad, records)
        if not records:
            why = "none of its images can be read any more"
            raise FolderProblem(nothing_to_train_on(folder), why, "Inspect the folder again")
        pixels = _open_cache(file, records, data)
        if pixels is None:
            raise StorageProblem(f"The image cache in {cache_folder} cannot be read", remedy="Try again")
    with contextlib.suppress(OSError):
        os.utime(file)  # the time of its last use
    return CachedImages(pixels, file, records, bad)


def _without(bad: Sequence[Skipped], records: Sequence[ImageRecord]) -> Sequence[ImageRecord]:
    gone = {skipped.path for skipped in bad}
    return [record for record in records if record.path not in gone]


def _key(
    folder: Path, stamps: Mapping[Path, FileStamp], mask_stamps: Mapping[Path, FileStamp], data: DataRecipe
) -> str:
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
            out.seek(0)
            _write_header(out, _shape(_without(bad, records), data), data)
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

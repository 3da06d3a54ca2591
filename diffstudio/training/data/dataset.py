"""ImageDataset: the pictures of a folder, decoded once into one memory-mapped file, so that reading never slows a step.

The file is an ordinary `.npy` of uint8 [N, size, size, 3] named by a hash of what it was made from: the folder, the
paths, sizes and times of the files, and the part of the recipe that decides the pixels. It is written under another
name and renamed when whole, so that a file of the right name is always a good one. No torch but in `batch`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import struct
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from diffstudio.atomic import atomic_write, remove_part_files, storage_errors
from diffstudio.errors import FolderProblem, ImageProblem, Interrupted, RunProblem, StorageProblem
from diffstudio.imaging.reader import read_image
from diffstudio.training.data.inspect_folder import FolderReport, ImageRecord, Skipped, map_in_threads
from diffstudio.training.data.preprocess import background_colour, resize_to_square
from diffstudio.training.recipe import DataRecipe

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1  # of the prepared pixels: raise it when the same recipe gives other ones
SMALLEST_SIZE, LARGEST_SIZE = 8, 2048
ALWAYS_HELD_OUT_FROM = 20  # pictures: with so many, at least one is kept apart
LARGEST_CLUSTER = 0.05  # of the pictures: above it, similar ones may lie on both sides of the division
KEPT_DAYS = 30  # a prepared file that was not used for so long is deleted
_HEADER_BYTES = 128  # fixed, so that the number of pictures can be corrected at the end
_SPARE_BYTES = 16 * 2**20  # of the disk, which the prepared pictures leave to others


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """N pictures and what is known of each, in the order of their paths."""

    images: np.ndarray  # uint8 [N, size, size, 3], a memory map
    captions: tuple[str, ...]  # "" where there is none
    classes: tuple[str, ...]  # names of the groups, sorted; "" stands for the folder itself
    labels: np.ndarray  # int64 [N], the place of each picture's group in `classes`
    held_out: np.ndarray  # bool [N], kept apart from training
    paths: tuple[Path, ...]  # inside the folder
    skipped: tuple[Skipped, ...]  # pictures that were lost since the inspection
    file: Path

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def size(self) -> int:
        """px a side."""
        return int(self.images.shape[1])

    @property
    def training_indices(self) -> np.ndarray:
        """int64, the pictures to train on."""
        return np.flatnonzero(~self.held_out)

    @property
    def held_out_indices(self) -> np.ndarray:
        """int64, the pictures kept apart."""
        return np.flatnonzero(self.held_out)

    def batch(self, indices: Sequence[int] | np.ndarray | Tensor) -> Tensor:
        """The pictures at `indices` as float32 [B, 3, size, size] in [-1, 1], on the CPU."""
        import torch

        pixels = self.images[np.asarray(indices, dtype=np.int64)]  # a copy, out of the map
        images = torch.from_numpy(np.asarray(pixels)).permute(0, 3, 1, 2).contiguous()
        return images.to(torch.float32).div_(127.5).sub_(1)


def build_dataset(
    report: FolderReport,
    data: DataRecipe,
    cache_folder: Path,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> ImageDataset:
    """The report's pictures as a set, from the cache when nothing has changed.

    `on_progress(done, pictures)` and `cancelled()` are called between pictures; after `cancelled` says yes comes
    Interrupted. FolderProblem when the recipe leaves no picture, RunProblem when it asks for what cannot be done,
    StorageProblem when the disk is full: no half-written file stays behind any of them.
    """
    _check(data)
    records = [record for record in report.images if not _excluded(record.path, data.exclude)]
    if not records:
        raise FolderProblem(
            f"There is nothing to train on in {report.folder}", "all its sub-folders are left out", "Leave out fewer"
        )
    stamps = {record.path: stamp for record in records if (stamp := _stamp(report.folder / record.path))}
    lost = [Skipped(record.path, "it is not there any more") for record in records if record.path not in stamps]
    records = [record for record in records if record.path in stamps]
    file = cache_folder / f"{_key(report.folder, stamps, data)}.npy"

    images = _open_prepared(file, len(records), data.size)
    if images is None:
        with storage_errors(_not_written(cache_folder), cache_folder):
            cache_folder.mkdir(parents=True, exist_ok=True)
            _tidy(cache_folder, keep=file)
            _check_space(cache_folder, len(records) * data.size**2 * 3)
            bad = _write(file, report.folder, records, data, on_progress, cancelled)
        lost += bad
        gone = {skipped.path for skipped in bad}
        records = [record for record in records if record.path not in gone]
        if not records:
            raise FolderProblem(
                f"There is nothing to train on in {report.folder}",
                "not one of its pictures can be read any more",
                "Look at the folder again",
            )
        images = _open_prepared(file, len(records), data.size)
        if images is None:
            raise StorageProblem(f"The prepared pictures in {cache_folder} cannot be read back", remedy="Try again")
    with contextlib.suppress(OSError):
        os.utime(file)  # used today
    return _picture_set(images, records, report, data, lost, file)


def _check(data: DataRecipe) -> None:
    if not SMALLEST_SIZE <= data.size <= LARGEST_SIZE:
        raise RunProblem(
            f"The recipe's picture size is {data.size} px", f"it goes from {SMALLEST_SIZE} to {LARGEST_SIZE}"
        )
    if data.fit not in ("pad", "crop"):
        raise RunProblem(f"The recipe's fit is {data.fit!r}", "it may be `pad` or `crop`")
    if not 0 <= data.held_out < 1:
        raise RunProblem(f"The recipe holds out {data.held_out} of the pictures", "it goes from 0 to below 1")
    background_colour(data)


def _excluded(path: Path, exclude: tuple[str, ...]) -> bool:
    folders = path.parent.parts
    return any(folders[: len(parts)] == parts for name in exclude if (parts := Path(name).parts))


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_size, about.st_mtime_ns


def _key(folder: Path, stamps: dict[Path, tuple[int, int]], data: DataRecipe) -> str:
    made_from = [
        FORMAT,
        os.fspath(folder.resolve()),
        data.size,
        background_colour(data),
        data.fit,
        [[path.as_posix(), *stamp] for path, stamp in stamps.items()],
    ]
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:32]


def _open_prepared(file: Path, count: int, size: int) -> np.ndarray | None:
    """The map, or None when the file is not there or is not what it should be."""
    try:
        images = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return images if images.dtype == np.uint8 and images.shape == (count, size, size, 3) else None


def _not_written(cache_folder: Path) -> str:
    return f"The prepared images cannot be written to {cache_folder}"


def _check_space(cache_folder: Path, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(cache_folder).free
    needed_bytes += _SPARE_BYTES
    if free_bytes < needed_bytes:
        raise StorageProblem(
            f"There is no room for the prepared pictures in {cache_folder}",
            f"{needed_bytes / 2**20:,.0f} MiB are needed and {free_bytes / 2**20:,.0f} MiB are free",
            "Free some space, or train at a smaller size",
        )


def _write(
    file: Path,
    folder: Path,
    records: Sequence[ImageRecord],
    data: DataRecipe,
    on_progress: Callable[[int, int], None] | None,
    cancelled: Callable[[], bool] | None,
) -> list[Skipped]:
    """Decode everything into `file`; returns what could not be read. Plain writes: a full disk kills a memory map."""
    background = background_colour(data)

    def decoded(record: ImageRecord) -> np.ndarray | Skipped:
        try:
            picture, _ = read_image(folder / record.path, at_least=3 * data.size)
            return resize_to_square(picture, data.size, background, data.fit)
        except ImageProblem as error:
            return Skipped(record.path, error.why)

    bad: list[Skipped] = []
    with atomic_write(file, _not_written(file.parent)) as out:
        _write_header(out, len(records), data.size)
        with contextlib.closing(map_in_threads(decoded, records)) as results:
            for done, result in enumerate(results, start=1):
                if isinstance(result, Skipped):
                    bad.append(result)
                else:
                    out.write(result.tobytes())
                if on_progress is not None:
                    on_progress(done, len(records))
                if cancelled is not None and cancelled():
                    raise Interrupted("Preparing the pictures was stopped")
        if bad:
            out.seek(0)
            _write_header(out, len(records) - len(bad), data.size)
    return bad


def _write_header(out: BinaryIO, count: int, size: int) -> None:
    """Version 1.0 of numpy.lib.format, padded to a fixed length."""
    about = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({count}, {size}, {size}, 3), }}"
    prefix = b"\x93NUMPY\x01\x00" + struct.pack("<H", _HEADER_BYTES - 10)
    out.write(prefix + about.ljust(_HEADER_BYTES - 11).encode("ascii") + b"\n")


def _tidy(cache_folder: Path, keep: Path) -> None:
    """Delete what nobody used for a month, and what a killed process left unfinished."""
    remove_part_files([cache_folder])
    now = time.time()
    for file in cache_folder.glob("*.npy"):
        with contextlib.suppress(OSError):  # in use on Windows, or deleted already
            if file != keep and now - file.stat().st_mtime > KEPT_DAYS * 86400:
                file.unlink()


def _picture_set(
    images: np.ndarray,
    records: Sequence[ImageRecord],
    report: FolderReport,
    data: DataRecipe,
    lost: Sequence[Skipped],
    file: Path,
) -> ImageDataset:
    classes = tuple(sorted({record.group for record in records}))
    paths = tuple(record.path for record in records)
    return ImageDataset(
        images=images,
        captions=tuple(record.caption or "" for record in records),
        classes=classes,
        labels=np.array([classes.index(record.group) for record in records], dtype=np.int64),
        held_out=_held_out(paths, [*report.duplicates, *report.near_duplicates], data.held_out),
        paths=paths,
        skipped=tuple(lost),
        file=file,
    )


def _held_out(paths: Sequence[Path], similar: Sequence[tuple[Path, Path]], fraction: float) -> np.ndarray:
    """bool [N]: the same pictures whatever else lies in the folder, by a hash of their paths.

    Pictures that look alike go to the same side, or the held-out loss would be told the answers.
    """
    first_of: dict[Path, Path] = {}
    for first, second in similar:
        first_of[second] = first_of.get(first, first)
    leaders = [first_of.get(path, path) for path in paths]
    cluster_sizes = Counter(leaders)
    too_many = max(2.0, LARGEST_CLUSTER * len(paths))
    leaders = [
        path if cluster_sizes[leader] > too_many else leader for path, leader in zip(paths, leaders, strict=True)
    ]
    places = np.array([_place(leader) for leader in leaders])  # float64 [N] in [0, 1)
    if fraction <= 0:
        return np.zeros(len(paths), dtype=bool)
    held_out = places < fraction
    if not held_out.any() and len(paths) >= ALWAYS_HELD_OUT_FROM:
        held_out = places == places.min()
    if held_out.all():
        held_out = places < 0
    return held_out


def _place(path: Path) -> float:
    digest = hashlib.sha256(path.as_posix().encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48

"""Inspection of a folder of images before training: images, captions, groups, duplicates and problems. No torch.

The sub-folders are groups. A caption is a UTF-8 `.txt` file next to its image (`cat.txt` or `cat.png.txt`). Every image
is decoded once, so that each one in the report can be read; for the others the report gives the reason.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from diffstudio.errors import CHOOSE_IMAGE_FOLDER, FolderProblem, ImageProblem
from diffstudio.imaging.reader import load_image
from diffstudio.imaging.value_range import Depth, ranges_of_folder
from diffstudio.training.data.caption_files import read_caption
from diffstudio.training.data.folder_layout import ImageFile, check_folder, list_folder
from diffstudio.training.data.folder_report import (
    FolderReport,
    ImageRecord,
    InspectionProgress,
    RangeInFolder,
    Skipped,
    count_of,
    nothing_to_train_on,
)
from diffstudio.training.data.near_duplicates import Fingerprint, fingerprint, near_duplicates

MIN_SIDE = 16  # px; smaller images are left out
PROGRESS_SECONDS = 0.05  # between two InspectionProgress
_DECODED_SIDE = 128  # px; decoded at least this large, enough for a perceptual hash

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class _ReadResult:
    record: ImageRecord | Skipped
    caption_problem: Skipped | None = None
    fingerprint: Fingerprint | None = None
    notes: tuple[Skipped, ...] = ()
    depth: Depth | None = None


def inspect_folder(folder: Path) -> Generator[InspectionProgress | FolderReport, None, None]:
    """Inspect every image in the folder and its sub-folders; the last item is the report.

    Closing the generator ends the work after the images that are being read. FolderProblem when the folder does not
    exist or has no image that can be used.
    """
    folder = Path(folder).expanduser()
    check_folder(folder)
    found: list[ImageFile] = []
    skipped: list[Skipped] = []
    others: Counter[str] = Counter()
    last_progress = time.monotonic()
    for item in list_folder(folder, others):
        if isinstance(item, Skipped):
            skipped.append(item)
        else:
            found.append(item)
        if time.monotonic() - last_progress >= PROGRESS_SECONDS:
            last_progress = time.monotonic()
            yield InspectionProgress(len(found), 0, item.path)
    if not found:
        raise _no_images(folder, skipped, others)
    found.sort(key=lambda file: file.path.as_posix())

    read: list[_ReadResult] = []
    yield InspectionProgress(0, len(found), found[0].path)
    with contextlib.closing(map_in_threads(lambda file: _read(folder, file), found)) as results:
        for done, result in enumerate(results, start=1):
            read.append(result)
            if time.monotonic() - last_progress >= PROGRESS_SECONDS or done == len(found):
                last_progress = time.monotonic()
                yield InspectionProgress(done, len(found), result.record.path)
    yield _report(folder, read, skipped)


def map_in_threads(
    function: Callable[[_T], _R], items: Iterable[_T], threads: int | None = None
) -> Generator[_R, None, None]:
    """`map` on a few threads, in order, with few results in memory at a time. Pillow decodes without the GIL."""
    threads = threads or min(4, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="images")
    pending: deque[Future[_R]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= 4 * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _no_images(folder: Path, skipped: list[Skipped], others: Counter[str]) -> FolderProblem:
    if skipped:
        worst = skipped[0]
        which = "its only image cannot" if len(skipped) == 1 else f"none of its {len(skipped):,} images can"
        why = f"{which} be used ({worst.path}: {worst.why})"
    elif others:
        kinds = ", ".join(f"{count:,} {suffix or 'without an extension'}" for suffix, count in others.most_common(3))
        why = f"it has {count_of(others.total(), 'file')} ({kinds}) but no images"
    else:
        why = "it has no files"
    return FolderProblem(nothing_to_train_on(folder), why, CHOOSE_IMAGE_FOLDER)


def _read(folder: Path, found: ImageFile) -> _ReadResult:
    try:
        loaded = load_image(folder / found.path, at_least=_DECODED_SIDE)
    except ImageProblem as error:
        return _ReadResult(Skipped(found.path, error.why))
    caption, caption_problem = None, None
    if found.caption is not None:
        caption, why = read_caption(folder / found.caption)
        caption_problem = Skipped(found.caption, why) if why else None
    group = found.path.parts[0] if len(found.path.parts) > 1 else ""
    record = ImageRecord(found.path, *loaded.size, caption, group, loaded.image.mode == "RGBA")
    notes = tuple(Skipped(found.path, note) for note in loaded.notes)
    return _ReadResult(record, caption_problem, fingerprint(loaded.image), notes, loaded.depth)


def _report(folder: Path, read: list[_ReadResult], skipped: list[Skipped]) -> FolderReport:
    images: list[ImageRecord] = []
    fingerprints: list[Fingerprint] = []
    used: list[_ReadResult] = []
    too_small: list[Path] = []
    for result in read:
        match result.record:
            case Skipped() as missing:
                skipped.append(missing)
            case ImageRecord() as record if min(record.width, record.height) < MIN_SIDE:
                too_small.append(record.path)
            case ImageRecord() as record if result.fingerprint is not None:
                images.append(record)
                used.append(result)
                fingerprints.append(result.fingerprint)
    if not images:
        small = [Skipped(path, f"it is smaller than {MIN_SIDE} px") for path in too_small]
        raise _no_images(folder, skipped + small, Counter())
    same, near = near_duplicates(fingerprints)
    return FolderReport(
        folder=folder,
        images=tuple(images),
        skipped=tuple(skipped),
        too_small=tuple(too_small),
        caption_problems=tuple(result.caption_problem for result in read if result.caption_problem),
        duplicates=tuple((images[first].path, images[second].path) for first, second in same),
        near_duplicates=tuple((images[first].path, images[second].path) for first, second in near),
        groups=dict(sorted(Counter(image.group for image in images).items())),
        notes=tuple(note for result in used for note in result.notes),
        ranges=_ranges(used),
    )


def _ranges(used: Sequence[_ReadResult]) -> tuple[RangeInFolder, ...]:
    deep = [(result.record.path, result.depth) for result in used if result.depth is not None]
    ranges = ranges_of_folder(depth for _, depth in deep)
    return tuple(
        RangeInFolder(kind, low, high, tuple(path for path, depth in deep if depth.sample_type is kind))
        for kind, (low, high) in ranges.items()
    )

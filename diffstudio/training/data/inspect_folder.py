"""Inspection of a folder of images before training: images, captions, groups, duplicates and problems. No torch.

The sub-folders are groups. A caption is a UTF-8 `.txt` file next to its image (`cat.txt` or `cat.png.txt`). Every image
is decoded once, so that each one in the report can be read; for the others the report gives the reason.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from diffstudio.errors import CHOOSE_IMAGE_FOLDER, NOT_A_PLAIN_FILE, FolderProblem, ImageProblem, unreadable
from diffstudio.imaging.formats import looks_like_an_image
from diffstudio.imaging.reader import load_image
from diffstudio.imaging.value_range import Depth, Range, SampleType, ranges_of_folder
from diffstudio.training.data.near_duplicates import Fingerprint, fingerprint, near_duplicates

MIN_SIDE = 16  # px; smaller images are left out
MAX_CAPTION_BYTES = 64 * 1024  # read from a caption file
PROGRESS_SECONDS = 0.05  # between two InspectionProgress
_DECODED_SIDE = 128  # px; decoded at least this large, enough for a perceptual hash

_T = TypeVar("_T")
_R = TypeVar("_R")


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
            f"{_count(len(self.paths), 'image')} with {self.sample_type.description}: "
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
            _count(len(self.images), "image"),
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
            parts.append(_count(len(self.duplicates), "duplicate"))
        return " · ".join(parts)


@dataclass(frozen=True, slots=True)
class _ImageFile:
    """A file with the name of an image."""

    path: Path  # inside the folder
    caption: Path | None  # inside the folder


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
    _check_folder(folder)
    found: list[_ImageFile] = []
    skipped: list[Skipped] = []
    others: Counter[str] = Counter()
    last_progress = time.monotonic()
    for item in _files(folder, others):
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


def nothing_to_train_on(folder: Path) -> str:
    return f"There is nothing to train on in {folder}"


def _check_folder(folder: Path) -> None:
    what, remedy = nothing_to_train_on(folder), CHOOSE_IMAGE_FOLDER
    try:
        if not folder.exists():
            raise FolderProblem(what, "the folder does not exist", remedy)
        if not folder.is_dir():
            raise FolderProblem(what, "it is a file, not a folder", remedy)
        with os.scandir(folder) as entries:
            if next(entries, None) is None:
                raise FolderProblem(what, "the folder is empty", remedy)
    except OSError as error:
        raise FolderProblem(what, error.strerror or str(error), remedy) from error


def _no_images(folder: Path, skipped: list[Skipped], others: Counter[str]) -> FolderProblem:
    if skipped:
        worst = skipped[0]
        which = "its only image cannot" if len(skipped) == 1 else f"none of its {len(skipped):,} images can"
        why = f"{which} be used ({worst.path}: {worst.why})"
    elif others:
        kinds = ", ".join(f"{count:,} {suffix or 'without an extension'}" for suffix, count in others.most_common(3))
        why = f"it has {_count(others.total(), 'file')} ({kinds}) but no images"
    else:
        why = "it has no files"
    return FolderProblem(nothing_to_train_on(folder), why, CHOOSE_IMAGE_FOLDER)


def _files(folder: Path, others: Counter[str]) -> Iterator[_ImageFile | Skipped]:
    """Every image file below the folder, with its caption file. Links are followed; each folder is visited once."""
    seen: set[Path] = set()
    pending = [Path()]
    while pending:
        inside = pending.pop()
        try:
            real = (folder / inside).resolve(strict=True)
            if real in seen:  # a link to a parent, or a second link to the same folder
                continue
            seen.add(real)
            with os.scandir(folder / inside) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except (OSError, RuntimeError) as error:  # RuntimeError: a link loop, before Python 3.13
            why = (isinstance(error, OSError) and error.strerror) or "a link loop"
            yield Skipped(inside, f"the folder cannot be read ({why.lower()})")
            continue
        texts = {entry.name.casefold(): entry.name for entry in listed if entry.name.casefold().endswith(".txt")}
        for entry in listed:
            path = inside / entry.name
            if entry.name.startswith(".") or entry.name == "__MACOSX":  # files of other programs
                continue
            if _is_folder(entry):
                pending.append(path)
            elif looks_like_an_image(folder / path):
                text = texts.get(f"{path.stem}.txt".casefold()) or texts.get(f"{entry.name}.txt".casefold())
                yield _ImageFile(path, inside / text if text else None)
            else:
                others[path.suffix.lower()] += 1


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a broken link or a link loop
        return False


def _read(folder: Path, found: _ImageFile) -> _ReadResult:
    try:
        loaded = load_image(folder / found.path, at_least=_DECODED_SIDE)
    except ImageProblem as error:
        return _ReadResult(Skipped(found.path, error.why))
    caption, caption_problem = None, None
    if found.caption is not None:
        caption, why = _caption(folder / found.caption)
        caption_problem = Skipped(found.caption, why) if why else None
    group = found.path.parts[0] if len(found.path.parts) > 1 else ""
    record = ImageRecord(found.path, *loaded.size, caption, group, loaded.image.mode == "RGBA")
    notes = tuple(Skipped(found.path, note) for note in loaded.notes)
    return _ReadResult(record, caption_problem, fingerprint(loaded.image), notes, loaded.depth)


def _caption(path: Path) -> tuple[str | None, str]:
    """The text with normalised white space, and the problem of the file, if any."""
    try:
        if not path.is_file():  # a pipe would block
            return None, NOT_A_PLAIN_FILE
        with path.open("rb") as file:
            data = file.read(MAX_CAPTION_BYTES + 1)
    except OSError as error:
        return None, unreadable(error)
    whole = len(data) <= MAX_CAPTION_BYTES
    utf_16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # `Unicode` in Windows Notepad
    decoder = codecs.getincrementaldecoder("utf-16" if utf_16 else "utf-8-sig")()
    try:
        text = decoder.decode(data[:MAX_CAPTION_BYTES], final=whole)
    except UnicodeDecodeError:
        return None, "it is not text in UTF-8"
    if "\0" in text:
        return None, "it is not text"
    why = "" if whole else f"only its first {MAX_CAPTION_BYTES // 1024} KiB are used"
    return " ".join(text.split()) or None, why


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


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"

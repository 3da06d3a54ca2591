"""Inspection of a folder of images before training: images, captions, classes, duplicates and problems. No torch.

Every image is decoded once, so that each one in the report can be read; for the others the report gives the reason.
What was found in the pixels is kept in `inspection_cache`. Where captions come from: `caption_files` and
`caption_tables`; what the subfolders mean: `folder_classes`; what is left out: `folder_layout` and `left_out`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from diffstudio import paths
from diffstudio.errors import CHOOSE_IMAGE_FOLDER, FolderProblem, ImageProblem, StorageProblem
from diffstudio.imaging.levels import is_grey, ranges_of_channels
from diffstudio.imaging.reader import load_image
from diffstudio.imaging.value_range import Depth, Range, ranges_of_folder
from diffstudio.plurals import count_of
from diffstudio.training.data.captions.caption_files import read_caption
from diffstudio.training.data.captions.caption_tables import Metadata, read_metadata
from diffstudio.training.data.folder_classes import Layout, folders_of, layout_of
from diffstudio.training.data.folder_layout import HIDDEN, JUNK, ImageFile, Listing, check_folder, list_folder
from diffstudio.training.data.folder_report import (
    FOLDER_NAMES,
    HELD_OUT,
    MAX_TEXT_TOKENS,
    FolderReport,
    ImageRecord,
    InspectionProgress,
    RangeInFolder,
    Skipped,
    nothing_to_train_on,
)
from diffstudio.training.data.inspection_cache import Found, InspectionCache
from diffstudio.training.data.left_out import read_left_out
from diffstudio.training.data.near_duplicates import FINGERPRINT_BYTES, fingerprint, near_duplicates
from diffstudio.training.data.sequences import about_sequences, sequences

MIN_SIDE = 16  # px; smaller images are left out
PROGRESS_SECONDS = 0.05  # between two InspectionProgress
_DECODED_SIDE = 128  # px; decoded at least this large, enough for a perceptual hash

_T = TypeVar("_T")
_R = TypeVar("_R")


def inspect_folder(
    folder: Path, cache_folder: Path | None = None
) -> Generator[InspectionProgress | FolderReport, None, None]:
    """Inspect every image in the folder and its subfolders; the last item is the report.

    `cache_folder` keeps what is found, by default in the program's cache. Closing the generator ends the work after the
    images that are being read. FolderProblem when the folder does not exist or has no image that can be used.
    """
    folder = Path(folder).expanduser()
    check_folder(folder)
    listing, notes = Listing(), []
    left_out: frozenset[Path] = frozenset()
    try:
        left_out = read_left_out(folder)
    except StorageProblem as error:
        notes.append(str(error).rstrip("."))
    last_progress = time.monotonic()
    for walked in list_folder(folder, listing, left_out):
        if time.monotonic() - last_progress >= PROGRESS_SECONDS:
            last_progress = time.monotonic()
            yield InspectionProgress(len(listing.images), 0, walked)
    if not listing.images:
        raise _no_images(folder, listing)

    gathered = _Gathered(folder, listing, notes)
    yield InspectionProgress(0, len(listing.images), listing.images[0].path)
    cache = InspectionCache(cache_folder or paths.cache() / "inspections", folder)
    with contextlib.closing(cache), contextlib.closing(_look(folder, listing.images, cache)) as results:
        for done, (file, found) in enumerate(results, start=1):
            gathered.add(file, found)
            if time.monotonic() - last_progress >= PROGRESS_SECONDS or done == len(listing.images):
                last_progress = time.monotonic()
                yield InspectionProgress(done, len(listing.images), file.path)
    yield gathered.report()


def finish_inspection(folder: Path, on_progress: Callable[[InspectionProgress], None]) -> FolderReport:
    """The report of `inspect_folder`. An exception from `on_progress` ends the inspection; the cache keeps what was read."""
    with contextlib.closing(inspect_folder(folder)) as items:
        for item in items:
            if isinstance(item, FolderReport):
                return item
            on_progress(item)
    raise AssertionError("an inspection ends with a report")


def _look(
    folder: Path, files: Sequence[ImageFile], cache: InspectionCache
) -> Generator[tuple[ImageFile, Found], None, None]:
    """What each file holds: first those that have not changed since they were read, then the others."""
    new: list[ImageFile] = []
    for file in files:
        known = cache.get(file)
        if known is None:
            new.append(file)
        else:
            yield file, known
    with contextlib.closing(map_in_threads(lambda file: _read(folder, file), new)) as results:
        for file, found in zip(new, results, strict=True):
            cache.put(file, found)
            yield file, found


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


def _no_images(folder: Path, listing: Listing) -> FolderProblem:
    unread = [one for one in listing.left_out if one.why not in (HIDDEN, JUNK)]
    unseen = [one for one in listing.left_out if one.why in (HIDDEN, JUNK)]
    if unusable := listing.skipped or unread:
        worst, noun = unusable[0], "image" if listing.skipped else "file"
        which = f"its only {noun} cannot" if len(unusable) == 1 else f"none of its {len(unusable):,} {noun}s can"
        why = f"{which} be used ({worst.path}: {worst.why})"
    elif others := listing.others + Counter(
        path.suffix.lower() for path in [*listing.lone_captions, *listing.metadata, *listing.tables]
    ):
        kinds = ", ".join(f"{count:,} {suffix or 'without an extension'}" for suffix, count in others.most_common(3))
        why = f"it has {count_of(others.total(), 'file')} ({kinds}) but no images"
    elif unseen:
        why = f"what it has is not looked at ({unseen[0].path}: {unseen[0].why})"
    else:
        why = "it has no files"
    return FolderProblem(nothing_to_train_on(folder), why, CHOOSE_IMAGE_FOLDER)


def _read(folder: Path, file: ImageFile) -> Found:
    """Decode an image. The record has no captions and no class yet."""
    try:
        loaded = load_image(folder / file.path, at_least=_DECODED_SIDE)
    except ImageProblem as error:
        lasting = not isinstance(error.__cause__, FileNotFoundError | PermissionError | MemoryError | ImportError)
        return Found(Skipped(file.path, error.why), lasting=lasting)
    channels = len(loaded.channels) or (1 if is_grey(loaded.image) else 3)
    bits = 8 if loaded.depth is None else 16
    record = ImageRecord(file.path, *loaded.size, (), "", loaded.image.mode == "RGBA", channels=channels, bits=bits)
    notes = tuple(note for note in loaded.notes if note != loaded.shown)  # training uses all channels
    if loaded.image.mode == "RGBA" and loaded.image.getchannel("A").getextrema() == (0, 0):
        notes = (*notes, "all of it is transparent")
    if channels in (1, 3):
        return Found(record, fingerprint(loaded.image), notes, loaded.depth)
    return Found(record, fingerprint(loaded.image), notes, channels=loaded.channels)


@dataclass(slots=True)
class _Gathered:
    """Everything found so far, in any order. Mutable: the report is made of it at the end."""

    folder: Path
    listing: Listing
    layout_notes: list[str]
    files: list[ImageFile] = field(default_factory=list)  # of the images, in step with `records` and `prints`
    records: list[ImageRecord] = field(default_factory=list)
    prints: bytearray = field(default_factory=bytearray)
    too_small: list[Path] = field(default_factory=list)
    notes: list[Skipped] = field(default_factory=list)
    depths: list[tuple[Path, Depth]] = field(default_factory=list)
    channels: list[tuple[Depth, ...]] = field(default_factory=list)  # of arrays that are not images

    def add(self, file: ImageFile, found: Found) -> None:
        record = found.record
        if isinstance(record, Skipped):
            self.listing.skipped.append(record)
        elif min(record.width, record.height) < MIN_SIDE:
            self.too_small.append(record.path)
        else:
            self.files.append(file)
            self.records.append(record)
            self.prints += found.fingerprint
            self.notes += (Skipped(record.path, note) for note in found.notes)
            if found.depth is not None:
                self.depths.append((record.path, found.depth))
            if found.channels:
                self.channels.append(found.channels)

    def report(self) -> FolderReport:
        if not self.records:
            small = [Skipped(path, f"it is smaller than {MIN_SIDE} px") for path in self.too_small]
            self.listing.skipped += small
            raise _no_images(self.folder, self.listing)
        images, prints = self.records, np.frombuffer(self.prints, np.uint8).reshape(-1, FINGERPRINT_BYTES)
        layout = layout_of((folders_of(record.path) for record in images), self.folder.resolve().name)
        captions = _CaptionFinder(self.folder, self.listing.metadata)
        for index, file in enumerate(self.files):  # in place: there may be a million
            images[index] = self._described(file, images[index], layout, captions)
        order = sorted(range(len(images)), key=lambda index: images[index].path.as_posix())
        if order != list(range(len(images))):
            images, prints = [images[index] for index in order], prints[order]
        groups = Counter(image.group for image in images if image.split != HELD_OUT)
        unknown = [
            Skipped(image.path, _why_unknown(image.group, layout)) for image in images if image.group not in groups
        ]
        if unknown:
            kept = [index for index, image in enumerate(images) if image.group in groups]
            images, prints = [images[index] for index in kept], prints[kept]
        same, near, joined = near_duplicates(prints)
        films = [
            tuple(images[index].path for index in frames) for frames in sequences([one.path for one in images], prints)
        ]
        known = [file.path for file in self.listing.images] + [one.path for one in self.listing.left_out]
        lone = [Skipped(path, "no image beside it has its name") for path in self.listing.lone_captions]
        lone += [
            Skipped(path, "only metadata.csv and metadata.jsonl are read as tables") for path in self.listing.tables
        ]
        return FolderReport(
            folder=self.folder,
            images=tuple(images),
            skipped=tuple(sorted(self.listing.skipped, key=_by_path)),
            too_small=tuple(sorted(self.too_small)),
            caption_problems=tuple(sorted([*captions.all_problems(known), *lone], key=_by_path)),
            duplicates=tuple((images[first].path, images[second].path) for first, second in same),
            near_duplicates=tuple((images[first].path, images[second].path) for first, second in near),
            joined=tuple((images[first].path, images[second].path) for first, second in joined),
            sequences=tuple(films),
            groups=dict(sorted(groups.items())),
            notes=tuple(sorted(self.notes, key=_by_path)),
            ranges=self._ranges(),
            channel_ranges=self._channel_ranges(),
            left_out=tuple(sorted([*self.listing.left_out, *unknown], key=_by_path)),
            other_files=dict(self.listing.others),
            caption_sources=dict(captions.sources),
            layout_notes=(*self.layout_notes, *layout.notes, *about_sequences(films), *_leaks(images, [*same, *near])),
        )

    def _described(self, file: ImageFile, record: ImageRecord, layout: Layout, captions: _CaptionFinder) -> ImageRecord:
        place = layout.place_of(record.path)
        texts = captions.find(file, place.concept)
        return replace(
            record, captions=texts, group=place.group, split=place.split, repeats=place.repeats, mask=file.mask
        )

    def _ranges(self) -> tuple[RangeInFolder, ...]:
        deep = sorted(self.depths, key=lambda one: one[0].as_posix())
        ranges = ranges_of_folder(depth for _, depth in deep)
        found = []
        for kind, (low, high) in ranges.items():
            files = [(path, depth) for path, depth in deep if depth.sample_type is kind]
            values = min(depth.low for _, depth in files), max(depth.high for _, depth in files)
            found.append(RangeInFolder(kind, low, high, tuple(path for path, _ in files), values))
        return tuple(found)

    def _channel_ranges(self) -> dict[int, tuple[Range, ...]]:
        counts = sorted({len(channels) for channels in self.channels})
        return {count: ranges_of_channels([one for one in self.channels if len(one) == count]) for count in counts}


def _why_unknown(group: str, layout: Layout) -> str:
    """Why a held-out image is left out when no training image has its class."""
    return "it is in no class folder" if group == layout.loose else f"no image to train on has its class, {group}"


def _leaks(images: Sequence[ImageRecord], similar: Sequence[tuple[int, int]]) -> Iterator[str]:
    """What is said where the folder itself puts much the same image into both of its parts."""
    across = [images[later] for first, later in similar if images[first].split != images[later].split]
    if across:
        yield (
            f"{count_of(len(across), 'image')}, such as {across[0].path}, "
            "with a near-duplicate on the other side of the split: the held-out loss will be too low"
        )


def _by_path(one: Skipped) -> str:
    return one.path.as_posix()


class _CaptionFinder:
    """Finds the captions of each image: in files beside it, in metadata, in the name of its folder."""

    def __init__(self, folder: Path, metadata_files: Iterable[Path]) -> None:
        self._folder = folder
        self._metadata = Metadata()
        self.sources: Counter[str] = Counter()
        self._problems: list[Skipped] = []
        for file in sorted(metadata_files):
            read_metadata(folder, file, self._metadata)

    def find(self, file: ImageFile, concept: str) -> tuple[str, ...]:
        texts: tuple[str, ...] = ()
        for name in file.captions:
            path = file.path.with_name(name)
            if texts:
                self._problems.append(Skipped(path, "another file has the caption of its image"))
                continue
            found = read_caption(self._folder / path)
            texts = found.texts
            if found.problem:
                self._problems.append(Skipped(path, found.problem))
            if texts:
                suffix = path.suffix.lower()
                self.sources[f"{suffix} files, {found.source}" if found.source else f"{suffix} files"] += 1
        entry = self._metadata.of(file.path)
        if entry is not None and texts:
            self._problems.append(Skipped(file.path, f"a caption file is used, not {entry.file.name}"))
        elif entry is not None and entry.texts:
            texts = entry.texts
            self.sources[entry.source] += 1
        if not texts and concept and not file.captions:
            texts = (concept,)
            self.sources[FOLDER_NAMES] += 1
        if any(text.count(" ") >= MAX_TEXT_TOKENS for text in texts):
            self._problems.append(Skipped(file.path, f"at most {MAX_TEXT_TOKENS} tokens of its caption are read"))
        return texts

    def all_problems(self, known: Iterable[Path]) -> Iterator[Skipped]:
        """What was not used, once every image has been looked for; `known` are all images, usable or not."""
        yield from self._problems
        yield from self._metadata.problems
        for path in known if self._metadata.entries else ():
            self._metadata.of(path)
        yield from self._metadata.unmatched()

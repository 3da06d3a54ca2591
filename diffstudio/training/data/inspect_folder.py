"""What a folder of pictures holds, found out before anything is trained on it. No torch.

Sub-folders are groups; a caption is a `.txt` beside its picture (`cat.txt`, or `cat.png.txt`), in UTF-8. Every
picture is decoded once, so that what is listed can be used; what cannot is named with the reason.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from diffstudio.errors import FolderProblem, ImageProblem
from diffstudio.imaging.reader import looks_like_an_image, read_image
from diffstudio.training.data.near_duplicates import Fingerprint, fingerprint, near_duplicates

SMALLEST_SIDE = 16  # px; below this there is nothing to learn from
LONGEST_CAPTION = 64 * 1024  # bytes read of a caption file
PROGRESS_SECONDS = 0.05  # between two reports of progress
_DECODED_SIDE = 128  # px a picture keeps at least: enough for a fingerprint; every byte is read all the same

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class InspectionProgress:
    done: int
    total: int  # 0 while the files are still being counted
    path: Path  # inside the folder


@dataclass(frozen=True, slots=True)
class ImageRecord:
    path: Path  # inside the folder
    width: int  # px, upright
    height: int
    caption: str | None
    group: str  # the first sub-folder, or "" for pictures of the folder itself
    has_alpha: bool  # something shines through


@dataclass(frozen=True, slots=True)
class Skipped:
    path: Path  # inside the folder
    why: str  # a clause for people


@dataclass(frozen=True, slots=True)
class FolderReport:
    """Pictures are in the order of their paths. Duplicates are told of, and kept: their captions may differ."""

    folder: Path
    images: tuple[ImageRecord, ...]
    skipped: tuple[Skipped, ...] = ()
    caption_problems: tuple[Skipped, ...] = ()  # captions that were not, or not wholly, read
    duplicates: tuple[tuple[Path, Path], ...] = ()  # the same pixels: the first one, and its copy
    near_duplicates: tuple[tuple[Path, Path], ...] = ()  # hard to tell apart when small
    too_small: tuple[Path, ...] = ()  # under SMALLEST_SIDE: left out
    groups: Mapping[str, int] = field(default_factory=dict)  # name -> pictures

    @property
    def captioned(self) -> int:
        return sum(picture.caption is not None for picture in self.images)

    @property
    def transparent(self) -> int:
        return sum(picture.has_alpha for picture in self.images)

    @property
    def sides(self) -> tuple[int, int, int]:
        """The smallest, the median and the largest of the pictures' shorter sides, px."""
        shorter = sorted(min(picture.width, picture.height) for picture in self.images)
        return shorter[0], shorter[len(shorter) // 2], shorter[-1]

    def smaller_than(self, size: int) -> int:
        """How many pictures would have to be enlarged for training at `size` px."""
        return sum(max(picture.width, picture.height) < size for picture in self.images)

    def sentence(self) -> str:
        """`1,792 pictures · 128 px · captions for all · 9 groups`."""
        smallest, _, largest = self.sides
        parts = [
            _count(len(self.images), "picture"),
            f"{smallest:,} px" if smallest == largest else f"{smallest:,} to {largest:,} px",
        ]
        if self.captioned:
            everyone = self.captioned == len(self.images)
            parts.append("captions for all" if everyone else f"captions for {self.captioned:,}")
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
class _Found:
    """A file that seems to be a picture."""

    path: Path  # inside the folder
    caption: Path | None  # inside the folder


@dataclass(frozen=True, slots=True)
class _Read:
    record: ImageRecord | Skipped
    caption_problem: Skipped | None = None
    fingerprint: Fingerprint | None = None


def inspect_folder(folder: Path) -> Generator[InspectionProgress | FolderReport, None, None]:
    """Look at every picture in the folder and below; the last item is the report.

    Closing the iterator ends the work after the pictures in flight. FolderProblem when there is no such folder or no
    picture in it that can be used.
    """
    folder = Path(folder).expanduser()
    _check_folder(folder)
    found: list[_Found] = []
    skipped: list[Skipped] = []
    others: Counter[str] = Counter()
    last_told = time.monotonic()
    for item in _files(folder, others):
        if isinstance(item, Skipped):
            skipped.append(item)
        else:
            found.append(item)
        if time.monotonic() - last_told >= PROGRESS_SECONDS:
            last_told = time.monotonic()
            yield InspectionProgress(len(found), 0, item.path)
    if not found:
        raise _no_pictures(folder, skipped, others)
    found.sort(key=lambda picture: picture.path.as_posix())

    read: list[_Read] = []
    yield InspectionProgress(0, len(found), found[0].path)
    with contextlib.closing(map_in_threads(lambda picture: _read(folder, picture), found)) as results:
        for done, result in enumerate(results, start=1):
            read.append(result)
            if time.monotonic() - last_told >= PROGRESS_SECONDS or done == len(found):
                last_told = time.monotonic()
                yield InspectionProgress(done, len(found), result.record.path)
    yield _report(folder, read, skipped)


def map_in_threads(
    function: Callable[[_T], _R], items: Iterable[_T], threads: int | None = None
) -> Generator[_R, None, None]:
    """`map` on a few threads, in order, holding only a few results at a time. Pillow decodes without the GIL."""
    threads = threads or min(4, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="pictures")
    waiting: deque[Future[_R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 4 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _check_folder(folder: Path) -> None:
    what, remedy = f"There is nothing to train on in {folder}", "Choose a folder of pictures"
    try:
        if not folder.exists():
            raise FolderProblem(what, "there is no such folder", remedy)
        if not folder.is_dir():
            raise FolderProblem(what, "it is a file, not a folder", remedy)
        with os.scandir(folder) as entries:
            if next(entries, None) is None:
                raise FolderProblem(what, "the folder is empty", remedy)
    except OSError as error:
        raise FolderProblem(what, error.strerror or str(error), remedy) from error


def _no_pictures(folder: Path, skipped: list[Skipped], others: Counter[str]) -> FolderProblem:
    if skipped:
        worst = skipped[0]
        which = "its one picture cannot" if len(skipped) == 1 else f"none of its {len(skipped):,} pictures can"
        why = f"{which} be used (for {worst.path}, {worst.why})"
    elif others:
        kinds = ", ".join(f"{count:,} {suffix or 'without an ending'}" for suffix, count in others.most_common(3))
        why = f"it holds {_count(others.total(), 'file')} ({kinds}) but no pictures"
    else:
        why = "it holds no files"
    return FolderProblem(f"There is nothing to train on in {folder}", why, "Choose a folder of pictures")


def _files(folder: Path, others: Counter[str]) -> Iterator[_Found | Skipped]:
    """Every seeming picture below the folder, with its caption file. Links are followed, each folder entered once."""
    seen: set[Path] = set()
    pending = [Path()]
    while pending:
        inside = pending.pop()
        try:
            real = (folder / inside).resolve(strict=True)
            if real in seen:  # a link back up, or a second link to the same place
                continue
            seen.add(real)
            with os.scandir(folder / inside) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
            why = getattr(error, "strerror", None) or "a loop of links"
            yield Skipped(inside, f"the folder cannot be read ({why.lower()})")
            continue
        texts = {entry.name.casefold(): entry.name for entry in listed if entry.name.casefold().endswith(".txt")}
        for entry in listed:
            path = inside / entry.name
            if entry.name.startswith(".") or entry.name == "__MACOSX":  # thumbnails and notes of other programs
                continue
            if _is_folder(entry):
                pending.append(path)
            elif looks_like_an_image(folder / path):
                text = texts.get(f"{path.stem}.txt".casefold()) or texts.get(f"{entry.name}.txt".casefold())
                yield _Found(path, inside / text if text else None)
            else:
                others[path.suffix.lower()] += 1


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere or round in a circle
        return False


def _read(folder: Path, found: _Found) -> _Read:
    try:
        picture, (width, height) = read_image(folder / found.path, at_least=_DECODED_SIDE)
    except ImageProblem as error:
        return _Read(Skipped(found.path, error.why))
    caption, caption_problem = None, None
    if found.caption is not None:
        caption, why = _caption(folder / found.caption)
        caption_problem = Skipped(found.caption, why) if why else None
    group = found.path.parts[0] if len(found.path.parts) > 1 else ""
    record = ImageRecord(found.path, width, height, caption, group, picture.mode == "RGBA")
    return _Read(record, caption_problem, fingerprint(picture))


def _caption(path: Path) -> tuple[str | None, str]:
    """The text, its white space made single; and what was wrong with the file, if anything."""
    try:
        if not path.is_file():  # never wait for a pipe
            return None, "it is not a plain file"
        with path.open("rb") as file:
            data = file.read(LONGEST_CAPTION + 1)
    except OSError as error:
        return None, f"it cannot be read ({(error.strerror or str(error)).lower()})"
    whole = len(data) <= LONGEST_CAPTION
    utf_16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # Windows Notepad's `Unicode`
    decoder = codecs.getincrementaldecoder("utf-16" if utf_16 else "utf-8-sig")()
    try:
        text = decoder.decode(data[:LONGEST_CAPTION], final=whole)
    except UnicodeDecodeError:
        return None, "it is not text in UTF-8"
    if "\0" in text:
        return None, "it is not text"
    why = "" if whole else f"only its first {LONGEST_CAPTION // 1024} KiB are used"
    return " ".join(text.split()) or None, why


def _report(folder: Path, read: list[_Read], skipped: list[Skipped]) -> FolderReport:
    images: list[ImageRecord] = []
    prints: list[Fingerprint] = []
    too_small: list[Path] = []
    for result in read:
        match result.record:
            case Skipped() as missing:
                skipped.append(missing)
            case ImageRecord() as record if min(record.width, record.height) < SMALLEST_SIDE:
                too_small.append(record.path)
            case ImageRecord() as record if result.fingerprint is not None:
                images.append(record)
                prints.append(result.fingerprint)
    if not images:
        small = [Skipped(path, f"it is smaller than {SMALLEST_SIDE} px") for path in too_small]
        raise _no_pictures(folder, skipped + small, Counter())
    same, near = near_duplicates(prints)
    return FolderReport(
        folder=folder,
        images=tuple(images),
        skipped=tuple(skipped),
        too_small=tuple(too_small),
        caption_problems=tuple(result.caption_problem for result in read if result.caption_problem),
        duplicates=tuple((images[first].path, images[second].path) for first, second in same),
        near_duplicates=tuple((images[first].path, images[second].path) for first, second in near),
        groups=dict(sorted(Counter(picture.group for picture in images).items())),
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"

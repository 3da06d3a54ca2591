"""FolderReport: what the inspection of a folder of training images found, for the window and the command line. No torch."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffstudio.errors import listed
from diffstudio.imaging.value_range import Range, SampleType
from diffstudio.plurals import count_of

MAX_EXAMPLES = 5  # of the files that share a reason, in text
MAX_FINDINGS = 40  # reasons, in text: damaged files may each have their own
MAX_SHOWN = 120  # characters of the path of an example
MAX_TEXT_TOKENS = 128  # of a caption, read by a network that is trained here
FOLDER_NAMES = "names of folders"  # a source of captions
TRAINING, HELD_OUT = "training", "held out"  # splits


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
    captions: tuple[str, ...]  # alternatives, one of which is drawn each time
    group: str  # its class: see `folder_classes`
    has_alpha: bool  # at least one pixel is transparent
    split: str = ""  # TRAINING or HELD_OUT where the folder itself is divided, else ""
    repeats: int = 1  # how many times as often as others it is drawn
    channels: int = 3  # 1: grey, also where it is stored as RGB; 3: colour; others: those of an array
    bits: int = 8  # of each value: 8, or 16 for more
    mask: Path | None = None  # inside the folder: white where the image counts, if the recipe uses masks

    @property
    def caption(self) -> str | None:
        """The first caption."""
        return self.captions[0] if self.captions else None


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
    values: Range = (0.0, 0.0)  # the lowest and the highest one of all files

    def sentence(self) -> str:
        """`3 images with 16-bit values: 0 becomes black and 4,095 white`."""
        return (
            f"{count_of(len(self.paths), 'image')} with {self.sample_type.description}: "
            f"{self.low:,g} becomes black and {self.high:,g} white"
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """Files of a folder that share a kind of finding and a reason."""

    kind: str  # `left out`, `caption`, `note`, `duplicate`
    why: str
    paths: tuple[Path, ...]

    def sentence(self) -> str:
        """`12 images left out: …`, with a few examples."""
        examples = listed(self.paths, MAX_EXAMPLES, _shown)
        noun, label = _LABELS[self.kind]
        return f"{count_of(len(self.paths), noun)} {label}: {self.why} ({examples})"


_LABELS = {  # by the kind of a finding: what is counted, and what becomes of it
    "left out": ("file", "left out"),
    "caption": ("caption", "not used, or not completely"),
    "note": ("image", "used with a warning"),
    "duplicate": ("image", "kept"),
}


@dataclass(frozen=True, slots=True)
class Unused:
    """Files of a folder that are not used, or only with a warning, worded as in every report."""

    kind: str  # of its findings: see Finding
    title: str  # `Left out because they cannot be read`
    summary: str  # after their number: `unreadable, skipped`
    prefix: str  # of the reason, in a list of all files
    files: tuple[Skipped, ...]

    @property
    def count(self) -> int:
        """The number of distinct files; one file may have several reasons."""
        return len({file.path for file in self.files})

    def sentence(self) -> str:
        """`Left out because they are too small: 3 (a.png: too small to train on, …).`"""
        first = self.files[0]
        return f"{self.title}: {len(self.files):,} ({first.path}: {first.why}{', …' if self.files[1:] else ''})."


@dataclass(frozen=True, slots=True)
class FolderReport:
    """The contents of a folder. Images are sorted by path. Duplicates are reported but kept: their captions may differ."""

    folder: Path
    images: tuple[ImageRecord, ...]
    skipped: tuple[Skipped, ...] = ()  # images that cannot be used
    caption_problems: tuple[Skipped, ...] = ()  # captions that are not used, or not completely
    duplicates: tuple[tuple[Path, Path], ...] = ()  # the same pixels: the first image and its copy
    near_duplicates: tuple[tuple[Path, Path], ...] = ()  # by perceptual hash
    joined: tuple[tuple[Path, Path], ...] = ()  # alike only through others, in a chain of near-duplicates
    sequences: tuple[tuple[Path, ...], ...] = ()  # frames of a film saved as images, in order
    too_small: tuple[Path, ...] = ()  # below MIN_SIDE
    groups: Mapping[str, int] = field(default_factory=dict)  # class -> number of images to train on
    notes: tuple[Skipped, ...] = ()  # images that are used, and what in them could not be followed
    ranges: tuple[RangeInFolder, ...] = ()  # of images of more than 8 bits a channel
    left_out: tuple[Skipped, ...] = ()  # by name, or because the user left them out; folders stand for their contents
    other_files: Mapping[str, int] = field(default_factory=dict)  # suffix -> number of files that are not images
    caption_sources: Mapping[str, int] = field(default_factory=dict)  # `.txt files` -> number of images
    layout_notes: tuple[str, ...] = ()  # how the subfolders were understood, a sentence each without a full stop
    channel_ranges: Mapping[int, tuple[Range, ...]] = field(default_factory=dict)  # of arrays, by number of channels

    @property
    def value_ranges(self) -> dict[SampleType, Range]:
        """The one range that all images of a type of values share."""
        return {found.sample_type: (found.low, found.high) for found in self.ranges}

    @property
    def captioned(self) -> int:
        return sum(bool(image.captions) for image in self.images)

    @property
    def transparent(self) -> int:
        return sum(image.has_alpha for image in self.images)

    @property
    def held_out(self) -> int:
        """The number of images that the folder itself holds out."""
        return sum(image.split == HELD_OUT for image in self.images)

    @property
    def sides(self) -> tuple[int, int, int]:
        """Minimum, median and maximum of the images' shorter sides, px."""
        shorter = sorted(min(image.width, image.height) for image in self.images)
        return shorter[0], shorter[len(shorter) // 2], shorter[-1]

    def smaller_than(self, size: int) -> int:
        """The number of images that are upscaled when training at `size` px."""
        return sum(max(image.width, image.height) < size for image in self.images)

    def sentence(self) -> str:
        """`1,792 images · 128 px · captions for all · 9 classes`."""
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
            parts.append(f"{len(self.groups):,} classes")
        if self.held_out:
            parts.append(f"{self.held_out:,} held out by the folder")
        if self.skipped:
            parts.append(f"{len(self.skipped):,} cannot be read")
        if self.too_small:
            parts.append(f"{len(self.too_small):,} too small")
        if self.left_out:
            parts.append(f"{len(self.left_out):,} left out")
        if self.duplicates:
            parts.append(count_of(len(self.duplicates), "duplicate"))
        return " · ".join(parts)

    def balance_sentence(self) -> str:
        """`Images in each class: cat 50, dog 5; cat has 10 times as many as dog`; empty for a single class."""
        if len(self.groups) < 2:
            return ""
        fewest, most = min(self.groups, key=self.groups.__getitem__), max(self.groups, key=self.groups.__getitem__)
        if self.groups[fewest] == self.groups[most]:
            return f"Each of the {len(self.groups):,} classes has {count_of(self.groups[most], 'image')}"
        shown = listed([f"{name} {count:,}" for name, count in self.groups.items()], 24)
        times = self.groups[most] / self.groups[fewest]
        factor = f"{times:,.0f}" if times >= 10 or times.is_integer() else f"{times:.1f}"
        much = f"; {most} has {factor} times as many as {fewest}" if times >= 1.5 else ""
        return f"Images in each class: {shown}{much}"

    def unused(self, lost: Sequence[Skipped] = (), unfit: Sequence[Skipped] = ()) -> tuple[Unused, ...]:
        """The files that are left out or used with a warning, by kind; kinds without files are included.

        `lost` could not be decoded again for training; `unfit` have channels or shapes that differ from the recipe's.
        """
        small = tuple(Skipped(path, "too small to train on") for path in self.too_small)
        captions = "caption with problems" if len(self.caption_problems) == 1 else "captions with problems"
        rows = (
            ("left out", "because they cannot be read", "unreadable, skipped", "skipped: ", (*self.skipped, *lost)),
            ("left out", "because they are too small", "too small, skipped", "skipped: ", small),
            (
                "left out",
                "because of their channels or shape",
                "of other channels or shape, left out",
                "left out: ",
                tuple(unfit),
            ),
            ("left out", "by name, or in the Train room", "left out", "left out: ", self.left_out),
        )
        return (
            *(Unused(kind, f"Left out {why}", summary, prefix, files) for kind, why, summary, prefix, files in rows),
            Unused("caption", "Captions not used, or not completely", captions, "caption: ", self.caption_problems),
            Unused("note", "Used with a warning", "used with a warning", "", self.notes),
        )

    def findings(self, unfit: Sequence[Skipped] = (), lost: Sequence[Skipped] = ()) -> Iterator[Finding]:
        """Everything that is left out or used with a warning, grouped by reason, in the order of first occurrence."""
        for kind, rows in itertools.groupby(self.unused(lost, unfit), lambda row: row.kind):
            yield from _by_reason(kind, [file for row in rows for file in row.files])
        yield from _by_reason(
            "duplicate", [Skipped(copy, "the same pixels as another image") for _, copy in self.duplicates]
        )
        yield from _by_reason(
            "duplicate", [Skipped(copy, "nearly the same pixels as another image") for _, copy in self.near_duplicates]
        )

    def lines(self, unfit: Sequence[Skipped] = ()) -> Iterator[str]:
        """The whole report as lines of text, for a terminal; of many reasons the first MAX_FINDINGS."""
        yield self.sentence()
        if balance := self.balance_sentence():
            yield balance
        if sources := captions_sentence(self):
            yield sources
        yield from self.layout_notes
        yield from (found.sentence() for found in self.ranges)
        findings = list(self.findings(unfit))
        yield from (finding.sentence() for finding in findings[:MAX_FINDINGS])
        if more := sum(len(finding.paths) for finding in findings[MAX_FINDINGS:]):
            yield f"{count_of(more, 'more file')} with {count_of(len(findings) - MAX_FINDINGS, 'other reason')}"
        if others := other_files_sentence(self.other_files):
            yield others

    def to_json(self, unfit: Sequence[Skipped] = (), lost: Sequence[Skipped] = ()) -> dict[str, Any]:
        """A JSON object with everything but the images that are used without limits."""
        return {
            "folder": str(self.folder),
            "sentence": self.sentence(),
            "images": len(self.images),
            "captioned": self.captioned,
            "caption_sources": dict(self.caption_sources),
            "classes": dict(self.groups),
            "held_out": self.held_out,
            "layout": list(self.layout_notes),
            "ranges": [found.sentence() for found in self.ranges],
            "findings": [
                {
                    "kind": finding.kind,
                    "why": finding.why,
                    "count": len(finding.paths),
                    "paths": [path.as_posix() for path in finding.paths],
                }
                for finding in self.findings(unfit, lost)
            ],
            "other_files": dict(self.other_files),
        }


def _shown(path: Path) -> str:
    text = str(path)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN // 2]}…{text[-MAX_SHOWN // 2 :]}"


def _by_reason(kind: str, found: Sequence[Skipped]) -> Iterator[Finding]:
    reasons: dict[str, list[Path]] = {}
    for one in found:
        reasons.setdefault(one.why, []).append(one.path)
    yield from (Finding(kind, why, tuple(paths)) for why, paths in reasons.items())


def captions_sentence(report: FolderReport) -> str:
    """`Captions from .txt files (12), metadata.csv, key text (3)`; empty without any."""
    sources = ", ".join(f"{source} ({count:,})" for source, count in report.caption_sources.items())
    return f"Captions from {sources}" if sources else ""


def other_files_sentence(others: Mapping[str, int]) -> str:
    """`5 files are not images: 3 .md, 2 .zip`; empty without any."""
    total = sum(others.values())
    if not total:
        return ""
    kinds = ", ".join(
        f"{count:,} {suffix or 'without an extension'}" for suffix, count in Counter(others).most_common(8)
    )
    return f"{count_of(total, 'file')} {'is not an image' if total == 1 else 'are not images'}: {kinds}"


def nothing_to_train_on(folder: Path) -> str:
    return f"There is nothing to train on in {folder}"

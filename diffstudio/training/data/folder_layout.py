"""Lists the images of a folder and its subfolders, each with its caption file, and names what is left out. No torch.

No image is decoded, but for a few in folders of masks. A file is an image by the end of its name, or by its first
bytes whatever its name. Left out by name are what other programs and systems keep in folders (thumbnails, recycle
bins), masks, and files of formats that are not read.
"""

from __future__ import annotations

import itertools
import os
import re
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from diffstudio.errors import CHOOSE_IMAGE_FOLDER, FolderProblem, ImageProblem
from diffstudio.imaging.formats import IMAGE_SUFFIXES, format_of, is_raw, read_head, why_not_read
from diffstudio.imaging.levels import is_grey
from diffstudio.imaging.reader import load_image
from diffstudio.plurals import count_of
from diffstudio.training.data.captions.caption_files import CAPTION_SUFFIXES, same_name
from diffstudio.training.data.captions.caption_tables import is_metadata
from diffstudio.training.data.captions.mask_names import MASK_NAME, masks_of, name_stem, plain_stem
from diffstudio.training.data.folder_report import Skipped, nothing_to_train_on

_JUNK = frozenset({
    "@eadir", "@recycle", "@recently-snapshot", "@__thumb", "#recycle", "#snapshot", "~snapshot", "$recycle.bin",
    "recycler", "recycled", "system volume information", "lost+found", "found.000", "__macosx", "__pycache__",
    "network trash folder", "temporary items", "_gsdata_", "node_modules",
})  # fmt: skip
_JUNK_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
_SIDECAR = ".diffstudio.json"
_NOT_CAPTIONS = re.compile(
    r"(readme|licen[cs]e|notice|changelog|requirements|classes|labels|dataset_infos?|config)\.(txt|json)", re.IGNORECASE
)
_MASK_FOLDER = re.compile(
    r"_?(masks?|masklabels?|conditioning(?:[-_ ](?:data|images?))?|condlabels?|labels?|annotations?|ground[-_ ]?truth|gt|"
    r"segmentations?(?:class|object|masks?|maps?)?)",
    re.IGNORECASE,
)
_CONDITIONING = re.compile(
    r"cond(?:label|itioning)", re.IGNORECASE
)  # ControlNet folders: their files are masks only if they are grey

_EXAMPLES = 3  # images of a folder of masks that are looked at
_COLOURS_OF_A_MASK = 64

_TABLES = frozenset({".csv", ".tsv", ".jsonl", ".xlsx", ".ods"})

HIDDEN = "hidden files and folders are not looked at"
JUNK = "kept there by another program"
MASK = "a mask of another image"
NOT_CLEAR = "a mask, but several images or masks have its name"
LEFT_OUT_BY_USER = "left out in the Train room"
BROKEN_LINK = "it is a link to something that does not exist"
_LINK_UP = "it is a link to a folder that this folder is in"
_READ_ALREADY = "it leads to a folder that is read already"


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file that is an image by its name or its first bytes."""

    path: Path  # inside the folder
    size_bytes: int
    modified_ns: int
    captions: tuple[str, ...] = ()  # names of the caption files beside it, the one to use first
    mask: Path | None = None  # inside the folder


@dataclass(slots=True)
class Listing:
    """The files below a folder. Mutable: it is filled while the folder is walked."""

    images: list[ImageFile] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)  # what cannot be reached
    left_out: list[Skipped] = field(default_factory=list)
    lone_captions: list[Path] = field(default_factory=list)  # without an image
    metadata: list[Path] = field(default_factory=list)  # files with the captions of many images
    tables: list[Path] = field(default_factory=list)  # such files under other names, which are not read
    others: Counter[str] = field(default_factory=Counter)  # suffix -> number of other files


def check_folder(folder: Path) -> None:
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


def list_folder(folder: Path, listing: Listing, left_out: Collection[Path] = ()) -> Iterator[Path]:
    """Fill `listing`, and yield each folder that is walked. Links are followed; each folder is visited once.

    `left_out`: files and folders, inside the folder, that the user does not want.
    """
    seen: set[Path] = set()
    pending, links = [Path()], list[Path]()
    while pending or links:
        inside = pending.pop() if pending else links.pop(0)  # a folder keeps its own name where links lead to it too
        yield inside
        try:
            real = (folder / inside).resolve(strict=True)
            if real in seen or (inside.parts and real in folder.resolve().parents):
                listing.left_out.append(Skipped(inside, _READ_ALREADY if real in seen else _LINK_UP))
                continue
            seen.add(real)
            with os.scandir(folder / inside) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except (OSError, RuntimeError) as error:  # RuntimeError: a link loop, before Python 3.13
            why = (isinstance(error, OSError) and error.strerror) or "a link loop"
            listing.skipped.append(Skipped(inside, f"the folder cannot be read ({why.lower()})"))
            continue
        for path, is_link in _list_one(inside, listed, listing, left_out):
            (links if is_link else pending).append(path)
    _leave_out_mask_folders(folder, listing)
    listing.images.sort(key=lambda file: file.path.as_posix())


def _list_one(
    inside: Path, listed: Sequence[os.DirEntry[str]], listing: Listing, left_out: Collection[Path]
) -> list[tuple[Path, bool]]:
    """Add the files of one folder to the listing; returns the folders in it that are to be walked, and which are links."""
    folders: list[tuple[Path, bool]] = []
    images: list[os.DirEntry[str]] = []
    texts: list[os.DirEntry[str]] = []
    for entry in listed:
        path = inside / entry.name
        suffix = path.suffix.lower()
        if why := LEFT_OUT_BY_USER if path in left_out else _why_junk(entry.name):
            listing.left_out.append(Skipped(path, why))
        elif _is_folder(entry):
            folders.append((path, entry.is_symlink()))
        elif entry.is_symlink() and not os.path.exists(entry):
            listing.skipped.append(Skipped(path, BROKEN_LINK))
        elif is_raw(suffix):
            listing.left_out.append(Skipped(path, why_not_read(suffix)))
        elif suffix in IMAGE_SUFFIXES:
            images.append(entry)
        elif is_metadata(entry.name):
            listing.metadata.append(path)
        elif is_caption_file(entry.name):
            texts.append(entry)
        elif suffix not in CAPTION_SUFFIXES and _is_image_by_content(entry):
            images.append(entry)
        elif suffix in _TABLES:
            listing.tables.append(path)
        elif why := why_not_read(suffix):
            listing.left_out.append(Skipped(path, why))
        else:
            listing.others[suffix] += 1
    _match(inside, images, texts, listing)
    return folders


def _match(inside: Path, images: list[os.DirEntry[str]], texts: list[os.DirEntry[str]], listing: Listing) -> None:
    """Add images with their caption files to the listing."""
    captions = CaptionNames(entry.name for entry in texts)
    stems = {name_stem(entry.name) for entry in images}
    masks: dict[str, os.DirEntry[str]] = {}
    for entry in images:
        mask = MASK_NAME.fullmatch(name_stem(entry.name))
        if mask is not None and "." in entry.name and mask["stem"] in stems:
            masks[entry.name] = entry
    own = [entry.name for entry in images if entry.name not in masks]
    usable = [name for name in masks if not _CONDITIONING.search(name)]
    mask_of = {own[image]: inside / usable[mask] for image, mask in masks_of(own, usable).items()}
    assigned = {path.name for path in mask_of.values()}
    for name in masks:
        is_clear = name in assigned or name not in usable or plain_stem(name) not in map(name_stem, own)
        listing.left_out.append(Skipped(inside / name, MASK if is_clear else NOT_CLEAR))
    used: set[str] = set()
    for entry in images:
        names = captions.of(entry.name)
        used.update(names)
        if entry.name not in masks:
            file = ImageFile(inside / entry.name, *_stamp(entry), names, mask_of.get(entry.name))
            listing.images.append(file)
    for entry in texts:
        if entry.name in used:
            continue
        if _is_image_by_content(entry):
            listing.images.append(ImageFile(inside / entry.name, *_stamp(entry)))
        else:
            listing.lone_captions.append(inside / entry.name)


def is_caption_file(name: str) -> bool:
    """Whether a file may hold the caption of one image: not tables of captions, diffstudio's own files and `readme.txt`."""
    if os.path.splitext(name)[1].lower() not in CAPTION_SUFFIXES or is_metadata(name):
        return False
    return not name.lower().endswith(_SIDECAR) and _NOT_CAPTIONS.fullmatch(name) is None


class CaptionNames:
    """The caption files of one folder by the images that they may belong to: `cat.txt` and `cat.png.txt` to `cat.png`."""

    def __init__(self, names: Iterable[str]) -> None:
        self._by_stem: dict[str, list[str]] = {}
        for name in names:
            if os.path.splitext(name)[1].lower() in CAPTION_SUFFIXES:
                self._by_stem.setdefault(name_stem(name), []).append(name)

    def of(self, image: str) -> tuple[str, ...]:
        """The names of the caption files of an image, the one to use first."""
        named = (sorted(self._by_stem.get(key, ()), key=_caption_order) for key in (name_stem(image), same_name(image)))
        return tuple(dict.fromkeys(itertools.chain.from_iterable(named)))


def _caption_order(name: str) -> tuple[int, str]:
    return CAPTION_SUFFIXES.index(os.path.splitext(name)[1].lower()), name


def _why_junk(name: str) -> str:
    """Why a file or folder is left out by its name; empty otherwise."""
    lower = name.lower()
    if lower in _JUNK or lower in _JUNK_FILES or lower.startswith((".trash", ".thumb", "._")):
        return JUNK
    return HIDDEN if name.startswith(".") else ""


def _leave_out_mask_folders(folder: Path, listing: Listing) -> None:
    """Leave out folders of masks: named so, with images named as those outside, or as theirs with `_mask`.

    Classes may be called so too, and have images with the same numbers as others: masks are grey, or of few colours.
    """
    outside = {same_name(file.path.stem) for file in listing.images if _mask_folder(file.path) is None}
    inside: dict[Path, list[ImageFile]] = {}
    for file in listing.images:
        if (named := _mask_folder(file.path)) is not None:
            inside.setdefault(named, []).append(file)
    gone: set[Path] = set()
    masks: list[Path] = []
    for named, files in inside.items():
        matching = sum(plain_stem(file.path.name) in outside for file in files)
        examples = [folder / file.path for file in files[:: max(1, len(files) // _EXAMPLES)][:_EXAMPLES]]
        if 2 * matching >= len(files) and all(map(_seems_a_mask, examples)):
            gone.add(named)
            listing.left_out.append(Skipped(named, f"masks of {count_of(len(files), 'other image')}"))
            if not _CONDITIONING.search(named.name) or all(map(_is_grey_or_flat, examples)):
                masks += (file.path for file in files)
    listing.images = [file for file in listing.images if _mask_folder(file.path) not in gone]
    _assign_masks(listing, masks)
    listing.lone_captions = [path for path in listing.lone_captions if _mask_folder(path) not in gone]


def _assign_masks(listing: Listing, masks: Sequence[Path]) -> None:
    """Assign masks from folders of masks to images of the same name without a mask: the nearest, then by `masks_of`."""
    if not masks:
        return
    by_stem: dict[str, list[int]] = {}
    for index, file in enumerate(listing.images):
        if file.mask is None:
            by_stem.setdefault(same_name(file.path.stem), []).append(index)
    claims: dict[tuple[Path, tuple[int, ...]], list[Path]] = {}
    for mask in masks:
        found = by_stem.get(plain_stem(mask.name), [])
        shared = [_shared_folders(listing.images[index].path, mask) for index in found]
        nearest = [index for index, folders in zip(found, shared, strict=True) if folders == max(shared)]
        if nearest:
            claims.setdefault((mask.parent, tuple(nearest)), []).append(mask)
    for (_, numbers), own in claims.items():
        pairs = masks_of([listing.images[index].path.name for index in numbers], [mask.name for mask in own])
        for image, mask_number in pairs.items():
            listing.images[numbers[image]] = replace(listing.images[numbers[image]], mask=own[mask_number])
        unclear = [mask for number, mask in enumerate(own) if number not in pairs.values()]
        listing.left_out += [Skipped(mask, NOT_CLEAR) for mask in unclear]


def _shared_folders(image: Path, mask: Path) -> int:
    """How many parts of an image's folder recur in the path of a mask, not counting folders of masks."""
    folders = [part for part in mask.parent.parts if not _MASK_FOLDER.fullmatch(part)]
    return sum(part in folders for part in image.parent.parts) - len(folders)


def _seems_a_mask(path: Path) -> bool:
    """Whether an image is grey or has few colours, or is to be used beside another by its folder's name."""
    return path.parent.name.casefold().startswith("conditioning") or _is_grey_or_flat(path)


def _is_grey_or_flat(path: Path) -> bool:
    try:
        image = load_image(path).image.convert("RGB")
    except ImageProblem:
        return True  # decides nothing
    return is_grey(image) or image.getcolors(_COLOURS_OF_A_MASK) is not None


def _mask_folder(path: Path) -> Path | None:
    """The outermost folder of masks that a file is in."""
    parts = path.parts[:-1]
    return next((Path(*parts[: depth + 1]) for depth, name in enumerate(parts) if _MASK_FOLDER.fullmatch(name)), None)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a broken link or a link loop
        return False


def _stamp(entry: os.DirEntry[str]) -> tuple[int, int]:
    """Size in bytes and time of modification in ns; -1 where it cannot be reached, so that nothing is remembered."""
    try:
        about = entry.stat()
    except OSError:
        return -1, -1
    return about.st_size, about.st_mtime_ns


def _is_image_by_content(entry: os.DirEntry[str]) -> bool:
    """Whether the first bytes of a regular file are those of an image."""
    try:
        if not stat.S_ISREG(entry.stat().st_mode):  # opening a pipe would block
            return False
        head = read_head(Path(entry.path))
    except OSError:
        return False
    found = format_of(head)
    return found != "" and (found != "BMP" or head[6:10] == bytes(4))  # a text may begin with BM

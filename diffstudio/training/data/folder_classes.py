"""Classes, splits and repeats of training images from the folders that they are in. No torch.

Read are: class folders at the level where they vary (`dataset/{cat,dog}` and `{cat,dog}` alike), the splits
`train/val/test` of Hugging Face, Keras and torchvision at any level, also as parts of names (`DIV2K_train_HR`), and
kohya-ss's `10_sks dog`: ten repeats of the concept `sks dog`
(https://github.com/kohya-ss/sd-scripts/blob/main/docs/train_README-en.md). Names that differ only in how Unicode composes
their letters (NFC, NFD) or in spaces around them are the same; for those that differ only in case see `_without_case`.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffstudio.errors import listed
from diffstudio.training.data.folder_report import HELD_OUT, TRAINING, ImageRecord
from diffstudio.training.recipe.data_recipe import ClassesName

_SPLIT = re.compile(  # a whole word in the name of a folder, also in `trainA`
    r"(?<![^\W\d_])(?i:(?P<train>training|train)|validation|valid|val|testing|test|dev|evaluation|eval|hold[-_ ]?out|"
    r"held[-_ ]?out)(?i:[-_ ]?set)?(?![a-z])"
)
_SAYS_NOTHING = re.compile(r"\b(?:\d{4}|data(?:set)?|images?|imgs?|split)\b", re.IGNORECASE)
_REPEATS = re.compile(r"(0|[1-9]\d{0,2})_(.*\S.*)", re.DOTALL)
_NAMED = 6  # folders named in a note

Folders = tuple[str, ...]  # the names of the folders that lead to an image


@dataclass(frozen=True, slots=True)
class FolderLabels:
    """What the folder of an image says about it."""

    group: str = ""  # its class
    split: str = ""  # TRAINING, HELD_OUT or ""
    repeats: int = 1
    concept: str = ""  # the name in `10_name`, which is the caption of images without one


@dataclass(frozen=True, slots=True)
class Layout:
    """How the folders of a training set were understood."""

    places: Mapping[Folders, FolderLabels]
    notes: tuple[str, ...] = ()  # clauses without a full stop
    loose: str = ""  # the class of images beside the class folders

    def place_of(self, path: Path) -> FolderLabels:
        return self.places[folders_of(path)]


def folders_of(path: Path) -> Folders:
    """The folders that lead to a file. Unlike `path.parts`, nothing is kept in the path: there may be a million."""
    return tuple(path.as_posix().split("/")[:-1])


def first_folder(path: Path) -> str:
    """The class of an image in runs that began before version 0.3: its first subfolder."""
    return path.parts[0] if len(path.parts) > 1 else ""


def layout_of(folders: Iterable[Folders], name: str) -> Layout:
    """The layout of the folders that hold images, each given from the training folder down, which is called `name`."""
    found = sorted(set(folders))
    splits, notes = _splits(found)
    places = {one: FolderLabels(split=split) for one, (split, _) in splits.items()}
    inner = {one: tuple(map(_composed, rest)) for one, (_, rest) in splits.items()}
    wrapping = _common_start(list(inner.values()))
    inner = {one: rest[len(wrapping) :] for one, rest in inner.items()}
    counted = _counted({rest[0] for rest in inner.values() if rest} or set(wrapping[-1:]))
    inner, about_case = _without_case(inner, splits)
    notes += about_case
    groups = {rest[0] for rest in inner.values() if rest}
    loose = _free_name(wrapping[-1] if wrapping else name, groups) if groups and not all(inner.values()) else ""
    if loose:
        notes.append(f"Images beside the class folders are the class {loose}")
    for one, rest in inner.items():
        group = rest[0] if rest else loose
        folder = group if rest else (wrapping[-1] if wrapping else "")
        repeats, concept = counted.get(folder, (1, ""))
        if concept:
            group = concept
        places[one] = replace(places[one], group=group, repeats=repeats, concept=concept)
    if counted:
        shown = ", ".join(f"{concept} {repeats}" for repeats, concept in list(counted.values())[:8])
        notes.append(f"Folders named as by kohya-ss hold a number of repeats and a name: {shown}")
        common = math.gcd(*(place.repeats for place in places.values()))
        places = {one: replace(place, repeats=place.repeats // common) for one, place in places.items()}
    return Layout(places, tuple(notes), loose)


def _composed(name: str) -> str:
    """The same for names that nobody means to be different: in NFC, without spaces around it."""
    return unicodedata.normalize("NFC", name).strip() or name


def _without_case(
    inner: Mapping[Folders, Folders], splits: Mapping[Folders, tuple[str, Folders]]
) -> tuple[dict[Folders, Folders], list[str]]:
    """`inner` with one spelling of each class, and notes on classes whose names differ only in case.

    Beside each other they are two classes, as the letters `A` and `a` are in a folder of handwriting, and it is said how to
    join them. In different folders, such as `train/Cat` and `val/cat`, they are one, named as in the training part.
    """
    found: defaultdict[str, dict[str, None]] = defaultdict(dict)  # spellings, those of the training part first
    places: defaultdict[str, set[Folders]] = defaultdict(set)  # of each spelling: the folders that it lies in
    for one in sorted(inner, key=lambda one: (splits[one][0] == HELD_OUT, one)):
        if rest := inner[one]:
            found[rest[0].casefold()][rest[0]] = None
            places[rest[0]].add(_place_of(one, rest[0]))
    spelling, notes = dict[str, str](), list[str]()
    for names in (list(spellings) for spellings in found.values() if len(spellings) > 1):
        beside = sum(len(places[name]) for name in names) > len(set().union(*(places[name] for name in names)))
        if beside:
            notes.append(
                f"The class folders {_all_or_some(sorted(names))} differ only in case and are {len(names)} classes; "
                "rename them alike if they are one"
            )
        else:
            spelling |= dict.fromkeys(names, names[0])
            notes.append(f"The folders {_all_or_some(sorted(names))} differ only in case and are one class, {names[0]}")
    return {one: (spelling.get(rest[0], rest[0]), *rest[1:]) if rest else rest for one, rest in inner.items()}, notes


def _place_of(folders: Folders, name: str) -> Folders:
    """The folders that lead to the one that is called `name`, as composed; to the last one, if none is."""
    depth = next((depth for depth, part in enumerate(folders) if _composed(part) == name), len(folders) - 1)
    return folders[:depth]


def _splits(folders: Sequence[Folders]) -> tuple[dict[Folders, tuple[str, Folders]], list[str]]:
    """The split of each folder with the folders that lead to it without those that name a split; and notes.

    Folders name splits where all that stand beside each other do, some of them `train` and others not: in
    `{car, train}` they are classes. What else their names say is a class: A and B in `{trainA, trainB, testA, testB}`.
    """
    beside: defaultdict[Folders, set[str]] = defaultdict(set)
    for one in folders:
        for depth, name in enumerate(one):
            beside[one[:depth]].add(name)
    divided = {parent: parts for parent, names in beside.items() if (parts := _as_splits(names))}
    notes = [note for parent in sorted(beside.keys() - divided) if (note := _why_no_splits(beside[parent]))]
    if not divided:
        return {one: ("", one) for one in folders}, notes
    result = {}
    for one in folders:
        named = [divided[one[:depth]][name] for depth, name in enumerate(one) if one[:depth] in divided]
        rest = tuple(
            part
            for depth, name in enumerate(one)
            if (part := divided[one[:depth]][name].rest if one[:depth] in divided else name)
            and not (depth and one[: depth - 1] in divided and name == one[depth - 1])  # `seg_train/seg_train`
        )
        result[one] = TRAINING if all(part.is_train for part in named) else HELD_OUT, rest
    return result, [_about_splits(divided, beside, folders), *notes]


@dataclass(frozen=True, slots=True)
class _SplitName:
    """The name of a folder as that of a split."""

    is_train: bool
    rest: str  # what else the name says; empty where it is the same in all of them


def _as_splits(names: Iterable[str]) -> dict[str, _SplitName]:
    """How the names of folders beside each other name splits; empty if they do not."""
    found = {name: part for name in names if (part := _split_name(name)) is not None}
    rests = {part.rest for part in found.values()}
    kinds = {(part.rest, part.is_train) for part in found.values()}
    if set(names) != found.keys() or len(kinds) != 2 * len(rests):
        return {}
    return found if len(rests) > 1 else {name: replace(part, rest="") for name, part in found.items()}


def _split_name(name: str) -> _SplitName | None:
    found = _SPLIT.search(name)
    if found is None:
        return None
    rest = f"{name[: found.start()]} {name[found.end() :]}"
    rest = _SAYS_NOTHING.sub("", re.sub(r"[\W_]+", " ", rest))
    return _SplitName(found["train"] is not None, " ".join(rest.split()))


def _about_splits(
    divided: Mapping[Folders, Mapping[str, _SplitName]], beside: Mapping[Folders, set[str]], folders: Sequence[Folders]
) -> str:
    train = {name for parts in divided.values() for name, part in parts.items() if part.is_train}
    others = {name for parts in divided.values() for name in parts} - train
    note = (
        f"The folders {_all_or_some([*sorted(train), *sorted(others)])} are kept apart: "
        f"what is in {_all_or_some(sorted(others))} is held out"
    )
    outside = any(not any(one[:depth] in divided for depth in range(len(one))) for one in folders)
    return f"{note}, and what is in none of them is trained on" if outside else note


def _why_no_splits(names: set[str]) -> str:
    """What is said where folders named as splits are classes; empty where none are, or only one, such as `{car, train}`."""
    splits = {name: part for name in names if (part := _split_name(name)) is not None and not part.rest}
    trains = any(part.is_train for part in splits.values())
    others = sorted(names - splits.keys())
    if len(splits) < 2 or (trains and not others):
        return ""
    why = (
        f"because of {_all_or_some(others)} beside them" if trains else "because no folder called train is beside them"
    )
    return f"The folders {_all_or_some(sorted(splits))} are read as classes, not as splits, {why}"


def _all_or_some(names: Sequence[str]) -> str:
    """`train, val and test`."""
    if len(names) > _NAMED:
        return listed(names, _NAMED)
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _common_start(folders: Sequence[Folders]) -> Folders:
    """The folders that wrap all images."""
    first, last = min(folders, default=()), max(folders, default=())
    same = next((depth for depth, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), None)
    return first[: min(len(first), len(last))] if same is None else first[:same]


def _counted(names: Iterable[str]) -> dict[str, tuple[int, str]]:
    """Repeats and concept of each folder named `10_concept`; none where the numbers only count the folders."""
    matches = {name: match for name in sorted(names) if (match := _REPEATS.fullmatch(name))}
    spelling = {match[2].strip().casefold(): match[2].strip() for match in reversed(matches.values())}  # of the first
    found = {name: (int(match[1]), spelling[match[2].strip().casefold()]) for name, match in matches.items()}
    numbers = sorted(repeats for repeats, _ in found.values())
    enumerated = len(numbers) >= 3 and numbers == list(range(1, len(numbers) + 1))
    return {} if enumerated or 0 in numbers else found


def _free_name(name: str, taken: Iterable[str]) -> str:
    """`name`, or a name like it that is not taken."""
    return next(candidate for candidate in _names_like(name) if candidate not in set(taken))


def _names_like(name: str) -> Iterator[str]:
    name = name or "other"
    yield name
    yield from (f"{name} {number}" for number in range(2, 10**6))


def class_labels(
    records: Sequence[ImageRecord], classes_name: ClassesName
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The names of the classes, sorted, and the index of each image's class [N]."""
    groups = [_class_of(record, classes_name) for record in records]
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

"""Classes, splits and repeats of training images from the folders that they are in. No torch.

Read are: class folders at the level where they vary (`dataset/{cat,dog}` and `{cat,dog}` alike), the splits
`train/val/test` of Hugging Face, Keras and torchvision at any level, and kohya-ss's `10_sks dog`: ten repeats of the
concept `sks dog` (https://github.com/kohya-ss/sd-scripts/blob/main/docs/train_README-en.md).
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffstudio.training.data.folder_report import HELD_OUT, TRAINING, ImageRecord
from diffstudio.training.recipe.data_recipe import ClassesName

_TRAIN = re.compile(r"(train|training)([-_ ]?\d{4})?", re.IGNORECASE)
_NOT_TRAIN = re.compile(r"(val|valid|validation|test|testing)([-_ ]?\d{4})?", re.IGNORECASE)
_REPEATS = re.compile(r"([1-9]\d{0,2})_(.*\S.*)", re.DOTALL)

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
    notes: list[str] = []
    splits = _splits(found)
    places = {one: FolderLabels(split=split) for one, (split, _) in splits.items()}
    if any(place.split for place in places.values()):
        notes.append("The folders train, val and test are kept apart: what is not in train is held out")
    inner = {one: rest for one, (_, rest) in splits.items()}
    wrapping = _common_start(list(inner.values()))
    inner = {one: rest[len(wrapping) :] for one, rest in inner.items()}
    counted = _counted({rest[0] for rest in inner.values() if rest} or set(wrapping[-1:]))
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
    return Layout(places, tuple(notes))


def _splits(folders: Sequence[Folders]) -> dict[Folders, tuple[str, Folders]]:
    """The split of each folder, and the folders that lead to it without those that name a split.

    Folders name splits where all that stand beside each other do, at least one of them `train` and one not: in
    `{car, train}` they are classes.
    """
    beside: defaultdict[Folders, set[str]] = defaultdict(set)
    for one in folders:
        for depth, name in enumerate(one):
            beside[one[:depth]].add(name)
    divided = {
        parent
        for parent, names in beside.items()
        if all(_TRAIN.fullmatch(name) or _NOT_TRAIN.fullmatch(name) for name in names)
        and any(_TRAIN.fullmatch(name) for name in names)
        and any(_NOT_TRAIN.fullmatch(name) for name in names)
    }
    if not divided:
        return {one: ("", one) for one in folders}
    result = {}
    for one in folders:
        names = [name for depth, name in enumerate(one) if one[:depth] in divided]
        rest = tuple(name for depth, name in enumerate(one) if one[:depth] not in divided)
        result[one] = HELD_OUT if any(_NOT_TRAIN.fullmatch(name) for name in names) else TRAINING, rest
    return result


def _common_start(folders: Sequence[Folders]) -> Folders:
    """The folders that wrap all images."""
    first, last = min(folders, default=()), max(folders, default=())
    same = next((depth for depth, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), None)
    return first[: min(len(first), len(last))] if same is None else first[:same]


def _counted(names: Iterable[str]) -> dict[str, tuple[int, str]]:
    """Repeats and concept of each folder named `10_concept`; none where the numbers only count the folders."""
    found = {name: (int(match[1]), match[2].strip()) for name in names if (match := _REPEATS.fullmatch(name))}
    numbers = sorted(repeats for repeats, _ in found.values())
    enumerated = len(numbers) >= 3 and numbers == list(range(1, len(numbers) + 1))
    return {} if enumerated else found


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

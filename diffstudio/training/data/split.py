"""Which images of a folder are held out: never trained on, so that the loss on them measures what was learnt. No torch."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffstudio.training.data.folder_classes import class_labels
from diffstudio.training.data.folder_report import HELD_OUT, FolderReport, ImageRecord
from diffstudio.training.data.usable_images import usable_images
from diffstudio.training.recipe import DataRecipe
from diffstudio.training.recipe.data_recipe import ClassesName

MIN_IMAGES_TO_HOLD_OUT = 20  # from this number on, at least one image is held out
MAX_CLUSTER_FRACTION = 0.05  # larger clusters of near-duplicates may be split by the hold-out

FEWEST_IN_FOLD = 2  # images in each fold of a cross-validation, at least


def count_held_out(report: FolderReport, data: DataRecipe) -> int:
    """How many of the images of an inspected folder `build_dataset` holds out."""
    records, _ = usable_images(report, data)
    _, labels = class_labels(records, data.classes)
    return int(held_out_images(records, labels, report, data).sum())


def held_out_images(
    records: Sequence[ImageRecord], labels: NDArray[np.int64], report: FolderReport, data: DataRecipe
) -> NDArray[np.bool_]:
    """[N]: which images are not trained on."""
    paths, same, similar = [record.path for record in records], report.duplicates, report.near_duplicates
    if data.cross_splits:
        return np.zeros(len(paths), dtype=bool)
    if data.classes is ClassesName.FIRST_FOLDER:  # as runs were split before
        return held_out_by_hash(paths, [*same, *similar], data.held_out)
    by_hash = held_out_by_hash(paths, [*similar, *same], data.held_out)  # a copy follows the group of its original
    by_folder = held_out_by_folder(records)
    if by_folder is not None:
        return by_folder
    return with_every_class_trained(_with_copies_trained(by_hash, paths, same), labels)


def count_leaks(report: FolderReport, data: DataRecipe) -> int:
    """How many held-out images have a near-duplicate among those that are trained on, because too many are alike."""
    records, _ = usable_images(report, data)
    _, labels = class_labels(records, data.classes)
    held_out = dict(
        zip((record.path for record in records), held_out_images(records, labels, report, data), strict=True)
    )
    groups = _groups(tuple(held_out), report.near_duplicates)
    mixed = [group for group in groups.values() if len({bool(held_out[path]) for path in group}) == 2]
    return sum(bool(held_out[path]) for group in mixed for path in group)


def _with_copies_trained(
    held_out: NDArray[np.bool_], paths: Sequence[Path], same: Sequence[tuple[Path, Path]]
) -> NDArray[np.bool_]:
    """`held_out` [N] without images of which an exact copy is trained on: there are too many to hold all of them out."""
    index = {path: number for number, path in enumerate(paths)}
    found = held_out.copy()
    for group in _groups(paths, same).values():
        members = [index[path] for path in group]
        if not held_out[members].all():
            found[members] = False
    return found


def folds_of_images(
    records: Sequence[ImageRecord], labels: NDArray[np.int64], report: FolderReport, data: DataRecipe
) -> tuple[int, ...]:
    """In which fold of a cross-validation each image is held out, or -1."""
    paths, similar = [record.path for record in records], [*report.duplicates, *report.near_duplicates]
    return tuple(deal_folds(paths, similar, labels, data.cross_splits).tolist())


def held_out_by_folder(records: Sequence[ImageRecord]) -> NDArray[np.bool_] | None:
    """[N]: the images in folders such as `val` and `test`; None where the folder has no such division."""
    held_out = np.array([record.split == HELD_OUT for record in records], dtype=bool)
    return held_out if held_out.any() and not held_out.all() else None


def held_out_by_hash(paths: Sequence[Path], similar: Sequence[tuple[Path, Path]], fraction: float) -> NDArray[np.bool_]:
    """[N]: which images are held out, decided by a hash of each path, so independent of the other files in the folder.

    Near-duplicates are held out together or not at all: otherwise the held-out loss would measure memorised images.
    """
    first_of: dict[Path, Path] = {}
    for first, second in similar:
        first_of[second] = first_of.get(first, first)
    representatives = [first_of.get(path, path) for path in paths]
    cluster_sizes = Counter(representatives)
    too_many = max(2.0, MAX_CLUSTER_FRACTION * len(paths))
    representatives = [
        path if cluster_sizes[first] > too_many else first for path, first in zip(paths, representatives, strict=True)
    ]
    hashes = np.array([_unit_hash(path) for path in representatives])  # float64 [N] in [0, 1)
    if fraction <= 0:
        return np.zeros(len(paths), dtype=bool)
    held_out: NDArray[np.bool_] = hashes < fraction
    if not held_out.any() and len(paths) >= MIN_IMAGES_TO_HOLD_OUT:
        held_out = hashes == hashes.min()
    if held_out.all():
        held_out = hashes < 0
    return held_out


def deal_folds(
    paths: Sequence[Path], similar: Sequence[tuple[Path, Path]], labels: NDArray[np.int64], folds: int
) -> NDArray[np.int64]:
    """[N]: in which fold of a cross-validation each image is held out, from 0; -1 for images that are in none.

    Near-duplicates are in one fold, whatever their number: the largest groups are dealt first, each into the fold that
    has the fewest images of its class, then the fewest of all. Groups of equal size are ordered by the hashes of their
    paths. The only group of a class is always trained on: without it, no network could learn that class.
    """
    index = {path: number for number, path in enumerate(paths)}
    groups = {first: [index[path] for path in group] for first, group in _groups(paths, similar).items()}
    of_class = Counter(int(labels[members[0]]) for members in groups.values())
    counts: Counter[tuple[int, int]] = Counter()  # (fold, class)
    totals: Counter[int] = Counter()
    found = np.full(len(paths), -1, dtype=np.int64)
    for group in sorted(groups, key=lambda first: (-len(groups[first]), _unit_hash(first))):
        members = groups[group]
        label = int(labels[members[0]])
        if len(of_class) > 1 and of_class[label] == 1:
            continue
        fold = min(range(folds), key=lambda fold: (counts[fold, label], totals[fold], fold))
        found[members] = fold
        counts[fold, label] += len(members)
        totals[fold] += len(members)
    return found


def _groups(paths: Sequence[Path], similar: Iterable[tuple[Path, Path]]) -> dict[Path, list[Path]]:
    """Images that are alike, directly or through others, together by one of them; each in the order of `paths`."""
    parents = {path: path for path in paths}

    def first_of(path: Path) -> Path:
        while parents[path] != path:
            parents[path] = path = parents[parents[path]]
        return path

    for one, other in similar:
        if one in parents and other in parents:
            parents[first_of(other)] = first_of(one)
    groups: dict[Path, list[Path]] = {}
    for path in paths:
        groups.setdefault(first_of(path), []).append(path)
    return groups


def with_every_class_trained(held_out: NDArray[np.bool_], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """`held_out` [N] without the images of classes that would have none left to train on."""
    trained = np.unique(labels[~held_out])
    return held_out & np.isin(labels, trained)


def _unit_hash(path: Path) -> float:
    """A number in [0, 1)."""
    digest = hashlib.sha256(path.as_posix().encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48

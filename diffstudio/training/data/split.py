"""Which images of a folder are held out: never trained on, so that the loss on them measures what was learnt. No torch."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffstudio.evaluation.connected_groups import first_of_groups
from diffstudio.training.data.folder_classes import class_labels
from diffstudio.training.data.folder_report import HELD_OUT, FolderReport, ImageRecord
from diffstudio.training.data.usable_images import usable_images
from diffstudio.training.recipe import DataRecipe
from diffstudio.training.recipe.data_recipe import ClassesName

MIN_IMAGES_TO_HOLD_OUT = 20  # from this number on, at least one image is held out
MAX_CLUSTER_FRACTION = 0.05  # larger groups of near-duplicates may be cut by the hold-out
_NEARLY = 0.75  # of the images wanted from large groups: no group is cut for the rest

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
    by_folder = held_out_by_folder(records)
    if by_folder is not None:
        return by_folder
    if not data.sequences_together:
        by_hash = held_out_by_hash(paths, [*similar, *same], data.held_out)  # a copy follows the group of its original
        return with_every_class_trained(_with_copies_trained(by_hash, paths, same), labels)
    by_group = held_out_by_group(paths, _pairs(report), report.sequences, data.held_out)
    index = {path: number for number, path in enumerate(paths)}
    groups = [[index[path] for path in group] for group in _kept_together(paths, _pairs(report), report.sequences)]
    return with_every_class_trained(_with_copies_trained(by_group, paths, same), labels, groups)


def count_leaks(report: FolderReport, data: DataRecipe) -> int:
    """How many held-out images have a near-duplicate among those that are trained on, because too many are alike.

    Of a group of images in no order, all that are held out; of a sequence, those that are alike themselves. With
    cross-validation, the images with a near-duplicate in another fold.
    """
    records, _ = usable_images(report, data)
    _, labels = class_labels(records, data.classes)
    if data.cross_splits:
        sides = list(folds_of_images(records, labels, report, data))
    else:
        sides = [int(held_out) - 1 for held_out in held_out_images(records, labels, report, data)]
    side_of = dict(zip((record.path for record in records), sides, strict=True))  # negative: always trained on
    frames = set(itertools.chain.from_iterable(report.sequences)) if data.sequences_together else set()
    groups = _groups(tuple(side_of), [*report.near_duplicates, *report.joined])
    mixed = [group for group in groups if len({side_of[path] for path in group}) > 1]
    leaks = {path for group in mixed for path in group if path not in frames}
    for one, other in (*report.near_duplicates, *_neighbours(report.sequences)):
        if one in side_of and other in side_of and side_of[one] != side_of[other]:
            leaks |= {one, other}
    return sum(side_of[path] >= 0 for path in leaks)


def _neighbours(films: Iterable[Sequence[Path]]) -> Iterator[tuple[Path, Path]]:
    """Each frame of a sequence and the next."""
    return itertools.chain.from_iterable(map(itertools.pairwise, films))


def _pairs(report: FolderReport) -> list[tuple[Path, Path]]:
    return [*report.duplicates, *report.near_duplicates, *report.joined]


def _with_copies_trained(
    held_out: NDArray[np.bool_], paths: Sequence[Path], same: Sequence[tuple[Path, Path]]
) -> NDArray[np.bool_]:
    """`held_out` [N] without images of which an exact copy is trained on: there are too many to hold all of them out."""
    index = {path: number for number, path in enumerate(paths)}
    found = held_out.copy()
    for group in _groups(paths, same):
        members = [index[path] for path in group]
        if not held_out[members].all():
            found[members] = False
    return found


def folds_of_images(
    records: Sequence[ImageRecord], labels: NDArray[np.int64], report: FolderReport, data: DataRecipe
) -> tuple[int, ...]:
    """In which fold of a cross-validation each image is held out, or -1."""
    paths = [record.path for record in records]
    return tuple(deal_folds(paths, _pairs(report), labels, data.cross_splits, report.sequences).tolist())


def held_out_by_folder(records: Sequence[ImageRecord]) -> NDArray[np.bool_] | None:
    """[N]: the images in folders such as `val` and `test`; None where the folder has no such division."""
    held_out = np.array([record.split == HELD_OUT for record in records], dtype=bool)
    return held_out if held_out.any() and not held_out.all() else None


def held_out_by_group(
    paths: Sequence[Path], similar: Sequence[tuple[Path, Path]], films: Sequence[Sequence[Path]], fraction: float
) -> NDArray[np.bool_]:
    """[N]: which images are held out, decided by a hash of paths, so independent of the other files in the folder.

    Near-duplicates, also those joined through others, and the frames of a sequence are held out together or not at all:
    otherwise the held-out loss would measure memorised images. Groups of more than MAX_CLUSTER_FRACTION of all images are
    dealt out apart from the others, so that the fraction is kept: one of them may be cut.
    """
    index = {path: number for number, path in enumerate(paths)}
    inside = [[frame for frame in film if frame in index] for film in films]
    groups = {group[0]: group for group in _kept_together(paths, similar, films)}
    held_out = np.zeros(len(paths), dtype=bool)
    if fraction <= 0:
        return held_out
    too_many = max(2.0, MAX_CLUSTER_FRACTION * len(paths))
    hashes = {first: _unit_hash(first) for first in groups}
    small = [first for first in groups if len(groups[first]) <= too_many]
    chosen = [path for first in small if hashes[first] < fraction for path in groups[first]]
    large = sorted((first for first in groups if len(groups[first]) > too_many), key=hashes.__getitem__)
    wanted = round(fraction * sum(len(groups[first]) for first in large))
    if not chosen and not wanted and len(paths) >= MIN_IMAGES_TO_HOLD_OUT:
        chosen, wanted = groups[min(small, key=hashes.__getitem__)] if small else [], int(not small)
    chosen += _of_large_groups([groups[first] for first in large], inside, wanted)
    if len(chosen) < len(paths):
        held_out[[index[path] for path in chosen]] = True
    return held_out


def _of_large_groups(groups: Sequence[Sequence[Path]], films: Sequence[Sequence[Path]], wanted: int) -> list[Path]:
    """`wanted` of the images in these groups, or nearly as many: whole groups while they fit, then a part of the next.

    Where a group is cut, the last frames of its sequences are held out, so that few of them have neighbours on the other
    side; images in no sequence are chosen by the hashes of their paths.
    """
    chosen: list[Path] = []
    rest = []
    for group in groups:
        if len(chosen) + len(group) <= wanted:
            chosen += group
        else:
            rest.append(group)
    if len(chosen) >= _NEARLY * wanted or not rest:
        return chosen
    place = {frame: number for number, frame in enumerate(itertools.chain.from_iterable(films))}
    in_order = 2 * sum(path in place for path in rest[0]) >= len(rest[0])
    ordered = sorted(rest[0], key=(lambda path: place.get(path, -1)) if in_order else _unit_hash)
    return chosen + ordered[len(ordered) - (wanted - len(chosen)) :]


def held_out_by_hash(paths: Sequence[Path], similar: Sequence[tuple[Path, Path]], fraction: float) -> NDArray[np.bool_]:
    """[N]: which images are held out in runs of earlier versions: of a large group of near-duplicates each by itself."""
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
    paths: Sequence[Path],
    similar: Sequence[tuple[Path, Path]],
    labels: NDArray[np.int64],
    folds: int,
    films: Sequence[Sequence[Path]] = (),
) -> NDArray[np.int64]:
    """[N]: in which fold of a cross-validation each image is held out, from 0; -1 for images that are in none.

    Near-duplicates are in one fold, whatever their number: the largest groups are dealt first, each into the fold that
    has the fewest images of its class, then the fewest of all. Groups of equal size are ordered by the hashes of their
    paths. The only group of a class is always trained on: without it, no network could learn that class. A sequence of
    frames that is longer than a fold is cut into parts, each of frames that follow each other.
    """
    index = {path: number for number, path in enumerate(paths)}
    parts = _parts_of_films(films, index, -(-len(paths) // folds))
    part_of = {
        frame: (film, number) for film, cut in enumerate(parts) for number, part in enumerate(cut) for frame in part
    }
    together = [*similar, *_neighbours(itertools.chain.from_iterable(parts))]
    together = [pair for pair in together if not _are_cut(*(part_of.get(path) for path in pair))]
    groups = {group[0]: [index[path] for path in group] for group in _groups(paths, together)}
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


def _parts_of_films(films: Sequence[Sequence[Path]], used: Container[Path], longest: int) -> list[list[list[Path]]]:
    """The frames of each sequence that are used, in as few parts of equal length as possible, of at most `longest`."""
    found = []
    for film in films:
        frames = [frame for frame in film if frame in used]
        count = max(1, -(-len(frames) // longest))
        ends = [round(part * len(frames) / count) for part in range(count + 1)]
        found.append([frames[begin:end] for begin, end in itertools.pairwise(ends)])
    return found


def _are_cut(one: tuple[int, int] | None, other: tuple[int, int] | None) -> bool:
    """Whether two images are in different parts of one sequence, from the (sequence, part) of each."""
    return one is not None and other is not None and one[0] == other[0] and one != other


def _groups(paths: Sequence[Path], similar: Iterable[tuple[Path, Path]]) -> list[list[Path]]:
    """Images that are alike, directly or through others, together; each group, and the groups, in the order of `paths`."""
    index = {path: number for number, path in enumerate(paths)}
    pairs = [(index[one], index[other]) for one, other in similar if one in index and other in index]
    first_of = first_of_groups(len(paths), *np.array(pairs, dtype=np.intp).reshape(-1, 2).T)
    groups: dict[int, list[Path]] = {}
    for path, first in zip(paths, first_of.tolist(), strict=True):
        groups.setdefault(first, []).append(path)
    return list(groups.values())


def _kept_together(
    paths: Sequence[Path], similar: Sequence[tuple[Path, Path]], films: Sequence[Sequence[Path]]
) -> list[list[Path]]:
    """The groups of near-duplicates and of the frames of a sequence."""
    used = set(paths)
    return _groups(paths, [*similar, *_neighbours([frame for frame in film if frame in used] for film in films)])


def with_every_class_trained(
    held_out: NDArray[np.bool_], labels: NDArray[np.int64], groups: Iterable[Sequence[int]] = ()
) -> NDArray[np.bool_]:
    """`held_out` [N] without the images of classes that would have none left to train on.

    With them go the images of their `groups` that were held out as a whole, also those of other classes.
    """
    trained = np.unique(labels[~held_out])
    found: NDArray[np.bool_] = held_out & np.isin(labels, trained)
    for group in groups:
        members = list(group)
        if held_out[members].all() and not found[members].all():
            found[members] = False
    return found


def _unit_hash(path: Path) -> float:
    """A number in [0, 1)."""
    digest = hashlib.sha256(path.as_posix().encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48

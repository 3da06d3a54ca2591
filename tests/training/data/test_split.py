"""Which images are held out where the folder says so, and no class without an image to train on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diffstudio.training.data.folder_report import HELD_OUT, TRAINING, FolderReport, ImageRecord
from diffstudio.training.data.split import (
    count_held_out,
    count_leaks,
    deal_folds,
    held_out_by_folder,
    held_out_by_group,
    held_out_by_hash,
    held_out_images,
    with_every_class_trained,
)
from diffstudio.training.recipe import DataRecipe

RECORD = ImageRecord(Path("a.png"), 20, 20, (), "", False)


def test_the_folders_division_is_used_where_there_is_one() -> None:
    train, val = replace(RECORD, split=TRAINING), replace(RECORD, split=HELD_OUT)
    held_out = held_out_by_folder([train, val, train])
    assert held_out is not None and held_out.tolist() == [False, True, False]
    assert held_out_by_folder([RECORD, RECORD]) is None
    assert held_out_by_folder([val, val]) is None  # the others are excluded by the recipe


def test_a_copy_is_held_out_with_what_its_original_resembles() -> None:
    """Of (a, b) that resemble each other and (b, c) that are equal: all three together, for any names."""
    for number in range(300):
        a, b, c = (Path(f"{number}{letter}.png") for letter in "abc")
        others = [Path(f"{number}-{other}.png") for other in range(60)]
        for held_out in (
            held_out_by_hash([a, b, c, *others], [(a, b), (b, c)], 0.3),
            held_out_by_group([a, b, c, *others], [(a, b), (b, c)], (), 0.3),
        ):
            assert len(set(held_out[:3].tolist())) == 1


def test_many_exact_copies_are_all_trained_on_and_of_many_similar_images_the_leaks_are_counted() -> None:
    records = tuple(replace(RECORD, path=Path(f"{number:02}.png")) for number in range(90))
    paths, data = [record.path for record in records], DataRecipe(held_out=0.3)
    alike = tuple((paths[0], other) for other in paths[1:50])
    copies = FolderReport(Path("p"), records, duplicates=alike)
    assert 0 < count_held_out(copies, data) <= 40 and count_leaks(copies, data) == 0
    similar = FolderReport(Path("p"), records, near_duplicates=alike)
    held_out = count_held_out(similar, data)
    assert count_leaks(similar, data) == held_out - count_held_out(copies, data) > 0
    assert count_leaks(FolderReport(Path("p"), records), data) == 0


def frames_of(film: str, count: int) -> list[Path]:
    return [Path(f"{film}_{number:03}.png") for number in range(count)]


def test_a_folder_without_large_groups_is_split_as_before_whatever_files_are_added() -> None:
    few, many = frames_of("a", 500), [*frames_of("a", 500), *frames_of("b", 300)]
    similar = [(few[0], few[7]), (few[7], few[9]), (few[1], few[3])]
    held_out = held_out_by_group(few, similar, (), 0.2)
    assert (held_out == held_out_by_hash(few, similar, 0.2)).all()
    assert (held_out_by_group(many, similar, (), 0.2)[:500] == held_out).all()


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.2, 0.3])
def test_the_last_part_of_a_film_is_held_out(fraction: float) -> None:
    """Each frame by itself would be known from its neighbours. Between both parts is only one pair of neighbours."""
    frames = frames_of("frame", 300)
    report = FolderReport(Path("p"), tuple(replace(RECORD, path=path) for path in frames), sequences=(tuple(frames),))
    held_out = held_out_images(report.images, np.zeros(300, np.int64), report, DataRecipe(held_out=fraction))
    count = round(fraction * 300)
    assert held_out.tolist() == [False] * (300 - count) + [True] * count
    assert count_leaks(report, DataRecipe(held_out=fraction)) == 1
    before = DataRecipe(held_out=fraction, sequences_together=False)
    single = held_out_images(report.images, np.zeros(300, np.int64), report, before)
    assert (single == held_out_by_hash(frames, [], fraction)).all()
    assert (single[1:] != single[:-1]).sum() >= 0.5 * count
    assert count_leaks(report, before) > 0.7 * single.sum()


def test_whole_scenes_are_held_out_where_they_fit_and_the_share_is_kept() -> None:
    scenes = [frames_of(f"scene{number}", 20) for number in range(15)]
    paths = [path for scene in scenes for path in scene]
    held_out = held_out_by_group(paths, [], scenes, 0.2)
    assert held_out.sum() == 60
    assert sum(held_out.reshape(15, 20).all(axis=1)) == 3
    assert (held_out == held_out_by_group(paths, [], scenes, 0.2)).all()
    for fraction in (0.1, 0.15, 0.25, 0.3):
        assert abs(held_out_by_group(paths, [], scenes, fraction).mean() - fraction) <= 0.25 * fraction


def test_short_scenes_of_a_large_folder_are_never_cut() -> None:
    scenes = [frames_of(f"scene{number}", 10) for number in range(60)]
    held_out = held_out_by_group([path for scene in scenes for path in scene], [], scenes, 0.2).reshape(60, 10)
    assert (held_out.all(axis=1) | ~held_out.any(axis=1)).all() and 0.1 < held_out.mean() < 0.3


@pytest.mark.parametrize(("count", "fraction", "most"), [(300, 0.0, 0), (300, 0.0001, 1), (19, 0.01, 0), (3, 0.99, 2)])
def test_of_a_single_film_something_is_trained_on_and_of_enough_frames_one_is_held_out(
    count: int, fraction: float, most: int
) -> None:
    frames = frames_of("frame", count)
    held_out = held_out_by_group(frames, [], [frames], fraction)
    assert held_out.sum() == (most if count != 3 else 0)


def test_of_many_alike_in_no_order_the_share_is_held_out() -> None:
    paths = frames_of("emoji", 200)
    held_out = held_out_by_group(paths, [(paths[0], other) for other in paths[1:]], (), 0.2)
    assert held_out.sum() == 40 and not held_out[160:].all()


def test_folds_cut_a_film_into_parts_and_the_leaks_between_them_are_counted() -> None:
    frames = frames_of("frame", 40)
    near = [(frames[number - 1], frames[number]) for number in range(1, 40)]
    folds = deal_folds(frames, near, np.zeros(40, np.int64), 4, [frames])
    assert np.bincount(folds).tolist() == [10] * 4 and (np.diff(folds) != 0).sum() == 3
    records = tuple(replace(RECORD, path=path) for path in frames)
    report = FolderReport(Path("p"), records, near_duplicates=tuple(near), sequences=(tuple(frames),))
    assert count_leaks(report, DataRecipe(cross_splits=4)) == 6  # both neighbours at three cuts


def test_no_class_is_held_out_as_a_whole() -> None:
    held_out = np.array([True, True, False, True, False])
    labels = np.array([0, 0, 1, 1, 2])
    assert with_every_class_trained(held_out, labels).tolist() == [False, False, False, True, False]


def test_a_class_that_must_be_trained_on_takes_its_near_duplicates_along() -> None:
    """Else an image of another class that resembles it would be held out alone, and the loss on it remembered."""
    for number in range(40):
        records = [replace(RECORD, path=Path(f"many/{number}-{other}.png"), group="many") for other in range(80)]
        alike = [replace(RECORD, path=Path(f"{group}/{number}.png"), group=group) for group in ("few", "many")]
        pairs = ((alike[0].path, alike[1].path),)
        report = FolderReport(Path("p"), (alike[0], *records, alike[1]), near_duplicates=pairs)
        held_out = held_out_images(report.images, np.array([0, *[1] * 81]), report, DataRecipe(held_out=0.3))
        assert not held_out[0] and not held_out[-1] and held_out.any()


def test_folds_keep_near_duplicates_together_and_hold_out_every_image_once() -> None:
    """Groups joined through any of their members, larger than the limit at which a single hold-out divides them too."""
    for number in range(50):
        paths = [Path(f"{number}-{index:02}.png") for index in range(24)]
        similar = [(paths[0], paths[20]), (paths[5], paths[20]), *((paths[7], paths[index]) for index in range(8, 13))]
        folds = deal_folds(paths, similar, np.zeros(24, dtype=np.int64), 4)
        assert len({folds[0], folds[5], folds[20]}) == 1 and len(set(folds[7:13].tolist())) == 1
        assert np.bincount(folds).tolist() == [6, 6, 6, 6]
        assert (deal_folds(paths, similar, np.zeros(24, dtype=np.int64), 4) == folds).all()


def test_folds_have_images_of_every_class_and_a_class_of_one_group_is_always_trained_on() -> None:
    paths = [Path(f"{index:02}.png") for index in range(19)]
    labels = np.array([0] * 8 + [1] * 8 + [2, 2, 2])
    folds = deal_folds(paths, [(paths[16], paths[17]), (paths[17], paths[18])], labels, 4)
    for label in (0, 1):
        assert np.bincount(folds[labels == label]).tolist() == [2, 2, 2, 2]
    assert folds[16:].tolist() == [-1, -1, -1]

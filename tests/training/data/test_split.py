"""Which images are held out where the folder says so, and no class without an image to train on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from diffstudio.training.data.folder_report import HELD_OUT, TRAINING, FolderReport, ImageRecord
from diffstudio.training.data.split import (
    count_held_out,
    count_leaks,
    deal_folds,
    held_out_by_folder,
    held_out_by_hash,
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
        held_out = held_out_by_hash([a, b, c, *others], [(a, b), (b, c)], 0.3)
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


def test_no_class_is_held_out_as_a_whole() -> None:
    held_out = np.array([True, True, False, True, False])
    labels = np.array([0, 0, 1, 1, 2])
    assert with_every_class_trained(held_out, labels).tolist() == [False, False, False, True, False]


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

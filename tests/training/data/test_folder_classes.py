"""Which class, split and number of repeats the folders of an image say."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffstudio.training.data.folder_classes import FolderLabels, first_folder, layout_of
from diffstudio.training.data.folder_report import HELD_OUT, TRAINING


def places(*folders: str) -> dict[str, FolderLabels]:
    layout = layout_of([Path(folder).parts for folder in folders], "pets")
    return {folder: layout.place_of(Path(folder) / "x.png") for folder in folders}


def groups(*folders: str) -> dict[str, str]:
    return {folder: place.group for folder, place in places(*folders).items()}


def test_a_folder_without_sub_folders_has_no_classes() -> None:
    assert places("") == {"": FolderLabels()}


def test_class_folders_may_be_wrapped_and_divided_further() -> None:
    assert groups("cat", "dog") == {"cat": "cat", "dog": "dog"}
    assert groups("dataset/cat", "dataset/dog/young", "dataset/dog/old") == {
        "dataset/cat": "cat",
        "dataset/dog/young": "dog",
        "dataset/dog/old": "dog",
    }
    assert groups("a/b/c") == {"a/b/c": ""}


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("train", "val", "test"), ("Training", "validation", "Test"), ("train2017", "valid", "testing")],
)
def test_splits_are_no_classes(train: str, val: str, test: str) -> None:
    found = places(f"{train}/cat", f"{train}/dog", f"{val}/cat", f"{val}/dog", f"{test}/cat")
    assert found == {
        f"{train}/cat": FolderLabels("cat", TRAINING),
        f"{train}/dog": FolderLabels("dog", TRAINING),
        f"{val}/cat": FolderLabels("cat", HELD_OUT),
        f"{val}/dog": FolderLabels("dog", HELD_OUT),
        f"{test}/cat": FolderLabels("cat", HELD_OUT),
    }


def test_splits_are_found_wrapped_inside_classes_and_without_classes() -> None:
    assert places("data/train", "data/test") == {
        "data/train": FolderLabels("", TRAINING),
        "data/test": FolderLabels("", HELD_OUT),
    }
    assert places("cat/train", "cat/val", "dog/train") == {
        "cat/train": FolderLabels("cat", TRAINING),
        "cat/val": FolderLabels("cat", HELD_OUT),
        "dog/train": FolderLabels("dog", TRAINING),
    }


@pytest.mark.parametrize(
    ("train", "held_out"),
    [
        ("train", "dev"),
        ("TRAIN", "valid"),
        ("training_set", "test_set"),
        ("DIV2K_train_HR", "DIV2K_valid_HR"),
        ("trainset", "holdout"),
    ]
    + [("seg_train/seg_train", "seg_test/seg_test"), ("train images", "eval-data")],
)
def test_splits_may_be_a_word_in_the_names_of_folders(train: str, held_out: str) -> None:
    found = places(f"{train}/cat", f"{train}/dog", f"{held_out}/cat", f"{held_out}/dog")
    assert [(place.group, place.split) for place in found.values()] == [
        ("cat", TRAINING),
        ("dog", TRAINING),
        ("cat", HELD_OUT),
        ("dog", HELD_OUT),
    ]


def test_what_else_the_names_of_splits_say_is_the_class() -> None:
    found = places("trainA", "trainB", "testA", "testB")
    assert found["trainB"] == FolderLabels("B", TRAINING) and found["testA"] == FolderLabels("A", HELD_OUT)
    assert groups("trainA", "testB") == {"trainA": "trainA", "testB": "testB"}
    assert groups("train station", "test tube") == {"train station": "train station", "test tube": "test tube"}
    assert groups("value", "trained", "tests")["value"] == "value"


def test_the_notes_name_the_folders_that_are_splits_and_those_that_are_none() -> None:
    layout = layout_of([("Training",), ("valid",), ()], "pets")
    assert layout.notes == (
        "The folders Training and valid are kept apart: what is in valid is held out, and what is in none of them is "
        "trained on",
    )
    assert layout_of([("train",), ("val",), ("extra",)], "pets").notes == (
        "The folders train and val are read as classes, not as splits, because of extra beside them",
    )
    assert layout_of([("test",), ("val",)], "pets").notes == (
        "The folders test and val are read as classes, not as splits, because no folder called train is beside them",
    )
    assert layout_of([("train",), ("training",)], "pets").notes == ()
    many = [(f"a{number}/{split}", "x") for number in range(5) for split in ("train", "test")]
    assert layout_of([(*first.split("/"), last) for first, last in many], "pets").notes == (
        "The folders train and test are kept apart: what is in test is held out",
    )
    numbers = [(f"{split} {number}",) for split in ("train", "dev") for number in "123456789"]
    assert "and 12 more are kept apart" in layout_of(numbers, "pets").notes[0]


def test_a_class_is_the_same_in_both_normal_forms() -> None:
    assert groups("ba\u0308r", "b\u00e4r", "cat") == {"ba\u0308r": "b\u00e4r", "b\u00e4r": "b\u00e4r", "cat": "cat"}


def test_spaces_around_a_name_make_no_other_class() -> None:
    assert set(groups("cat", "cat ", " dog", "dog").values()) == {"cat", "dog"}


def notes(*folders: str) -> list[str]:
    return list(layout_of([Path(folder).parts for folder in folders], "pets").notes)


def test_classes_beside_each_other_that_differ_only_in_case_are_said_and_how_to_join_them() -> None:
    """Letters of handwriting are two classes, `A` and `a`; of an animal nobody can tell."""
    assert groups("Cat", "cat", "dog") == {"Cat": "Cat", "cat": "cat", "dog": "dog"}
    assert notes("Cat", "cat", "dog") == [
        "The class folders Cat and cat differ only in case and are 2 classes; rename them alike if they are one"
    ]
    assert groups("train/A", "train/a", "val/A", "val/a")["val/a"] == "a"
    assert any("A and a differ only in case" in note for note in notes("train/A", "train/a", "val/A", "val/a"))
    assert not notes("cat", "dog")


def test_a_class_that_is_spelled_otherwise_in_another_split_is_one() -> None:
    """Else the held-out images of `cat` would be left out, because no training image has that class."""
    folders = ("train/Cat", "train/dog", "val/cat", "test/CAT", "val/dog")
    found = places(*folders)
    assert {folder: place.group for folder, place in found.items()} == {
        "train/Cat": "Cat",
        "train/dog": "dog",
        "val/cat": "Cat",
        "test/CAT": "Cat",
        "val/dog": "dog",
    }
    assert "The folders CAT, Cat and cat differ only in case and are one class, Cat" in notes(*folders)
    assert groups("x/Cat/train", "x/dog/train", "x/Cat/val", "x/dog/val")["x/Cat/val"] == "Cat"


def test_concepts_that_differ_only_in_case_are_one() -> None:
    found = places("10_cat", "5_Cat", "2_dog")
    assert {place.group for place in found.values()} == {"cat", "dog"} and found["5_Cat"].concept == "cat"


def test_a_class_called_train_is_a_class() -> None:
    assert groups("bus", "train") == {"bus": "bus", "train": "train"}
    assert groups("val", "test") == {"val": "val", "test": "test"}
    assert {place.split for place in places("bus", "train").values()} == {""}


def test_kohyas_repeats() -> None:
    assert places("10_sks dog") == {"10_sks dog": FolderLabels("sks dog", repeats=1, concept="sks dog")}
    assert places("img/20_sks dog", "img/5_dog") == {
        "img/20_sks dog": FolderLabels("sks dog", repeats=4, concept="sks dog"),
        "img/5_dog": FolderLabels("dog", repeats=1, concept="dog"),
    }
    assert places("4_sks dog", "dog")["4_sks dog"].repeats == 4


def test_numbers_that_only_count_the_folders_are_no_repeats() -> None:
    assert groups("1_cat", "2_dog", "3_emu") == {"1_cat": "1_cat", "2_dog": "2_dog", "3_emu": "3_emu"}
    assert groups("0_cat", "1_dog") == {"0_cat": "0_cat", "1_dog": "1_dog"}
    assert groups("001_albatross", "002_finch") == {"001_albatross": "001_albatross", "002_finch": "002_finch"}
    assert groups("2023_trip", "2024_trip") == {"2023_trip": "2023_trip", "2024_trip": "2024_trip"}


def test_images_beside_class_folders_are_a_class_with_a_name() -> None:
    layout = layout_of([(), ("cat",), ("dog",)], "pets")
    assert layout.place_of(Path("x.png")).group == "pets"
    assert layout.notes == ("Images beside the class folders are the class pets",)
    assert layout_of([(), ("pets",)], "pets").place_of(Path("x.png")).group == "pets 2"
    assert layout_of([("all",), ("all", "cat")], "pets").place_of(Path("all/x.png")).group == "all"


def test_the_classes_of_earlier_versions() -> None:
    assert [first_folder(Path(path)) for path in ("a.png", "train/cat/a.png")] == ["", "train"]

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

"""Which files of a folder are images, which captions belong to them, and what is left out by name."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffstudio.imaging.formats import why_not_read
from diffstudio.training.data.folder_layout import (
    BROKEN_LINK,
    HIDDEN,
    JUNK,
    LEFT_OUT_BY_USER,
    MASK,
    NOT_CLEAR,
    Listing,
    list_folder,
)
from diffstudio.training.data.folder_report import Skipped


def image(path: Path, kind: str = "PNG") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20)).save(path, kind)


def text(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("a caption")


def listed(folder: Path, left_out: frozenset[Path] = frozenset()) -> Listing:
    listing = Listing()
    list(list_folder(folder, listing, left_out))
    return listing


def names(listing: Listing) -> list[str]:
    return [file.path.as_posix() for file in listing.images]


def reasons(listing: Listing) -> dict[str, str]:
    return {skipped.path.as_posix(): skipped.why for skipped in listing.left_out}


def test_images_are_recognised_by_their_content_whatever_their_name(tmp_path: Path) -> None:
    for name in ("a.jpg_large", "b", "c.png?width=640", "d.dat", "e.txt", "f.JPG", "g.caption"):
        image(tmp_path / name, "JPEG")
    (tmp_path / "h.txt").write_text("BM is how a bitmap begins, and this note")
    (tmp_path / "i.dat").write_text("BM is how a bitmap begins, and this note")
    (tmp_path / "j.note").write_bytes(b"PK\x03\x04")
    listing = listed(tmp_path)
    assert names(listing) == ["a.jpg_large", "b", "c.png?width=640", "d.dat", "e.txt", "f.JPG", "g.caption"]
    assert listing.lone_captions == [Path("h.txt")]
    assert listing.others == {".dat": 1, ".note": 1}


def test_captions_meet_their_images_in_any_composition_and_case(tmp_path: Path) -> None:
    image(tmp_path / "caf\u00e9.png")
    text(tmp_path / "cafe\u0301.txt")
    image(tmp_path / "b.PNG")
    text(tmp_path / "B.Caption")
    text(tmp_path / "b.png.txt")
    text(tmp_path / "b.json")
    listing = listed(tmp_path)
    assert {file.path.name: file.captions for file in listing.images} == {
        "b.PNG": ("B.Caption", "b.json", "b.png.txt"),
        "caf\u00e9.png": ("cafe\u0301.txt",),
    }
    assert listing.lone_captions == []


@pytest.mark.parametrize(
    "litter",
    [
        "@eaDir", "$RECYCLE.BIN", ".Trash-1000", ".thumbnails", "#recycle", "__MACOSX", "lost+found",
        "System Volume Information", "@Recycle", ".Trashes",
    ],
)  # fmt: skip
def test_folders_of_other_programs_are_named_and_not_entered(tmp_path: Path, litter: str) -> None:
    image(tmp_path / "a.png")
    image(tmp_path / litter / "b.png")
    image(tmp_path / "deeper" / litter / "c.png")
    listing = listed(tmp_path)
    assert names(listing) == ["a.png"]
    assert reasons(listing) == {litter: JUNK, f"deeper/{litter}": JUNK}


def test_files_of_other_programs_and_hidden_ones_are_named(tmp_path: Path) -> None:
    for name in ("a.png", "._a.png", ".hidden.png"):
        image(tmp_path / name)
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store"):
        (tmp_path / name).touch()
    assert reasons(listed(tmp_path)) == {
        "._a.png": JUNK,
        ".hidden.png": HIDDEN,
        ".DS_Store": HIDDEN,
        "Thumbs.db": JUNK,
        "desktop.ini": JUNK,
    }


def test_masks_are_left_out_where_their_images_are(tmp_path: Path) -> None:
    for name in ("a.png", "a_mask.png", "b.jpg", "b-masklabel.png", "c.png", "c-condlabel.png", "fox_mask.png"):
        image(tmp_path / name)
    text(tmp_path / "a_mask.txt")
    listing = listed(tmp_path)
    assert names(listing) == ["a.png", "b.jpg", "c.png", "fox_mask.png"]
    assert set(reasons(listing).values()) == {MASK} and len(listing.left_out) == 3
    assert listing.lone_captions == []


def test_folders_of_masks_are_left_out_where_they_match_images(tmp_path: Path) -> None:
    for name in ("img/a.png", "img/b.png", "masks/a.png", "masks/b_mask.png", "conditioning/b.png"):
        image(tmp_path / name)
    listing = listed(tmp_path)
    assert names(listing) == ["img/a.png", "img/b.png"]
    assert reasons(listing) == {"masks": "masks of 2 other images", "conditioning": "masks of 1 other image"}


def test_a_class_called_masks_is_a_class(tmp_path: Path) -> None:
    for name in ("hats/a.png", "masks/venice.png", "masks/tiger.png"):
        image(tmp_path / name)
    assert names(listed(tmp_path)) == ["hats/a.png", "masks/tiger.png", "masks/venice.png"]


def test_a_class_called_mask_with_the_same_numbers_as_another_is_a_class(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    for name in ("mask/0.png", "mask/1.png", "no_mask/0.png", "no_mask/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(chance.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(tmp_path / name)
    assert names(listed(tmp_path)) == ["mask/0.png", "mask/1.png", "no_mask/0.png", "no_mask/1.png"]


def test_camera_raw_is_named_and_not_taken_for_a_small_tiff(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    image(tmp_path / "b.NEF", "TIFF")
    image(tmp_path / "c.dng", "TIFF")
    listing = listed(tmp_path)
    why = "camera raw files are not read; export them as TIFF or JPEG"
    assert names(listing) == ["a.png"] and reasons(listing) == {"b.NEF": why, "c.dng": why}


def test_files_that_people_may_take_for_images_are_named_with_the_reason(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    image(tmp_path / "whole.png.part")  # by its content
    for name in ("b.EXR", "c.svg", "d.mp4", "e.zip", "f.npz", "g.png.crdownload", "h.parquet"):
        (tmp_path / name).write_bytes(b"x")
    for name in ("captions.csv", "train.jsonl", "list.xlsx", "metadata.csv"):
        (tmp_path / name).write_bytes(b"x")
    listing = listed(tmp_path)
    assert names(listing) == ["a.png", "whole.png.part"] and not listing.others
    assert reasons(listing) == {
        name: why_not_read(Path(name).suffix.lower())
        for name in ("b.EXR", "c.svg", "d.mp4", "e.zip", "f.npz", "g.png.crdownload", "h.parquet")
    }
    assert all(reasons(listing).values())
    assert listing.tables == [Path("captions.csv"), Path("list.xlsx"), Path("train.jsonl")]
    assert listing.metadata == [Path("metadata.csv")]


def test_what_the_user_left_out_is_named(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "old/c.png"):
        image(tmp_path / name)
    listing = listed(tmp_path, frozenset({Path("a.png"), Path("old"), Path("gone.png")}))
    assert names(listing) == ["b.png"]
    assert reasons(listing) == {"a.png": LEFT_OUT_BY_USER, "old": LEFT_OUT_BY_USER}


def test_files_beside_images_that_are_no_captions(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    for name in ("a.png.diffstudio.json", "README.txt", "classes.txt"):
        (tmp_path / name).write_text("{}")
    listing = listed(tmp_path)
    assert listing.images[0].captions == ()
    assert listing.others == {".json": 1, ".txt": 2} and listing.lone_captions == []


@pytest.mark.skipif(sys.platform == "win32", reason="links need a permission there")
def test_broken_links_are_named(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    for name in ("b.png", "a.txt", "c"):
        os.symlink("nowhere", tmp_path / name)
    os.symlink("loop.png", tmp_path / "loop.png")
    listing = listed(tmp_path)
    assert names(listing) == ["a.png"] and not listing.others and not listing.lone_captions
    assert listing.skipped == [Skipped(Path(name), BROKEN_LINK) for name in ("a.txt", "b.png", "c", "loop.png")]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a permission there")
def test_links_are_followed_but_not_to_folders_that_are_read_already_or_that_hold_this_one(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    for name in ("mine/zebra/a.png", "mine/zebra/deep/b.png", "elsewhere/c.png", "others/d.png"):
        image(tmp_path / name)
    for name, target in {"alias": "zebra", "zebra/up": "..", "out": "../..", "cat": "../elsewhere"}.items():
        os.symlink(target, folder / name, target_is_directory=True)
    listing = listed(folder)
    assert names(listing) == ["cat/c.png", "zebra/a.png", "zebra/deep/b.png"]
    assert reasons(listing) == {
        "alias": "it leads to a folder that is read already",
        "zebra/up": "it leads to a folder that is read already",
        "out": "it is a link to a folder that this folder is in",
    }


def test_the_labels_of_a_segmentation_data_set_are_masks(tmp_path: Path) -> None:
    for name in ("images/a.jpg", "images/b.jpg", "labels/a.png", "labels/b.png", "SegmentationClass/a.png", "gt/b.png"):
        image(tmp_path / name)
    listing = listed(tmp_path)
    assert names(listing) == ["images/a.jpg", "images/b.jpg"]
    assert reasons(listing).keys() == {"labels", "SegmentationClass", "gt"}


def test_each_image_has_its_mask_beside_it_or_in_a_folder_of_masks(tmp_path: Path) -> None:
    for name in ("a.png", "a_mask.png", "b.jpg", "b-masklabel.png", "c.png", "c-condlabel.png", "d.png", "masks/d.png"):
        image(tmp_path / name)
    for name in ("x/e.png", "y/e.png", "masks/y/e_mask.png", "x/f.png", "y/f.png", "masks/f.png", "conditioning/c.png"):
        image(tmp_path / name)
    chance = np.random.default_rng(0)
    Image.fromarray(chance.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(tmp_path / "conditioning" / "c.png")
    listing = listed(tmp_path)
    masks = {file.path.as_posix(): file.mask.as_posix() for file in listing.images if file.mask is not None}
    assert masks == {
        "a.png": "a_mask.png",
        "b.jpg": "b-masklabel.png",
        "d.png": "masks/d.png",
        "y/e.png": "masks/y/e_mask.png",
    }
    assert reasons(listing)["masks/f.png"] == NOT_CLEAR


def test_a_mask_is_not_used_for_another_image_of_its_name(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "a_mask.jpg", "a_mask.png", "b.jpg", "b_mask.png", "b_mask.gif"):
        image(tmp_path / name)
    for name in ("c.jpg", "c.png", "masks/c.jpg", "masks/c.png", "d.jpg", "masks/d.gif", "masks/d.png"):
        image(tmp_path / name)
    listing = listed(tmp_path)
    masks = {file.path.as_posix(): file.mask.as_posix() for file in listing.images if file.mask is not None}
    assert masks == {"a.jpg": "a_mask.jpg", "a.png": "a_mask.png", "c.jpg": "masks/c.jpg", "c.png": "masks/c.png"}
    unclear = {"b_mask.gif", "b_mask.png", "masks/d.gif", "masks/d.png"}
    assert {path for path, why in reasons(listing).items() if why == NOT_CLEAR} == unclear

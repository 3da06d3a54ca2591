"""Images are copied into a training folder with their captions, and nothing there is overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffstudio.errors import StorageProblem
from diffstudio.studio.runs.add_images import copy_into


def test_images_come_with_their_captions_under_free_names(tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "folder"
    source.mkdir()
    folder.mkdir()
    (source / "a.png").write_bytes(b"new")
    (source / "a.txt").write_text("a cat")
    (folder / "a.png").write_bytes(b"old")
    (folder / "b.png").write_bytes(b"there")
    assert copy_into([source / "a.png", folder / "b.png"], folder) == 1  # one is there already
    assert (folder / "a.png").read_bytes() == b"old"
    (added,) = [path for path in folder.glob("*.png") if path.read_bytes() == b"new"]
    assert added.with_suffix(".txt").read_text() == "a cat" and (source / "a.png").exists()


def test_a_caption_of_another_image_is_neither_overwritten_nor_taken_over(tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "folder"
    source.mkdir()
    folder.mkdir()
    for name in ("a.png", "A.webp"):
        (source / name).write_bytes(b"new")
    (source / "a.txt").write_text("a cat")
    (folder / "a.jpg").write_bytes(b"old")
    (folder / "a.txt").write_text("a dog")
    assert copy_into([source / "a.png", source / "A.webp"], folder) == 2
    assert (folder / "a.txt").read_text() == "a dog"
    assert (folder / "a-2.png").with_suffix(".txt").read_text() == "a cat"
    assert (folder / "A-3.webp").exists() and not (folder / "A-3.txt").exists()


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(StorageProblem, match="The images could not be copied"):
        copy_into([tmp_path / "a.png"], tmp_path / "gone")


def test_captions_of_every_kind_come_along(tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "folder"
    source.mkdir()
    folder.mkdir()
    (source / "a.png").write_bytes(b"new")
    (source / "a.caption").write_text("a cat")
    (source / "a.png.txt").write_text("tabby")
    (source / "a.json").write_text("{}")
    assert copy_into([source / "a.png"], folder) == 1
    assert sorted(path.name for path in folder.iterdir()) == ["a.caption", "a.json", "a.png", "a.txt"]

"""Folders read as their run read them, and what would make a figure silently wrong."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffstudio.errors import BadRequest, FolderProblem, Interrupted
from diffstudio.models.library.library import Library
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.evaluations.folders import (
    RealFolder,
    check_conditioning,
    check_no_real_images,
    check_varied,
    digest_and_flatness,
    duplicate_notes,
    read_generated,
    read_real,
    with_stored_dataset,
)
from diffstudio.studio.evaluations.subjects import CheckpointSubject, find_subjects
from diffstudio.training.data.dataset import build_dataset
from diffstudio.training.preparation.stored_dataset import StoredDataset
from diffstudio.training.run.run_folder import RunFolder
from tests.studio.evaluations.small_models import RECIPE, write_checkpoint, write_images


def no_progress(what: str, done: int, total: int) -> None:
    """Nothing is shown."""


def go_on() -> None:
    """Nothing ends it."""


def read(folder: Path) -> RealFolder:
    return read_real(folder, RECIPE.data, no_progress, go_on)


def subject(path: Path, conditioning: Conditioning) -> CheckpointSubject:
    (found,) = find_subjects((str(write_checkpoint(path, conditioning)),), Library())
    assert isinstance(found, CheckpointSubject)
    return found


def test_the_parts_are_those_of_training(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "real", 40, seed=0)
    real = read(folder)
    trained_on = build_dataset(real.report, RECIPE.data, tmp_path / "cache")
    assert list(real.training) == list(trained_on.training_indices)
    assert list(real.held_out) == list(trained_on.held_out_indices) and len(real.held_out) > 5
    np.testing.assert_array_equal(real.dataset.images, trained_on.images)
    assert set(real.labels(Conditioning.CLASS, real.held_out)) == {"red", "blue"}
    assert real.labels(Conditioning.NONE, real.held_out) == ()


def test_the_split_and_the_captions_are_those_that_the_run_stored(tmp_path: Path) -> None:
    """Also after images were added and captions changed; a run of before reads the folder by its recipe."""
    folder = write_images(tmp_path / "real", 40, seed=0, captions=True)
    before, run = read(folder), RunFolder(tmp_path / "run")
    assert with_stored_dataset(before, run) == (before, "")
    run.path.mkdir()
    turned = replace(before.dataset, held_out=~before.dataset.held_out)
    StoredDataset.of(turned, RECIPE, folder).write(run.dataset_file)
    write_images(folder, 4, seed=1)
    for caption in folder.rglob("*.txt"):
        caption.write_text("changed")
    found, note = with_stored_dataset(read(folder), run)
    assert list(found.held_out) == list(before.training) and len(found.dataset) == 40
    assert set(found.labels(Conditioning.TEXT, found.held_out)) == {"a red square", "a blue square"}
    np.testing.assert_array_equal(found.dataset.images, before.dataset.images)
    assert note == "4 images added to real after run started: not used."
    other = read(write_images(tmp_path / "other", 40, seed=5))
    assert with_stored_dataset(other, run) == (other, "")


def test_without_a_checkpoint_the_folder_is_halved_at_its_own_size(tmp_path: Path) -> None:
    real = read_real(write_images(tmp_path / "real", 60, seed=0), None, no_progress, go_on)
    assert real.dataset.size == (16, 16) and 20 <= len(real.held_out) <= 40
    made = read_generated(write_images(tmp_path / "made", 30, seed=1), real, no_progress, go_on)
    assert len(made) == 30 and not made.held_out.any()


def test_folders_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FolderProblem, match="There is nothing to measure in .*empty: the folder is empty"):
        read(tmp_path / "empty")
    with pytest.raises(FolderProblem, match="does not exist"):
        read(tmp_path / "nowhere")

    def stop() -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        read_real(write_images(tmp_path / "real", 20, seed=0), RECIPE.data, no_progress, stop)


def test_generated_folders_with_real_images_are_refused(tmp_path: Path) -> None:
    real = read(write_images(tmp_path / "real", 40, seed=0))
    made = write_images(tmp_path / "made", 20, seed=1)
    check_no_real_images("made", read_generated(made, real, no_progress, go_on), real)
    training, held_out = (real.dataset.paths[part[0]] for part in (real.training, real.held_out))
    shutil.copy(tmp_path / "real" / training, made / "innocent.png")
    shutil.copy(tmp_path / "real" / held_out, made / "other.png")
    with pytest.raises(FolderProblem) as problem:
        check_no_real_images("made", read_generated(made, real, no_progress, go_on), real)
    assert "2 of 22 images in made are real images of real" in str(problem.value)
    assert f"innocent.png is {training}" in str(problem.value)
    assert "1 of its training part and 1 of its held-out part" in str(problem.value)


def test_equal_images_are_said(tmp_path: Path) -> None:
    flat = np.full((5, 8, 8, 3), 200, np.uint8)
    assert duplicate_notes("x", map(digest_and_flatness, flat)) == [
        "5 of 5 images of x are of a single colour.",
        "All 5 images of x are identical.",
    ]
    varied = np.random.default_rng(0).integers(0, 255, (6, 8, 8, 3)).astype(np.uint8)
    assert duplicate_notes("x", map(digest_and_flatness, varied)) == []
    varied[1] = varied[0]
    assert duplicate_notes("x", map(digest_and_flatness, varied)) == ["1 duplicate among the 6 images of x."]


def test_a_folder_of_one_image_has_nothing_to_compare(tmp_path: Path) -> None:
    folder = tmp_path / "equal"
    folder.mkdir()
    for number in range(40):
        Image.new("RGB", (16, 16), "red").save(folder / f"{number}.png")
    with pytest.raises(BadRequest, match=r"The training images of equal cannot be compared with: all \d+ are equal"):
        check_varied(read(folder))
    check_varied(read(write_images(tmp_path / "real", 40, seed=0)))


def test_a_checkpoint_is_asked_only_for_what_it_knows(tmp_path: Path) -> None:
    by_class = subject(tmp_path / "class.safetensors", Conditioning.CLASS)
    by_text = subject(tmp_path / "text.safetensors", Conditioning.TEXT)
    unconditional = subject(tmp_path / "none.safetensors", Conditioning.NONE)
    folder = write_images(tmp_path / "real", 40, seed=0)
    real = read(folder)
    assert check_conditioning(by_class, real)[1] == "" and len(check_conditioning(unconditional, real)[0])
    with pytest.raises(BadRequest, match="it generates from captions, and the held-out images have none of them"):
        check_conditioning(by_text, real)
    (folder / "blue").rename(folder / "green")
    indices, note = check_conditioning(by_class, read(folder))
    assert 0 < len(indices) < len(real.held_out) and "have a class that it does not know" in note
    (folder / "red").rename(folder / "yellow")
    with pytest.raises(BadRequest, match="it generates from the classes blue, red"):
        check_conditioning(by_class, read(folder))
    captioned = read(write_images(tmp_path / "captioned", 40, seed=0, captions=True))
    assert check_conditioning(by_text, captioned)[1] == ""
    assert set(captioned.labels(Conditioning.TEXT, captioned.held_out)) == {"a red square", "a blue square"}
    excluded = replace(RECIPE.data, exclude=("red",))
    assert read_real(folder, excluded, no_progress, go_on).dataset.classes == ("green", "yellow")

"""What would make a figure silently wrong is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from diffstudio.errors import BadRequest, FolderProblem
from diffstudio.models.library.library import Library
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.evaluations.folders.checks import check_conditioning, check_no_real_images, check_varied
from diffstudio.studio.evaluations.folders.reading import read_generated, read_real
from diffstudio.studio.evaluations.subjects import CheckpointSubject, find_subjects
from tests.studio.evaluations.folders.small_folders import go_on, no_progress, read
from tests.studio.evaluations.small_models import RECIPE, write_checkpoint, write_images


def subject(path: Path, conditioning: Conditioning) -> CheckpointSubject:
    (found,) = find_subjects((str(write_checkpoint(path, conditioning)),), Library())
    assert isinstance(found, CheckpointSubject)
    return found


def test_generated_folders_with_real_images_are_refused(tmp_path: Path) -> None:
    real = read(write_images(tmp_path / "real", 40, seed=0))
    made = write_images(tmp_path / "made", 20, seed=1)
    check_no_real_images(read_generated(made, real, no_progress, go_on), real, no_progress, go_on)
    training, held_out = (real.dataset.paths[part[0]] for part in (real.training, real.held_out))
    shutil.copy(tmp_path / "real" / training, made / "innocent.png")
    shutil.copy(tmp_path / "real" / held_out, made / "other.png")
    with pytest.raises(FolderProblem) as problem:
        check_no_real_images(read_generated(made, real, no_progress, go_on), real, no_progress, go_on)
    assert "2 of 22 images in made are real images of real" in str(problem.value)
    assert f"innocent.png is {training}" in str(problem.value)
    assert "1 of its training part and 1 of its held-out part" in str(problem.value)


def test_a_folder_of_one_image_has_nothing_to_compare(tmp_path: Path) -> None:
    folder = tmp_path / "equal"
    folder.mkdir()
    for number in range(40):
        Image.new("RGB", (16, 16), "red").save(folder / f"{number}.png")
    with pytest.raises(BadRequest, match=r"The training images of equal cannot be compared with: all \d+ are equal"):
        check_varied(read(folder), no_progress, go_on)
    check_varied(read(write_images(tmp_path / "real", 40, seed=0)), no_progress, go_on)


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

"""What may be evaluated, and what is refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from diffstudio import paths
from diffstudio.errors import BadRequest, CheckpointDamaged, CheckpointMissing, CheckpointUnknown, DiffstudioError
from diffstudio.models.library.library import Library
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.evaluations.request import EvaluateRequest
from diffstudio.studio.evaluations.subjects import (
    CheckpointSubject,
    FolderSubject,
    data_recipe,
    find_checkpoint,
    find_subjects,
    image_folders,
)
from diffstudio.training.run.run_folder import RunFolder
from tests.models.headers import unet, write_header
from tests.models.tiny import write_tiny_checkpoint
from tests.studio.evaluations.small_models import RECIPE, write_checkpoint
from tests.studio.generation.test_enlarge import write_upscaler


def test_checkpoints_by_name_path_and_run_and_folders_of_images(tmp_path: Path) -> None:
    run = write_checkpoint(paths.runs() / "squares" / "checkpoints" / "latest.safetensors").parent.parent
    own = write_checkpoint(tmp_path / "own.safetensors")
    elsewhere = write_checkpoint(tmp_path / "far" / "checkpoints" / "00000300.safetensors")
    (tmp_path / "made").mkdir()
    (tmp_path / "squares").mkdir()
    names = (str(run), str(own), str(tmp_path / "squares"), str(elsewhere), str(tmp_path / "made"))
    found = find_subjects(names, Library())
    assert [subject.name for subject in found] == ["squares", "own", "squares (3)", "far, 300", "made"]
    assert isinstance(found[4], FolderSubject) and isinstance(found[0], CheckpointSubject)
    assert data_recipe(found) == RECIPE.data and data_recipe(found[4:]) is None
    assert find_subjects(("squares",), Library()) == found[:1]


def test_a_checkpoint_or_folder_that_is_named_twice_is_said(tmp_path: Path) -> None:
    run = write_checkpoint(paths.runs() / "squares" / "checkpoints" / "latest.safetensors").parent.parent
    (tmp_path / "made").mkdir()
    for names in (("squares", str(run)), (str(tmp_path / "made"), str(tmp_path / "other" / ".." / "made"))):
        (tmp_path / "other").mkdir(exist_ok=True)
        with pytest.raises(BadRequest, match="was given twice. Name each checkpoint and each folder once"):
            find_subjects(names, Library())


def test_what_cannot_be_evaluated_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("not a checkpoint")
    with pytest.raises(DiffstudioError, match=r"text\.safetensors"):
        find_subjects((str(tmp_path / "text.safetensors"),), Library())
    with pytest.raises(CheckpointMissing, match="no checkpoint called 'nothing'"):
        find_subjects(("nothing",), Library())
    for impossible in ("n" * 5000, "\0", "~nobody-at-all/x"):
        with pytest.raises(CheckpointMissing):
            find_subjects((impossible,), Library())
    without_recipe = write_tiny_checkpoint(tmp_path / "tiny.safetensors")
    with pytest.raises(CheckpointDamaged, match="How tiny was trained is not known: there is no recipe in its header"):
        find_subjects((str(without_recipe),), Library())
    with pytest.raises(BadRequest, match="Nothing to evaluate"):
        EvaluateRequest((), tmp_path)
    with pytest.raises(BadRequest, match="The number of images is 99"):
        EvaluateRequest(("a",), tmp_path, count=99)
    with pytest.raises(BadRequest, match="The seed is -1"):
        EvaluateRequest(("a",), tmp_path, seed=-1)


def test_a_checkpoint_of_another_program_was_not_trained_here(tmp_path: Path) -> None:
    path = write_header(tmp_path / "sd15.safetensors", unet("sd1"))
    with pytest.raises(CheckpointUnknown, match=r"sd15 was not trained here.*Generate a folder of images with it"):
        find_subjects((str(path),), Library())


def test_what_was_moved_and_what_generates_nothing_is_said(tmp_path: Path) -> None:
    gone = tmp_path / "made on Monday"
    with pytest.raises(
        CheckpointMissing, match=r"neither a checkpoint nor a folder of images at .*made on Monday: it may"
    ):
        find_subjects((str(gone),), Library())
    with pytest.raises(CheckpointMissing, match="There is no checkpoint called 'made on Monday'"):
        find_subjects(("made on Monday",), Library())
    with pytest.raises(CheckpointMissing):
        find_subjects((f"/{300 * 'x'}",), Library())  # longer than a name can be
    upscaler, other = write_upscaler(tmp_path / "upscaler.safetensors"), tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(2)}, other)
    for path, why in ((upscaler, "upscaler does not generate images: its type is upscaler"), (other, "tensor names")):
        with pytest.raises(CheckpointUnknown, match=why):
            find_subjects((str(path),), Library())


def test_a_run_without_a_checkpoint_is_not_taken_for_images(tmp_path: Path) -> None:
    path = RunFolder.create(tmp_path / "a run", RECIPE, tmp_path).path
    Image.new("RGB", (16, 16)).save(path / "samples" / "00000010.png")
    named = RunFolder.create(paths.runs() / "named", RECIPE, tmp_path).path
    for name in (str(path), "named", str(named)):
        with pytest.raises(CheckpointMissing, match="has no checkpoint: there is no checkpoints/latest"):
            find_subjects((name,), Library())
        with pytest.raises(CheckpointMissing, match="has no checkpoint"):
            find_checkpoint(name, Library())
    assert image_folders([str(path)]) == []


def test_runs_that_read_their_folders_differently_do_not_share_a_table(tmp_path: Path) -> None:
    one = write_checkpoint(tmp_path / "one.safetensors")
    same = write_checkpoint(
        tmp_path / "same.safetensors", Conditioning.NONE, replace(RECIPE, data=replace(RECIPE.data, flips=0.0))
    )
    other = write_checkpoint(
        tmp_path / "other.safetensors", recipe=replace(RECIPE, data=replace(RECIPE.data, size=32, held_out=0.1))
    )
    found = find_subjects((str(same), str(one)), Library())
    data = data_recipe(found)
    assert len(found) == 2 and data is not None and data.flips == RECIPE.data.flips > 0
    with pytest.raises(BadRequest, match=r"image size \(16 and 32\), held-out fraction \(0.5 and 0.1\)"):
        find_subjects((str(one), str(other)), Library())

"""What has changed in a folder since a run read it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diffstudio import paths
from diffstudio.errors import Interrupted
from diffstudio.models.library.library import Library
from diffstudio.studio.evaluations.compare.compare import compare
from diffstudio.studio.evaluations.compare.request import CompareRequest
from diffstudio.studio.evaluations.evaluate import evaluate
from diffstudio.studio.evaluations.folders.stored_split import with_stored_dataset
from diffstudio.studio.evaluations.likelihood.likelihood import likelihood
from diffstudio.studio.evaluations.likelihood.request import LikelihoodRequest
from diffstudio.studio.evaluations.request import EvaluateRequest
from diffstudio.training.preparation.stored_dataset import StoredDataset
from diffstudio.training.run.run_folder import RunFolder
from tests.studio.evaluations.folders.small_folders import go_on, no_progress, read
from tests.studio.evaluations.small_models import RECIPE, write_checkpoint, write_images


def test_images_that_changed_since_the_run_started_are_said(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "real", 40, seed=0)
    real = read(folder)
    run = RunFolder.create(tmp_path / "run", RECIPE, folder)
    StoredDataset.of(real.dataset, RECIPE, folder).write(run.dataset_file)
    assert with_stored_dataset(real, run, no_progress, go_on)[1] == ""
    images = sorted(folder.rglob("*.png"))
    images[0].unlink()
    for image, shade in zip(images[1:4], (10, 90, 200), strict=True):
        Image.new("RGB", (16, 16), (shade, 0, 0)).save(image)
    now, note = with_stored_dataset(read(folder), run, no_progress, go_on)
    assert len(now.dataset) == 39
    assert "1 image of run is no longer in real: not measured." in note and "3 images of real are not as" in note
    for prepared in paths.prepared_images().glob("*"):
        prepared.unlink()
    images[1].touch()
    write_images(tmp_path / "again", 1, seed=9)
    shutil.copyfile(next((tmp_path / "again").rglob("*.png")), images[0])
    assert (
        "Files of real have changed since run started" in with_stored_dataset(read(folder), run, no_progress, go_on)[1]
    )


@pytest.fixture
def changed(tmp_path: Path) -> tuple[Path, Path]:
    """A folder of which one image has changed since a run read it, and the checkpoint of the run."""
    folder = write_images(tmp_path / "real", 40, seed=0)
    run = RunFolder.create(tmp_path / "run", RECIPE, folder)
    StoredDataset.of(read(folder).dataset, RECIPE, folder).write(run.dataset_file)
    Image.new("RGB", (16, 16)).save(min(folder.rglob("*.png")))
    return folder, write_checkpoint(run.latest_checkpoint)


def evaluated(folder: Path, checkpoint: Path, **job: Any) -> None:
    evaluate(EvaluateRequest((str(checkpoint),), folder, device="cpu"), Library(), **job)


def measured(folder: Path, checkpoint: Path, **job: Any) -> None:
    likelihood(LikelihoodRequest(str(checkpoint), folder, device="cpu"), Library(), **job)


def compared(folder: Path, checkpoint: Path, **job: Any) -> None:
    compare(CompareRequest(folder, 1.0, (), subjects=(str(checkpoint),), device="cpu"), Library(), **job)


@pytest.mark.parametrize("verb", [evaluated, measured, compared])
def test_looking_for_changed_images_shows_its_progress_and_can_be_cancelled(
    changed: tuple[Path, Path], verb: Callable[..., None]
) -> None:
    seen: list[tuple[str, int, int]] = []
    looking = "Looking for changed images in real"
    last = (looking, 7, 40)
    with pytest.raises(Interrupted):
        verb(*changed, on_progress=lambda *work: seen.append(work), cancelled=lambda: last in seen)
    assert seen[-8:] == [(looking, done, 40) for done in range(8)]

"""What has changed in a folder since a run read it."""

from __future__ import annotations

import shutil
from pathlib import Path

from PIL import Image

from diffstudio import paths
from diffstudio.studio.evaluations.folders.stored_split import with_stored_dataset
from diffstudio.training.preparation.stored_dataset import StoredDataset
from diffstudio.training.run.run_folder import RunFolder
from tests.studio.evaluations.folders.small_folders import read
from tests.studio.evaluations.small_models import RECIPE, write_images


def test_images_that_changed_since_the_run_started_are_said(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "real", 40, seed=0)
    real = read(folder)
    run = RunFolder.create(tmp_path / "run", RECIPE, folder)
    StoredDataset.of(real.dataset, RECIPE, folder).write(run.dataset_file)
    assert with_stored_dataset(real, run)[1] == ""
    images = sorted(folder.rglob("*.png"))
    images[0].unlink()
    for image, shade in zip(images[1:4], (10, 90, 200), strict=True):
        Image.new("RGB", (16, 16), (shade, 0, 0)).save(image)
    now, note = with_stored_dataset(read(folder), run)
    assert len(now.dataset) == 39
    assert "1 image of run is no longer in real: not measured." in note and "3 images of real are not as" in note
    for prepared in paths.prepared_images().glob("*"):
        prepared.unlink()
    images[1].touch()
    write_images(tmp_path / "again", 1, seed=9)
    shutil.copyfile(next((tmp_path / "again").rglob("*.png")), images[0])
    assert "Files of real have changed since run started" in with_stored_dataset(read(folder), run)[1]

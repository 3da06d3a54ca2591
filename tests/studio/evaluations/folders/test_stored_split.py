"""The split that a run stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.evaluations.folders.stored_split import with_stored_dataset
from diffstudio.training.preparation.stored_dataset import StoredDataset
from diffstudio.training.run.run_folder import RunFolder
from tests.studio.evaluations.folders.small_folders import go_on, no_progress, read
from tests.studio.evaluations.small_models import RECIPE, write_images


def test_the_split_and_the_captions_are_those_that_the_run_stored(tmp_path: Path) -> None:
    """Also after images were added and captions changed; a run of before reads the folder by its recipe."""
    folder = write_images(tmp_path / "real", 40, seed=0, captions=True)
    before, run = read(folder), RunFolder(tmp_path / "run")
    assert with_stored_dataset(before, run, no_progress, go_on) == (before, "")
    run.path.mkdir()
    turned = replace(before.dataset, held_out=~before.dataset.held_out)
    StoredDataset.of(turned, RECIPE, folder).write(run.dataset_file)
    write_images(folder, 4, seed=1)
    for caption in folder.rglob("*.txt"):
        caption.write_text("changed")
    found, note = with_stored_dataset(read(folder), run, no_progress, go_on)
    assert list(found.held_out) == list(before.training) and len(found.dataset) == 40
    assert set(found.labels(Conditioning.TEXT, found.held_out)) == {"a red square", "a blue square"}
    np.testing.assert_array_equal(found.dataset.images, before.dataset.images)
    assert note == "4 images added to real after run started: not used."
    other = read(write_images(tmp_path / "other", 40, seed=5))
    assert with_stored_dataset(other, run, no_progress, go_on) == (other, "")

"""The result of restoring as the window shows it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffstudio.errors import RunProblem
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.restore.result import RestoredImage, RestoreResult
from diffstudio.studio.evaluations.views.restore import read_restore

GREYS = {"source.png": 10, "job/mean/a.png": 100, "job/sample/a.png": 200}


def example(folder: Path) -> dict[str, Any]:
    """Two images, the second without a sample; the files of the first are there, each of one grey."""
    for name, grey in GREYS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 20), (grey, grey, grey)).save(folder / name)
    images = [
        RestoredImage(
            str(folder / "source.png"), "a", 40, 20, 25.2, True, "restored/a.png", "mean/a.png", "sample/a.png"
        ),
        RestoredImage(str(folder / "gone.png"), "b", 1000, 20, 3, False, "restored/b.png", "mean/a.png", ""),
    ]
    return RestoreResult("starter", "denoise", images, 0.25, {"steps": 20, "seed": 0}, ["A note."]).to_json()


def test_files_words_and_the_image_between_both(tmp_path: Path) -> None:
    view = read_restore(JobFolder(tmp_path / "job"), example(tmp_path))
    assert view.summary == "Denoise with starter: 2 images, steps 20, seed 0." and view.share == 0.25
    first, second = view.images
    assert first.text == "40 × 20 px, noise 25.2 of 255, estimated" and second.text == "1,000 × 20 px, noise 3.0 of 255"
    assert second.sample is None and view.notes == ("A note.",) and "posterior mean" in view.how_to_read
    with Image.open(io.BytesIO(first.png(0.25))) as image:
        assert image.mode == "L" and int(np.asarray(image)[0, 0]) == 125
    with Image.open(io.BytesIO(second.png(0.25))) as image:
        assert int(np.asarray(image)[0, 0]) == 100


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    values = example(tmp_path)
    for changes in ({"images": 3}, {"share": "much"}, {"images": [{"name": "a"}]}):
        with pytest.raises(RunProblem, match="The result of job is damaged"):
            read_restore(JobFolder(tmp_path / "job"), values | changes)


@pytest.mark.parametrize("file", ["../source.png", "/source.png", "mean/../../source.png"])
def test_files_outside_the_result_are_not_read(tmp_path: Path, file: str) -> None:
    values = example(tmp_path)
    for part in ("mean", "sample"):
        images = [values["images"][0] | {part: file}]
        with pytest.raises(RunProblem, match="outside its folder"):
            read_restore(JobFolder(tmp_path / "job"), values | {"images": images})

"""The result of a filmed image as the window shows it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diffstudio.errors import RunProblem, StorageProblem
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.reverse.result import PARTS, FilmedStep, ReverseResult
from diffstudio.studio.evaluations.views.reverse import read_reverse

LEVELS = ((1.0, 0.0), (0.4, 0.6))  # sigma, alpha of two steps


def example(folder: Path) -> dict[str, Any]:
    """Two steps whose images are of one grey each: 10, 20, 30, 40 and 110, 120, 130, 140."""
    steps = []
    (folder / "frames").mkdir(parents=True, exist_ok=True)
    for number, (sigma, alpha) in enumerate(LEVELS):
        files = {part: f"frames/{number}-{part}.png" for part in PARTS}
        for place, file in enumerate(files.values()):
            grey = 100 * number + 10 * (place + 1)
            Image.new("RGB", (16, 16), (grey, grey, grey)).save(folder / file)
        steps.append(FilmedStep(sigma, alpha, sigma, 1.0, 1 / sigma, 0.3 * number, files))
    Image.new("RGB", (16, 16), "red").save(folder / "image.png")
    (folder / "film.gif").write_bytes(b"GIF89a")
    settings = {"seed": 3, "steps": 2}
    return ReverseResult("starter", "apple", steps, "image.png", "film.gif", settings, ["A note."]).to_json()


def test_frames_figures_and_files(tmp_path: Path) -> None:
    view = read_reverse(JobFolder(tmp_path), example(tmp_path))
    assert view.summary == "apple, starter: seed 3, steps 2." and view.notes == ("A note.",)
    assert [frame.title for frame in view.frames] == ["Step 1 of 2", "Step 2 of 2"]
    assert "log-SNR −∞" in view.frames[0].text and "sigma 0.400" in view.frames[1].text
    assert [figure.name for figure in view.figures] == [
        "reverse-levels",
        "reverse-log-snr",
        "reverse-noise",
        "reverse-change",
    ]
    assert view.figures[0].series[1].y == (1.0, 0.4)
    assert view.film_bytes() == b"GIF89a"
    with zipfile.ZipFile(io.BytesIO(view.zipped())) as archive:
        assert len(archive.namelist()) == 9 and "image.png" in archive.namelist()
    (tmp_path / "film.gif").unlink()
    (tmp_path / "image.png").unlink()
    for read in (view.film_bytes, view.zipped):
        with pytest.raises(StorageProblem):
            read()


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    values = example(tmp_path)
    for changes in ({"steps": [{}]}, {"steps": 2}, {"settings": 1}):
        with pytest.raises(RunProblem, match="is damaged"):
            read_reverse(JobFolder(tmp_path), values | changes)


@pytest.mark.parametrize("changes", [{"image": "../secret"}, {"film": "/etc/passwd"}, {"steps": "files"}])
def test_files_outside_the_result_are_not_read(tmp_path: Path, changes: dict[str, Any]) -> None:
    """A ZIP of the frames would contain them."""
    values = example(tmp_path)
    if "steps" in changes:
        changes = {"steps": [values["steps"][0] | {"files": dict.fromkeys(PARTS, "../secret")}]}
    with pytest.raises(RunProblem, match="outside its folder"):
        read_reverse(JobFolder(tmp_path), values | changes)


@pytest.mark.parametrize("figures", [{"sigma": 0, "alpha": 1}, {"t": 10**400}])
def test_figures_that_cannot_be_are_damage(tmp_path: Path, figures: dict[str, Any]) -> None:
    values = example(tmp_path)
    with pytest.raises(RunProblem, match="is damaged"):
        read_reverse(JobFolder(tmp_path), values | {"steps": [values["steps"][0] | figures]})

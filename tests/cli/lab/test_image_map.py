"""`diffstudio map` from the command line: its result in a folder, as the window finds it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diffstudio.cli import main
from diffstudio.studio.evaluations.job_folder import JobFinished, JobFolder
from diffstudio.studio.evaluations.views.image_map import read_image_map
from tests.studio.evaluations.small_models import write_checkpoint, write_images


def test_a_map_of_a_folder_and_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_images(tmp_path / "photos", 8, seed=0)
    checkpoint = write_checkpoint(tmp_path / "small.safetensors")
    out = tmp_path / "out"
    arguments = [
        "map",
        str(checkpoint),
        str(folder),
        "--count",
        "2",
        "--most",
        "3",
        "--device",
        "cpu",
        "--out",
        str(out),
    ]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "8 images by the features of EfficientNet-Lite0" in printed and "PCA: Trustworthiness" in printed
    job = JobFolder(out)
    assert isinstance(job.events()[0][-1], JobFinished) and job.result_file == out / "map.json"
    view = read_image_map(job, job.result("map.json"))
    assert [len(part) for part in view.result.parts] == [3, 3, 2] and view.file(7) is not None
    assert main([*arguments[:-2], "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["layouts"][0]["x"]) == 8


def test_mistakes_are_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_images(tmp_path / "photos", 4, seed=0)
    assert main(["map", str(folder), "--layout", "tsne"]) == 2
    assert "There is no layout called 'tsne'. Choose one of pca, umap, pacmap, all." in capsys.readouterr().err
    assert main(["map", "no such model", str(folder)]) != 0
    assert "no such model" in capsys.readouterr().err

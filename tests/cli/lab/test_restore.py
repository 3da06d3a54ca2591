"""`diffstudio restore`: what it writes, records and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diffstudio import cli
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.evaluations.job_folder import JobFinished, JobFolder
from tests.studio.evaluations.small_models import write_checkpoint, write_images


def test_it_writes_the_images_and_records_the_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = write_checkpoint(tmp_path / "own.safetensors", Conditioning.NONE)
    folder = write_images(tmp_path / "squares", 2, seed=0, classes=False)
    arguments = ["restore", str(checkpoint), str(folder), "--steps", "2", "--device", "cpu"]
    assert cli.main([*arguments, "--out", str(tmp_path / "out"), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["task"] == "denoise" and [image["estimated"] for image in values["images"]] == [True, True]
    for image in values["images"]:
        assert all((tmp_path / "out" / image[part]).is_file() for part in ("restored", "mean", "sample"))
    job = JobFolder(tmp_path / "out")
    assert job.result("restore.json") == values and job.events()[0][-1] == JobFinished("restore.json")
    assert cli.main([*arguments, "--task", "super-resolution", "--draws", "1", "--out", str(tmp_path / "large")]) == 0
    assert "super-resolution with own" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["starter", "."], "--out"),
        (["starter", "gone.png", "--out", "o"], "gone.png"),
        (["starter", ".", "--out", "inside"], "inside the folder of images"),
        (["nothing", "../images", "--out", "o"], "no checkpoint called 'nothing'"),
        (["starter", "../images", "--out", "o", "--task", "sharpen"], "no task called 'sharpen'"),
        (["starter", "../images", "--out", "o", "--share", "2"], "The share of the sample is 2"),
        (["starter", "../images", "--out", "o", "--mask", "m.png"], "A mask was given"),
    ],
)
def test_mistakes_are_named(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("here", "images"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert cli.main(["restore", *arguments]) != 0
    captured = capsys.readouterr()
    assert expected in captured.err and captured.out == "" and "Internal error" not in captured.err

"""`diffstudio features`: what it prints, records and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diffstudio import cli
from diffstudio.studio.evaluations.job_folder import JobFinished, JobFolder
from tests.studio.evaluations.small_models import write_checkpoint, write_images


def test_it_prints_the_accuracies_and_records_the_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = write_checkpoint(tmp_path / "own.safetensors")
    folder = write_images(tmp_path / "squares", 20, seed=0)
    arguments = ["features", str(checkpoint), str(folder), "--levels", "0.1,0.4", "--device", "cpu"]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr()
    assert "Linear probe  t = 0.1  t = 0.4" in printed.out and "Features at noise level 0.4" in printed.err
    assert cli.main([*arguments, "--json", "--out", str(tmp_path / "out"), "--layer", "block 0", "--level", "0.4"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["exported_level"] == 0.4 and values["levels"] == [0.1, 0.4]
    job = JobFolder(tmp_path / "out")
    assert job.result("features.json") == values and job.events()[0][-1] == JobFinished("features.json")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["starter"], "FOLDER"),
        (["nothing", "."], "no checkpoint called 'nothing'"),
        (["starter", ".", "--levels", "a"], "--levels"),
        (["starter", ".", "--levels", "0.1,0.2,0.1"], "The noise level 0.1 was given twice. Give each once."),
        (["starter", ".", "--level", "0"], "The noise level 0 is not measured"),
        (["starter", ".", "--levels", "2"], "The noise level is 2"),
    ],
)
def test_mistakes_are_named(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["features", *arguments]) != 0
    captured = capsys.readouterr()
    assert expected in captured.err and captured.out == "" and "Internal error" not in captured.err

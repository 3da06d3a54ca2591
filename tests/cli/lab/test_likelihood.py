"""`diffstudio likelihood`: what it prints, records and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diffstudio import cli
from diffstudio.studio.evaluations.job_folder import JobFinished, JobFolder
from diffstudio.studio.evaluations.likelihood.result import BOUND
from tests.studio.evaluations.small_models import write_checkpoint, write_images


def test_it_prints_the_bits_and_records_the_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = write_checkpoint(tmp_path / "own.safetensors")
    folder = write_images(tmp_path / "squares", 10, seed=0)
    arguments = ["likelihood", str(checkpoint), str(folder), "--bound-only", "--levels", "2", "--device", "cpu"]
    assert cli.main([*arguments, "--count", "2"]) == 0
    printed = capsys.readouterr()
    assert "bits per dimension, 768 values of 8 bits" in printed.out and "variational bound" in printed.out
    assert "Measuring the held-out images" in printed.err
    assert cli.main([*arguments, "--count", "2", "--json", "--out", str(tmp_path / "out")]) == 0
    values = json.loads(capsys.readouterr().out)
    assert set(values["parts"][0]["images"][0]["bits"]) == {BOUND}
    job = JobFolder(tmp_path / "out")
    assert job.result("likelihood.json") == values and job.events()[0][-1] == JobFinished("likelihood.json")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "CHECKPOINT"),
        (["starter"], "FOLDER"),
        (["nothing", "."], "no checkpoint called 'nothing'"),
        (["starter", ".", "--count", "1"], "The number of images is 1"),
        (["starter", ".", "--probes", "0"], "The number of probes is 0"),
        (["starter", ".", "--seed", "-1"], "The seed is -1"),
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
    assert cli.main(["likelihood", *arguments]) != 0
    captured = capsys.readouterr()
    assert expected in captured.err and captured.out == "" and "Internal error" not in captured.err

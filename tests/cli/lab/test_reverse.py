"""`diffstudio reverse`: what it writes, records and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diffstudio import cli
from diffstudio.studio.evaluations.job_folder import JobFinished, JobFolder
from tests.studio.evaluations.small_models import write_checkpoint


def test_it_writes_the_film_and_records_the_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = write_checkpoint(tmp_path / "own.safetensors")
    arguments = ["reverse", str(checkpoint), "--prompt", "red", "--steps", "2", "--device", "cpu", "--out"]
    assert cli.main([*arguments, str(tmp_path / "out"), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert len(values["steps"]) == 2 and (tmp_path / "out" / values["film"]).is_file()
    job = JobFolder(tmp_path / "out")
    assert job.result("reverse.json") == values and job.events()[0][-1] == JobFinished("reverse.json")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["starter"], "--out"),
        (["nothing", "--out", "o"], "no checkpoint called 'nothing'"),
        (["starter", "--out", "o", "--steps", "-1"], "The number of steps is -1"),
        (["starter", "--out", "o", "--steps", "0"], "The number of steps is 0: it must be between 1 and 200"),
        (["starter", "--out", "o", "--width", "0"], "The width is 0: it must be between 1"),
        (["starter", "--out", "o", "--height", "0"], "The height is 0: it must be between 1"),
        (["starter", "--out", "o", "--guidance", "nan"], "The CFG scale is nan"),
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
    assert cli.main(["reverse", *arguments]) != 0
    captured = capsys.readouterr()
    assert expected in captured.err and captured.out == "" and "Internal error" not in captured.err

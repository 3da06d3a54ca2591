"""`diffstudio attention`: what it prints, records and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diffstudio import cli
from diffstudio.studio.evaluations.job_folder import JobFinished, JobFolder
from tests.models.tiny import write_tiny_checkpoint


def test_it_prints_the_test_and_records_the_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tiny.safetensors"
    write_tiny_checkpoint(path)
    arguments = ["attention", str(path), "red apple", "--steps", "2", "--device", "cpu", "--out", str(tmp_path / "out")]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr()
    assert "The deletion test holds for" in printed.out and "Masking apple" in printed.err
    assert cli.main([*arguments, "--json", "--test", "0", "--maps", "outputs"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["maps"] == "outputs" and [word["text"] for word in values["words"]] == ["red", "apple"]
    job = JobFolder(tmp_path / "out")
    assert job.result("attention.json") == values and job.events()[0][-1] == JobFinished("attention.json")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "CHECKPOINT"),
        (["starter"], "PROMPT"),
        (["starter", "cat"], "--out"),
        (["nothing", "cat", "--out", "out"], "no checkpoint called 'nothing'"),
        (["starter", "cat", "--out", "out", "--steps", "1001"], "The number of steps is 1001"),
        (["starter", "cat", "--out", "out", "--steps", "0"], "The number of steps is 0: it must be between 1"),
        (["starter", "cat", "--out", "out", "--width", "0"], "The width is 0"),
        (["starter", "cat", "--out", "out", "--height", "-8"], "The height is -8: it must be between 1"),
        (["starter", "cat", "--out", "out", "--maps", "pixels"], "There are no maps of 'pixels'"),
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
    assert cli.main(["attention", *arguments]) != 0
    captured = capsys.readouterr()
    assert expected in captured.err and captured.out == "" and "Internal error" not in captured.err

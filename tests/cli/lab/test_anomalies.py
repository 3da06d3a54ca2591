"""`diffstudio anomalies`: what it prints, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diffstudio import cli
from diffstudio.evaluation.anomalies import neighbours
from diffstudio.studio.evaluations.anomalies.result import TABLE_BEGINS
from diffstudio.studio.evaluations.job_folder import JobFinished, JobFolder
from tests.studio.evaluations.small_models import write_images


def test_it_prints_the_worst_images_and_writes_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "SIDE", 64)
    normals, folder = write_images(tmp_path / "normals", 30, seed=0), write_images(tmp_path / "searched", 3, seed=1)
    out, table = tmp_path / "out", tmp_path / "table.csv"
    arguments = ["anomalies", str(normals), str(folder), "--device", "cpu", "--false-alarm", "0.2", "--csv", str(table)]
    assert cli.main([*arguments, "--json", "--out", str(out)]) == 0
    values = json.loads(capsys.readouterr().out)
    assert len(values["images"]) == 3 and values["false_alarm"] == 0.2
    assert len(table.read_text().splitlines()) == 4 and table.read_text().startswith(TABLE_BEGINS)
    job = JobFolder(out)
    assert job.result("anomalies.json") == values and job.events()[0][-1] == JobFinished("anomalies.json")


def test_the_table_replaces_no_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    normals, folder = write_images(tmp_path / "normals", 30, seed=0), write_images(tmp_path / "searched", 3, seed=1)
    image = next(folder.rglob("*.png"))
    before = image.read_bytes()
    assert cli.main(["anomalies", str(normals), str(folder), "--csv", str(image)]) == 2
    assert f"{image} already exists" in capsys.readouterr().err and image.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["."], "FOLDER"),
        (["nothing", ".", ".."], "no checkpoint called 'nothing'"),
        ([".", ".", "--false-alarm", "2"], "The false-alarm rate is 2"),
        ([".", ".", "--minutes", "1"], "There is no folder for the model to train"),
        ([".", ".", "--draws", "0"], "The number of noise samples is 0"),
        (["nowhere", "."], "the folder does not exist"),
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
    assert cli.main(["anomalies", *arguments]) != 0
    captured = capsys.readouterr()
    assert expected in captured.err and captured.out == "" and "Internal error" not in captured.err

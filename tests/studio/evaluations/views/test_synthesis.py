"""Synthetic images as the Lab reads them: what was made, and the accuracies that prove their use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diffstudio.errors import RunProblem
from diffstudio.evaluation.interval import Interval
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.synthesise.result import REAL, Proof, Synthesis, Trained
from diffstudio.studio.evaluations.views.synthesis import read_synthesis


def example() -> dict[str, Any]:
    rows = (
        Trained(REAL, 100, Interval(0.8, 0.7, 0.9)),
        Trained("+ 1 x synthetic", 200, Interval(0.9, 0.8, 0.95), 1.0, Interval(0.1, 0.05, 0.15)),
    )
    proof = Proof(rows, "flips", 50, 5, 0, "They helped.", True, 1.0, ("A note.",))
    found = Synthesis("/out", "tiny", "ab", "/photos", 5, 6, 1, 0, {"cat": 5}, proof=proof)
    values: dict[str, Any] = json.loads(json.dumps(found.to_json()))
    return values


def test_the_proof_is_a_table_with_real_images_first(tmp_path: Path) -> None:
    view = read_synthesis(JobFolder(tmp_path), example())
    assert "5 of 6 images of tiny in /out" in view.summary and "left out: 1." in view.summary
    assert view.verdict == "They helped." and view.notes == ("A note.",)
    assert [(row.name, row.reference) for row in view.table.rows] == [(REAL, True), ("real + 1 × synthetic", False)]
    assert [column.key for column in view.table.columns] == ["images", "accuracy", "over_real"]
    assert [figure.name for figure in view.figures] == ["proof-accuracy"]


def test_people_read_signs_and_files_hold_plain_numbers(tmp_path: Path) -> None:
    values = example()
    values["proof"]["rows"][1]["over_real"] = {"value": -0.3, "low": -0.4, "high": 0.05}
    found, table = Synthesis.from_json(values), read_synthesis(JobFolder(tmp_path), values).table
    cell = table.rows[1].cells[2]
    assert cell is not None and (cell.text(), cell.interval()) == ("−0.300", "−0.400 to 0.050")
    assert "real + 1 × synthetic" in found.text() and "−0.300 (−0.400…+0.050)" in found.text()
    assert table.to_csv().splitlines()[2].endswith(",-0.3,-0.4,0.05")
    assert json.loads(table.to_json())["rows"][1]["over_real"] == {"value": -0.3, "low": -0.4, "high": 0.05}
    assert "−" not in json.dumps(found.to_json(), ensure_ascii=False)


def test_images_without_a_proof_have_no_table(tmp_path: Path) -> None:
    view = read_synthesis(JobFolder(tmp_path), example() | {"proof": None, "problem": "Too few images."})
    assert view.table.rows == () and view.verdict == "" and view.problem == "Too few images." and view.how_to_read == ""


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunProblem, match="is damaged"):
        read_synthesis(JobFolder(tmp_path), example() | {"made": None, "proof": 3})

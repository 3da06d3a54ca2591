"""What features are worth, as the window shows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diffstudio.errors import RunProblem
from diffstudio.evaluation.interval import Interval
from diffstudio.studio.evaluations.features.result import NEIGHBOURS, PROBE, Accuracy, FeaturesResult
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.plots.figure import HeatMap
from diffstudio.studio.evaluations.views.features import read_features


def example(**changes: Any) -> dict[str, Any]:
    accuracy = {
        PROBE: Accuracy([[0.5, 0.6], [0.7, 0.9]], "block 1", 0.2, Interval(0.9, 0.86, 0.95), Interval(0.7, 0.65, 0.75)),
        NEIGHBOURS: Accuracy(
            [[0.4, 0.5], [0.6, 0.8]], "block 1", 0.2, Interval(0.8, 0.7, 0.9), Interval(0.75, 0.7, 0.85)
        ),
    }
    result = FeaturesResult(
        "starter",
        "/photos",
        100,
        ["block 0", "block 1"],
        [0.1, 0.2],
        [16, 16],
        ["cat", "dog"],
        {"training": 60, "validation": 20, "test": 20},
        accuracy,
        "block 1",
        0.2,
        ["features.npy", "ids.csv"],
        ["A note."],
    )
    return dict(json.loads(json.dumps(result.to_json()))) | changes


def test_heat_maps_and_the_test_part() -> None:
    view = read_features(JobFolder(Path("job")), example())
    linear, near = view.plots
    assert (
        isinstance(linear, HeatMap) and linear.rows_of_values == ((0.5, 0.6), (0.7, 0.9)) and near.name != linear.name
    )
    assert linear.columns == ("0.1", "0.2") and linear.row_names == ("block 0", "block 1")
    assert view.verdict.startswith("The features of block 1 at noise level 0.2 separate classes better than raw pixels")
    assert [cell.value for row in view.table.rows for cell in row.cells if cell] == [0.9, 0.7, 0.8, 0.75]
    assert "2 classes" in view.summary and "features.npy" in view.exported and view.notes == ("A note.",)


def test_features_that_are_worse_and_folders_without_classes() -> None:
    values = example()
    values["accuracy"][PROBE]["test"] = {"value": 0.5, "low": 0.4, "high": 0.6}
    assert "worse than raw pixels" in read_features(JobFolder(Path("job")), values).verdict
    values["accuracy"][PROBE]["test"] = {"value": 0.7, "low": 0.6, "high": 0.8}
    assert "overlap" in read_features(JobFolder(Path("job")), values).verdict
    plain = read_features(JobFolder(Path("job")), example(accuracy={}, classes=[], parts={}, files=[]))
    assert plain.plots == () and "no classes" in plain.verdict and plain.exported == "" == plain.how_to_read


@pytest.mark.parametrize("change", [{"accuracy": {"linear": {}}}, {"layers": 3}, {"format": 99}, {"accuracy": None}])
def test_damage_is_named(change: dict[str, Any]) -> None:
    with pytest.raises(RunProblem):
        read_features(JobFolder(Path("job")), example(**change))

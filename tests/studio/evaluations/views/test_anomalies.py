"""Anomalies as the Lab reads them: what is called anomalous at any false-alarm rate, in the table, plots and files."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffstudio.errors import RunProblem
from diffstudio.evaluation.anomalies.calibration import p_values
from diffstudio.evaluation.interval import Interval
from diffstudio.studio.evaluations.anomalies.decisions import DECISIONS, Decision, write_decision
from diffstudio.studio.evaluations.anomalies.result import (
    COMBINED,
    LOCAL,
    PIXELS,
    AnomaliesResult,
    DetectorResult,
    ScoredImage,
)
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.views.anomalies import read_anomalies

NORMAL = tuple(float(score) for score in range(1, 20))  # of 19 held-out normals: rates from 0.05 on
SCORES = {"bad.png": 50.0, "odd.png": 18.5, "fine/a.png": 9.5, "fine/b.png": 0.5}  # p: 1/20, 2/20, 11/20, 1


def example(**changed: Any) -> dict[str, Any]:
    detectors = [
        DetectorResult(LOCAL, Interval(0.8, 0.7, 0.9), Interval(0.97, 0.95, 0.98), 1.0),
        DetectorResult(PIXELS, Interval(0.95, 0.9, 0.99), Interval(0.9, 0.85, 0.95), 3.0),
        DetectorResult(COMBINED, Interval(0.94, 0.9, 0.98), None, 0.0),
    ]
    images = [
        ScoredImage(
            path, score, float(p), bool(p <= 0.05 + 1e-9), {LOCAL: 0.5, PIXELS: float(p)}, f"heat maps/{path}.png"
        )
        for (path, score), p in zip(SCORES.items(), p_values(list(SCORES.values()), NORMAL), strict=True)
    ]
    result = AnomaliesResult(
        "/parts/today",
        "/parts/good",
        "Model: parts.",
        20,
        19,
        detectors,
        PIXELS,
        "Pixels decide.",
        0.05,
        0.05,
        19.0,
        images,
        ["strange.png"],
        notes=["Few images."],
        normal_scores=NORMAL,
    )
    values: dict[str, Any] = json.loads(json.dumps(result.to_json()))
    return values | changed


def test_the_rate_moves_what_is_called_anomalous_as_a_search_at_that_rate_would(tmp_path: Path) -> None:
    view = read_anomalies(JobFolder(tmp_path), example())
    for rate in np.arange(0.05, 1.0, 0.01):
        limit = view.threshold_at(rate)
        assert limit is not None
        assert view.count_at(rate) == sum(score > limit for score in SCORES.values())
    assert [view.count_at(rate) for rate in (0.04, 0.05, 0.1, 0.55, 1.0)] == [0, 1, 2, 3, 4]
    assert view.sentence_at(0.1) == (
        "2 of 4 images are called anomalous (score above 18.0). 19 held-out normal images support false-alarm "
        "rates of 5% and above."
    )
    assert view.threshold_at(0.04) is None and view.sentence_at(0.04).startswith("0 of 4 images are called anomalous. ")


def test_the_detectors_are_a_table_and_a_plot_with_intervals(tmp_path: Path) -> None:
    view = read_anomalies(JobFolder(tmp_path), example())
    assert [row.name for row in view.table.rows] == [
        "Denoising error, local maximum",
        "Nearest normal image, used",
        "Combination",
    ]
    assert view.table.names == "Detector"
    area, pixels, share = view.table.rows[1].cells
    assert area is not None and area.interval() == "0.900 to 0.990" and pixels is not None and pixels.value == 0.9
    assert share is not None and share.value == 0.75 and view.table.rows[2].cells[1:] == (None, None)
    areas, scores = view.figures_at(0.1)
    assert [series.y for series in areas.series] == [(0.8,), (0.95,), (0.94,)]
    assert areas.series[1].name == "used" and areas.categories == ("local maximum", "pixels", "combination")
    assert scores.references == (("threshold", 18.0, 2),)
    assert scores.series[0].y == NORMAL and scores.series[1].y == (0.5, 9.5, 18.5, 50.0)


def test_files_have_the_chosen_rate_and_the_decisions(tmp_path: Path) -> None:
    write_decision(tmp_path, "bad.png", Decision.REJECTED)
    view = read_anomalies(JobFolder(tmp_path), example())
    assert view.decisions == {"bad.png": Decision.REJECTED}
    lines = list(csv.DictReader(io.StringIO(view.csv_at(0.1, view.decisions))))
    assert [(line["path"], line["anomalous"], line["decision"]) for line in lines] == [
        ("bad.png", "1", "rejected"),
        ("odd.png", "1", ""),
        ("fine/a.png", "0", ""),
        ("fine/b.png", "0", ""),
    ]
    values = json.loads(view.json_at(0.1, view.decisions))
    assert (
        values["false_alarm"] == 0.1 and values["threshold"] == 18.0 and values["decisions"] == {"bad.png": "rejected"}
    )
    assert [image["anomalous"] for image in values["images"]] == [True, True, False, False]


def test_files_and_heat_maps_are_found(tmp_path: Path) -> None:
    view = read_anomalies(JobFolder(tmp_path), example())
    image = view.result.images[2]
    assert view.file(image) == Path("/parts/today/fine/a.png")
    assert view.heat_map(image) == tmp_path / "heat maps" / "fine" / "a.png.png"
    assert view.suspicious == (str(Path("/parts/good/strange.png")),)
    assert view.summary.endswith("20 to compare with and 19 held out. Model: parts.")


def test_older_results_without_normal_scores_still_follow_the_rate(tmp_path: Path) -> None:
    values = example()
    del values["normal_scores"]
    view = read_anomalies(JobFolder(tmp_path), values)
    assert view.threshold_at(0.05) == 19.0 and view.threshold_at(0.1) is None and view.count_at(0.1) == 2
    assert json.loads(view.json_at(0.1, {}))["threshold"] is None
    assert [series.name for series in view.figures_at(0.1)[1].series] == ["searched images"]


@pytest.mark.parametrize("key", ["images", "detectors", "false_alarm", "folder"])
def test_damage_is_named(tmp_path: Path, key: str) -> None:
    with pytest.raises(RunProblem, match="is damaged"):
        read_anomalies(JobFolder(tmp_path), example() | {key: None})


@pytest.mark.parametrize(("normals", "percent"), [(19, 5), (31, 3.13), (16, 5.89), (99, 1), (500, 0.2)])
def test_the_smallest_rate_is_rounded_up_so_that_it_is_supported(tmp_path: Path, normals: int, percent: float) -> None:
    view = read_anomalies(JobFolder(tmp_path), example(smallest_false_alarm=1 / (1 + normals), held_out=normals))
    assert view.smallest_percent == percent and percent / 100 >= 1 / (1 + normals)
    assert f"rates of {percent}% and above" in view.sentence_at(0.5)


def test_damaged_decisions_are_a_note_beside_the_result(tmp_path: Path) -> None:
    (tmp_path / DECISIONS).write_text("{")
    view = read_anomalies(JobFolder(tmp_path), example())
    assert view.decisions == {} and "cannot be read" in view.notes[-1]

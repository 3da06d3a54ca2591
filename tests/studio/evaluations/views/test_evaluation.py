"""The result of an evaluation as the Lab reads it: whole, damaged, and of folders that are elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.views.evaluation import read_evaluation


def details(**more: Any) -> dict[str, Any]:
    return {"name": "tiny", "images": 100, "memorisation": {"copies": {"value": 0.5}}} | more


def test_pairs_lie_in_the_folders_that_they_name(tmp_path: Path) -> None:
    values = {
        "folder": str(tmp_path / "photos"),
        "details": [
            details(
                nearest=[
                    {"image": "seed 1", "training": "a.png", "ratio": 0.1, "copy": True, "file": "images/a.png"},
                    {"image": "seed 2", "training": "a.png", "ratio": 0.9, "copy": False, "file": "../../etc/x.png"},
                    {"image": "seed 3", "training": "../../secret.png", "ratio": 0.2},
                    {"image": "seed 4", "training": "a.png", "ratio": "near"},
                ]
            )
        ],
    }
    view = read_evaluation(JobFolder(tmp_path), values)
    assert [(pair.image, pair.is_copy) for pair in view.pairs] == [("seed 1", True), ("seed 2", False)]
    assert view.pairs[0].image_file == tmp_path / "images" / "a.png" and view.pairs[1].image_file is None
    assert view.pairs[0].text() == "A copy of a.png · distance ratio 0.10"
    assert view.pairs[1].text() == "Nearest training image: a.png · distance ratio 0.90"


def test_results_of_before_have_their_copies(tmp_path: Path) -> None:
    copies = [{"image": "seed 1", "training": "a.png", "ratio": 0.1}]
    view = read_evaluation(JobFolder(tmp_path), {"folder": str(tmp_path), "details": [details(copies=copies)]})
    assert [(pair.is_copy, pair.image_file) for pair in view.pairs] == [(True, None)]


def test_too_few_images_leave_the_tests_for_copies(tmp_path: Path) -> None:
    view = read_evaluation(JobFolder(tmp_path), {"rows": [], "problem": "Too few", "details": [details()]})
    (row,) = view.table.rows
    assert (row.name, row.reference, view.problem) == ("tiny", False, "Too few")
    assert [column.key for column in view.table.columns] == ["copies"]


def test_what_was_followed_least_is_a_finding(tmp_path: Path) -> None:
    values = {
        "details": [
            details(
                sampling={"steps": 30},
                agreement_chance=0.1,
                agreement_by_label={"cat": 0.25, "dog": 1.0, "odd": "x"},
                loss_gap_by_noise_level=[{"noise_level": 0.5, "value": 1.0}, {"noise_level": "x"}],
            )
        ]
    }
    view = read_evaluation(JobFolder(tmp_path), values)
    assert view.findings == (
        "tiny: 100 images, steps 30.",
        "tiny: agreement by chance is 0.100.",
        "tiny: lowest agreement: cat (25%), dog (100%).",
    )
    assert view.figures[-1].series[0].y == (1.0,) and view.figures[-1].series[0].low == ()


def test_mode_collapse_has_a_table_of_its_own(tmp_path: Path) -> None:
    rows = [{"name": "real", "modes": {"value": 1.0}}, {"name": "tiny", "support": {"value": None, "low": 9.0}}]
    view = read_evaluation(JobFolder(tmp_path), {"rows": rows})
    assert [column.key for column in view.diversity.columns] == ["modes", "support"]
    assert [row.name for row in view.diversity.rows] == ["real", "tiny"] and view.diversity.rows[0].reference
    assert view.diversity.to_json().count("null") >= 4  # infinities too
    assert {"evaluation-modes", "diversity-modes"} & {figure.name for figure in view.figures} == {"diversity-modes"}


def test_damage_is_no_error(tmp_path: Path) -> None:
    view = read_evaluation(JobFolder(tmp_path), {"rows": "none", "details": [3], "counts": []})
    assert view.table.rows == () and view.figures == () and view.pairs == ()

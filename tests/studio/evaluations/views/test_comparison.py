"""A comparison as the Lab reads it: seeds in one row, files inside its folder, and what the verdicts say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from diffstudio.errors import DiffstudioError, RunProblem
from diffstudio.evaluation.interval import Interval
from diffstudio.evaluation.report import REAL
from diffstudio.studio.evaluations.compare.result import Comparison, Likelihood, Pair
from diffstudio.studio.evaluations.compare.verdict import verdict
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.views.comparison import read_comparison_view
from tests.studio.evaluations.compare.examples import HISTORY, entry


def example() -> Comparison:
    pair = Pair("seed 3", "0/a.png", 0.125, True, "images/pair-generated.png", "images/pair-training.png")
    first = replace(
        entry("r3gan", "gan", 0),
        training=HISTORY,
        pairs=(pair, replace(pair, image_file="../../secret.png")),
        seconds_per_image=0.5,
        parameters=1_500_000,
        memory_bytes=300 * 2**20,
        grid="images/gan.png",
        likelihood=Likelihood(Interval(2.5, 2.4, 2.6), "By the flow."),
    )
    second = replace(first, name="gan, seed 1", seed=1, grid="../elsewhere.png", pairs=(), notes=("Slow.",))
    found = Comparison(
        "/photos/digits",
        1.0,
        "Two runs.",
        "a network",
        "8 px",
        1297,
        500,
        entry(REAL),
        (first, second, entry("noise")),
        notes=("A note.",),
        held_out_grid="images/held-out.png",
    )
    return replace(found, verdicts=tuple(verdict(model, found.of_model(model), found.real) for model in found.models))


def test_a_comparison_is_shown_with_real_images_first(tmp_path: Path) -> None:
    values = json.loads(json.dumps(example().to_json()))
    (tmp_path / "compare.html").touch()
    view = read_comparison_view(JobFolder(tmp_path), values)
    names = [row.name for row in view.table.rows]
    assert names == [REAL, "GAN (2 seeds)", "noise"] and view.table.rows[0].reference
    columns = {column.key: place for place, column in enumerate(view.table.columns)}
    cell = view.table.rows[1].cells[columns["parameters"]]
    assert cell is not None and cell.value == 1.5
    memory, likelihood = (view.table.rows[1].cells[columns[key]] for key in ("memory", "bits_per_dimension"))
    assert memory is not None and memory.value == 300 and likelihood is not None and likelihood.value == 2.5
    assert [grid.title for grid in view.grids] == ["Held-out images", "GAN, seed 0"]
    assert [pair.image_file for pair in view.pairs] == [tmp_path / "images" / "pair-generated.png"]
    assert [one.model for one in view.verdicts] == ["GAN", "noise"]
    *_, collapse = view.verdicts[0].said
    assert collapse.sentence.startswith("Mode collapse: ") and collapse.grade == "good"
    assert [one.evidence.partition(" (")[0] for one in view.verdicts] == ["Mean of 2 seeds", "Value"]
    assert [row.name for row in view.seeds.rows] == [REAL, "GAN, seed 0", "GAN, seed 1"]
    assert view.seeds.columns == view.table.columns and view.seeds.name != view.table.name
    precision = view.seeds.rows[1].cells[[column.key for column in view.seeds.columns].index("precision")]
    found = entry("r3gan").figures["precision"]
    assert precision is not None and (precision.low, precision.high) == (found.low, found.high)
    assert view.likelihoods == ("GAN: By the flow.",), "said once, as it holds for all seeds"
    assert view.notes == ("A note.", "GAN, seed 1: Slow.")
    assert (
        view.figures
        and view.page == tmp_path / "compare.html"
        and "The first row is the training part" in view.how_to_read
    )


def test_single_seeds_are_not_listed_again(tmp_path: Path) -> None:
    whole = example()
    alone = replace(whole, entries=(whole.entries[0], whole.entries[2]))
    assert read_comparison_view(JobFolder(tmp_path), json.loads(json.dumps(alone.to_json()))).seeds.rows == ()


def test_a_comparison_without_a_table_says_why(tmp_path: Path) -> None:
    found = replace(example(), real=None, problem=DiffstudioError("There are too few images"))
    view = read_comparison_view(JobFolder(tmp_path), json.loads(json.dumps(found.to_json())))
    assert view.problem == "There are too few images." and view.page is None and view.how_to_read == ""


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunProblem):
        read_comparison_view(JobFolder(tmp_path), {"format": 1})

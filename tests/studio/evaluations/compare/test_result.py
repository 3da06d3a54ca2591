"""The result of a comparison as text and as JSON, which the window reads again."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest

from diffstudio.errors import DiffstudioError, RunProblem
from diffstudio.evaluation.interval import Interval
from diffstudio.evaluation.report import REAL
from diffstudio.studio.evaluations.compare.page import page
from diffstudio.studio.evaluations.compare.result import RESULT, Comparison, Likelihood, Pair, read_comparison
from diffstudio.studio.evaluations.compare.verdict import verdict
from tests.studio.evaluations.compare.examples import HISTORY, entry

PAIR = Pair("seed 3", "0/a.png", 0.125, True, "images/pair-generated.png", "images/pair-training.png")


@pytest.fixture
def found() -> Comparison:
    real = entry(REAL)
    first = replace(
        entry("r3gan", "gan", 0),
        training=HISTORY,
        pairs=(PAIR,),
        called_copies=1,
        seconds_per_image=0.0125,
        parameters=1_500_000,
        memory_bytes=300 * 2**20,
        likelihood=Likelihood(None, "A GAN has no likelihood."),
    )
    figures = dict(first.figures) | {
        "frechet_distance": Interval(19.6, 18.0, 21.0),
        "support": Interval(inf, 900.0, inf),
    }
    second = replace(first, name="gan, seed 1", seed=1, figures=figures)
    other = replace(entry("non-saturating gan"), likelihood=Likelihood(Interval(2.5, 2.4, 2.6), "ELBO"))
    made = Comparison(
        "/photos/digits",
        1.0,
        "One model.",
        "a network",
        "8 px",
        1297,
        500,
        real,
        (first, second, other),
        notes=("A note.",),
    )
    return replace(made, verdicts=tuple(verdict(model, made.of_model(model), real) for model in made.models))


def test_json_gives_the_same_again(found: Comparison, tmp_path: Path) -> None:
    (tmp_path / RESULT).write_text(json.dumps(found.to_json(), allow_nan=False))
    again = read_comparison(tmp_path)
    assert json.dumps(again.to_json()) == json.dumps(found.to_json()) and again.verdicts == found.verdicts
    assert again.entries[1].figures["support"] == Interval(inf, 900.0, inf)
    assert again.entries[0].training is not None and again.entries[0].training.rolled_back == HISTORY.rolled_back
    problem = DiffstudioError("There are too few", "100 are needed and there are 7")
    few = Comparison.from_json(json.loads(json.dumps(replace(found, real=None, problem=problem).to_json())))
    assert str(few.problem) == "There are too few: 100 are needed and there are 7."


def test_seeds_become_a_mean_with_the_lowest_and_the_highest(found: Comparison) -> None:
    assert found.models == ("gan", "non-saturating gan")
    mean = found.figure("gan", "frechet_distance")
    assert mean is not None and (mean.value, mean.low, mean.high) == (pytest.approx(14.6), 9.6, 19.6)
    assert found.figure("non-saturating gan", "frechet_distance") == Interval(1668.0, 1667.99, 1668.01)
    assert found.to_json()["over_seeds"]["gan"]["frechet_distance"]["value"] == pytest.approx(14.6)


def test_text_has_real_images_first_and_a_dash_for_what_has_no_likelihood(found: Comparison) -> None:
    lines = found.text().split("\n")
    rows = [line for line in lines if line.startswith(("real images", "gan (2", "non-saturating gan  "))]
    assert [row.split("  ")[0] for row in rows] == [
        "real images (training part)",
        "gan (2 seeds)",
        "non-saturating gan",
    ]
    header = next(line for line in lines if "FID" in line and "coverage" in line)
    assert "recall" in header and "train on synthetic" not in header
    assert "12.5 ms" in rows[1] and "1.50 M" in rows[1] and "300 MiB" in rows[1] and "2.500" in rows[2]
    assert "2.400…2.600" in lines[lines.index(rows[2]) + 1]
    assert rows[1].split("1.50 M")[0].split()[-3] == "–"
    assert "A note." in lines and any("mode collapse: Collapsed" in line for line in lines)


def test_the_page_needs_nothing_else_and_names_are_text(found: Comparison, tmp_path: Path) -> None:
    hostile = replace(found, folder="/photos/<b>&", notes=("<script>alert(1)</script>",))
    (tmp_path / "images").mkdir()
    (tmp_path / PAIR.image_file).write_bytes(b"png")
    text = page(hostile, tmp_path)
    assert text.index("<td>real images") < text.index("<td>gan (2 seeds)")
    assert "<script" not in text and "&lt;script&gt;" in text and "&lt;b&gt;&amp;" in text
    assert "src=" in text and text.count("src=") == text.count('src="data:image/png;base64,') == 2
    for elsewhere in ("http://", "https://", "@import", "url("):
        assert elsewhere not in text.replace("http://www.w3.org/2000/svg", "")
    assert "prefers-color-scheme:dark" in text and "<svg" in text
    assert text.count("Mean of 2 seeds (lowest…highest; real images): precision ") == 1 and "Each seed, with 95" in text
    assert "Collapsed: the model" in text and "2 seeds" in text and "resumed 2 times" in text


@pytest.mark.parametrize("spoiled", ["[]", "{", '{"format": 99}', '{"format": 1}'])
def test_a_damaged_result_is_a_sentence(spoiled: str, tmp_path: Path) -> None:
    (tmp_path / RESULT).write_text(spoiled)
    with pytest.raises(RunProblem, match="comparison|compare.json"):
        read_comparison(tmp_path)

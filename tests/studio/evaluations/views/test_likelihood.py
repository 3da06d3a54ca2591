"""Likelihoods as the Lab reads them: parts as rows, methods as columns, images as a plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diffstudio.errors import RunProblem
from diffstudio.evaluation.interval import Interval
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.likelihood.result import ImageLikelihood, LikelihoodResult, PartLikelihood
from diffstudio.studio.evaluations.views.likelihood import read_likelihood


def example() -> dict[str, Any]:
    def part(name: str, bits: float) -> PartLikelihood:
        images = [ImageLikelihood(f"{number}.png", "", {"flow": bits + number / 10}) for number in (2, 0, 1)]
        return PartLikelihood(name, 10, {"flow": Interval(bits, bits - 0.1, bits + 0.1)}, images)

    result = LikelihoodResult(
        "tiny",
        "/photos",
        "Unconditional.",
        192,
        8,
        0.01,
        [part("held-out images", 3.0), part("training images", 2.0)],
        {"flow": Interval(1.0, 0.8, 1.2)},
        {"flow": "a formula"},
        notes=["Few images."],
    )
    values: dict[str, Any] = json.loads(json.dumps(result.to_json()))
    return values


def test_parts_are_rows_and_images_a_sorted_plot(tmp_path: Path) -> None:
    view = read_likelihood(JobFolder(tmp_path), example())
    assert [row.name for row in view.table.rows] == [
        "held-out images, 3 images",
        "training images, 3 images",
        "held-out minus training",
    ]
    assert view.table.columns[0].name == "Probability flow"
    (figure,) = view.figures
    assert figure.series[0].y == pytest.approx((3.0, 3.1, 3.2)) and figure.series[1].name == "training images"
    assert figure.series[0].x == pytest.approx((1 / 6, 1 / 2, 5 / 6))
    assert view.formulas == ("probability flow: a formula",) and view.notes == ("Few images.",)
    assert view.summary == "tiny on /photos: 192 values of 8 bits in each image. Unconditional."


def test_an_abbreviation_keeps_its_capitals(tmp_path: Path) -> None:
    values = json.loads(json.dumps(example()).replace('"flow"', '"elbo"'))
    view = read_likelihood(JobFolder(tmp_path), values)
    assert view.table.columns[0].name == "ELBO" and view.figures[0].title == "ELBO of individual images, sorted"


@pytest.mark.parametrize("key", ["parts", "dimensions", "gaps"])
def test_damage_is_named(tmp_path: Path, key: str) -> None:
    with pytest.raises(RunProblem, match="is damaged"):
        read_likelihood(JobFolder(tmp_path), example() | {key: None})


def test_one_part_alone_has_no_gap(tmp_path: Path) -> None:
    values = example()
    values |= {"parts": values["parts"][:1], "gaps": {}}
    assert len(read_likelihood(JobFolder(tmp_path), values).table.rows) == 1

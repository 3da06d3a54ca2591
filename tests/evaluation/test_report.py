"""The table: the real row first, and rows of models whose faults are known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from diffstudio.errors import BadRequest
from diffstudio.evaluation.report import REAL, RealImages, real_row, row

RNG = np.random.default_rng(8)
CENTRES = np.eye(6)[:3] * 8
FEW = 20  # resamples


def images(labels: np.ndarray, noise: float = 1.0) -> np.ndarray:
    return np.asarray(CENTRES[labels] + RNG.normal(size=(len(labels), 6)) * noise)


LABELS = RNG.integers(0, 3, 400)
REAL_IMAGES = RealImages(images(LABELS[:250]), images(LABELS[250:]), LABELS[:250].tolist(), LABELS[250:].tolist())


def test_the_real_row_is_the_training_part_against_as_many_held_out_images() -> None:
    found = real_row(REAL_IMAGES, FEW)
    assert (found.name, found.count, found.copies) == (REAL, 150, None)
    assert found.figures["coverage"].value > 0.9 and found.figures["precision"].value > 0.8
    for figure in found.figures.values():
        assert figure.low <= figure.value <= figure.high
    assert found.figures["frechet_distance"].low >= 0 and found.figures["precision"].high <= 1


def test_a_good_a_collapsed_and_a_copying_model_are_told_apart() -> None:
    asked = RNG.integers(0, 3, 200)
    good = row("good", images(asked), REAL_IMAGES, asked.tolist(), FEW)
    collapsed = row("collapsed", images(np.zeros(200, int), 0.01), REAL_IMAGES, asked.tolist(), FEW)
    copying = row("copying", REAL_IMAGES.training[:200] + RNG.normal(size=(200, 6)) * 1e-3, REAL_IMAGES, (), FEW)
    assert good.count == 150
    assert good.figures["frechet_distance"].value < collapsed.figures["frechet_distance"].low / 5
    assert good.figures["agreement"].value > 0.95 > 0.5 > collapsed.figures["agreement"].value
    assert good.figures["copies"].value <= 0.05
    assert collapsed.figures["precision"].value == 1.0 and collapsed.figures["coverage"].value < 0.3
    assert collapsed.figures["vendi"].value < 1.2 < good.figures["vendi"].value
    assert copying.figures["copies"].value > 0.9
    assert copying.figures["nearer_to_training"].low > 0.5
    assert copying.copies is not None and len(copying.copies.indices()) > 130
    assert "agreement" not in copying.figures


def test_it_is_json_with_the_names_of_the_figures() -> None:
    found = json.loads(json.dumps(row("a", images(RNG.integers(0, 3, 120)), REAL_IMAGES, (), FEW).to_json()))
    assert found["name"] == "a" and found["count"] == 120
    assert set(found) == {
        *("name", "count", "frechet_distance", "kernel_distance", "precision", "recall", "density", "coverage"),
        *("vendi", "nearer_to_training", "copies"),
    }
    assert set(found["vendi"]) == {"value", "low", "high"}


def test_too_few_images_are_no_table() -> None:
    few = RealImages(images(LABELS[:250]), images(LABELS[:99]))
    with pytest.raises(BadRequest, match="too few held-out images to compare: 100 are needed and there are 99"):
        real_row(few)
    with pytest.raises(BadRequest, match="too few images of mine to compare: 100 are needed and there are 12"):
        row("mine", images(LABELS[:12]), REAL_IMAGES)


def test_where_more_were_held_out_than_trained_on_the_split_is_not_tested() -> None:
    turned = RealImages(REAL_IMAGES.held_out, REAL_IMAGES.training)
    assert "nearer_to_training" not in row("a", images(LABELS[:120]), turned, (), FEW).figures

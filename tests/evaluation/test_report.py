"""The table: the real row first, and rows of models whose faults are known."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from diffstudio.errors import BadRequest
from diffstudio.evaluation import interval, report
from diffstudio.evaluation.features import feature_arrays
from diffstudio.evaluation.report import REAL, GeneratedImages, RealImages, memorisation, real_row, row

RNG = np.random.default_rng(8)
CENTRES = np.eye(6)[:3] * 8
FEW = 20  # resamples


def images(labels: np.ndarray, noise: float = 1.0) -> np.ndarray:
    return np.asarray(CENTRES[labels] + RNG.normal(size=(len(labels), 6)) * noise)


LABELS = RNG.integers(0, 3, 400)
REAL_IMAGES = RealImages(images(LABELS[:250]), images(LABELS[250:]), LABELS[:250].tolist(), LABELS[250:].tolist())


def test_the_real_row_is_the_training_part_against_as_many_held_out_images() -> None:
    found = real_row(REAL_IMAGES, FEW)
    assert (found.name, found.count) == (REAL, 150)
    assert found.figures["coverage"].value > 0.9 and found.figures["precision"].value > 0.8
    for figure in found.figures.values():
        assert figure.low <= figure.value <= figure.high
    assert found.figures["frechet_distance"].low >= 0 and found.figures["precision"].high <= 1
    assert found.figures["agreement"].value > 0.95
    assert found.figures["copies"].value == 1.0  # of themselves: what copying reads
    assert found.figures["nearer_to_training"].low > 0.5


def test_rows_of_other_sizes_do_not_compare_so_that_all_can_be_given_one() -> None:
    found = real_row(REAL_IMAGES, FEW, 110)
    assert found.count == 110 and len(found.chosen) == 110
    assert found.figures["frechet_distance"].value > real_row(REAL_IMAGES, FEW).figures["frechet_distance"].value
    assert row(GeneratedImages("a", images(LABELS[:140])), REAL_IMAGES, FEW, 110).count == 110
    assert row(GeneratedImages("a", images(LABELS[:140])), REAL_IMAGES, FEW).count == 140


def test_a_good_a_collapsed_and_a_copying_model_are_told_apart() -> None:
    asked = RNG.integers(0, 3, 200)
    good = row(GeneratedImages("good", images(asked), asked.tolist()), REAL_IMAGES, FEW)
    collapsed = row(GeneratedImages("collapsed", images(np.zeros(200, int), 0.01), asked.tolist()), REAL_IMAGES, FEW)
    near = REAL_IMAGES.training[:200] + RNG.normal(size=(200, 6)) * 1e-3
    copying = row(GeneratedImages("copying", near), REAL_IMAGES, FEW)
    assert good.count == 150
    assert good.figures["frechet_distance"].value < collapsed.figures["frechet_distance"].low / 5
    assert good.figures["agreement"].value > 0.95 > 0.5 > collapsed.figures["agreement"].value
    assert good.agreement is not None and good.agreement.chance == pytest.approx(1 / 3, abs=0.05)
    assert good.figures["copies"].value <= 0.05
    assert collapsed.figures["precision"].value == 1.0 and collapsed.figures["coverage"].value < 0.3
    assert collapsed.figures["vendi"].value < 1.2 < good.figures["vendi"].value
    assert copying.figures["copies"].value > 0.9
    assert copying.figures["nearer_to_training"].low > 0.5
    assert len(copying.copies.indices()) > 130
    assert collapsed.figures["modes"].value < 0.2 < 0.8 < good.figures["modes"].value
    assert collapsed.figures["support"].high < 2 < 1000 < good.figures["support"].low
    assert collapsed.figures["classes"].value == pytest.approx(1 / 3) and good.figures["classes"].value == 1
    assert collapsed.classes is not None and collapsed.classes.missing == tuple({1, 2})
    assert collapsed.figures["class_vendi"].value < 1.1 < good.figures["class_vendi"].value
    assert copying.classes is None and "class_vendi" not in copying.figures
    assert "agreement" not in copying.figures and copying.agreement is None


def test_it_is_json_with_the_names_of_the_figures() -> None:
    found = json.loads(
        json.dumps(row(GeneratedImages("a", images(RNG.integers(0, 3, 120))), REAL_IMAGES, FEW).to_json())
    )
    assert found["name"] == "a" and found["count"] == 120
    assert set(found) == {
        *("name", "count", "frechet_distance", "kernel_distance", "precision", "recall", "density", "coverage"),
        *("vendi", "nearer_to_training", "copies", "modes", "support"),
    }
    assert set(found["vendi"]) == {"value", "low", "high"}


def test_captions_that_each_image_has_alone_and_images_without_one_are_no_classes() -> None:
    captions = [f"caption {index}" for index in range(150)]
    real = replace(REAL_IMAGES, held_out_labels=captions)
    assert row(GeneratedImages("a", images(LABELS[:120]), captions[:120]), real, FEW).classes is None
    some = ["" if index % 2 else 0 for index in range(120)]
    found = row(GeneratedImages("a", images(np.zeros(120, int)), some), REAL_IMAGES, FEW)
    assert found.classes is not None and found.classes.by_class[0].generated == 60
    bound = json.dumps(found.to_json()["support"])
    assert "Infinity" not in bound


def test_too_few_images_are_no_table() -> None:
    few = RealImages(images(LABELS[:250]), images(LABELS[:99]))
    with pytest.raises(BadRequest, match="too few held-out images to compare: 100 are needed and there are 99"):
        real_row(few)
    with pytest.raises(BadRequest, match="too few images of mine to compare: 100 are needed and there are 12"):
        row(GeneratedImages("mine", images(LABELS[:12])), REAL_IMAGES)


def test_where_more_were_held_out_than_trained_on_the_split_is_not_tested() -> None:
    turned = RealImages(REAL_IMAGES.held_out, REAL_IMAGES.training)
    assert "nearer_to_training" not in row(GeneratedImages("a", images(LABELS[:120])), turned, FEW).figures


def test_features_of_another_network_are_refused_though_they_have_the_same_width() -> None:
    real = RealImages(REAL_IMAGES.training, REAL_IMAGES.held_out, network="CLIP, 224 px")
    with pytest.raises(BadRequest, match="mine has those of DINOv2, the folder of CLIP, 224 px"):
        row(GeneratedImages("mine", images(LABELS[:120]), network="DINOv2"), real, FEW)
    with pytest.raises(BadRequest, match="different networks"):
        memorisation(GeneratedImages("mine", images(LABELS[:120])), real)


def test_nothing_of_the_table_is_computed_on_after_an_interruption() -> None:
    class Stopped(Exception):
        pass

    def check() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        row(GeneratedImages("a", images(LABELS[:120])), REAL_IMAGES, FEW, check=check)


def test_it_can_be_interrupted_within_each_pass_over_many_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_arrays.blocks, "__defaults__", (64,))
    calls: list[int] = []
    row(GeneratedImages("a", images(LABELS[:120])), REAL_IMAGES, 1, check=lambda: calls.append(1))
    few = len(calls)
    monkeypatch.setattr(feature_arrays.blocks, "__defaults__", (32,))
    row(GeneratedImages("a", images(LABELS[:120])), REAL_IMAGES, 1, check=lambda: calls.append(1))
    assert len(calls) - few > 2 * few


def test_labels_that_no_held_out_image_has_are_left_out_of_the_agreement() -> None:
    asked = ["never seen"] * 60 + [int(label) for label in LABELS[60:120]]
    found = row(GeneratedImages("a", images(LABELS[:120]), asked), REAL_IMAGES, FEW)
    assert found.agreement is not None and "never seen" not in found.agreement.by_label
    assert "agreement" not in row(GeneratedImages("a", images(LABELS[:120]), asked[:60] * 2), REAL_IMAGES, FEW).figures


def test_views_of_held_out_and_generated_images_show_flipped_copies() -> None:
    views = np.stack([REAL_IMAGES.held_out, REAL_IMAGES.held_out[:, ::-1]])
    real = RealImages(REAL_IMAGES.training, REAL_IMAGES.held_out, held_out_views=views)
    flipped = REAL_IMAGES.training[:120, ::-1] + RNG.normal(size=(120, 6)) * 1e-3
    seen = GeneratedImages("a", flipped, views=np.stack([flipped, flipped[:, ::-1]]))
    assert memorisation(GeneratedImages("a", flipped), real)[0]["copies"].value < 0.2
    assert memorisation(seen, real)[0]["copies"].value > 0.9
    assert memorisation(seen, real, range(50))[1].nearest.tolist() == list(range(50))


def test_copies_are_found_in_pixels_that_the_features_do_not_show() -> None:
    rng = np.random.default_rng(4)
    pixels = rng.normal(size=(400, 12))
    real = replace(REAL_IMAGES, training_pixels=pixels[:250], held_out_pixels=pixels[None, 250:])
    fresh = images(LABELS[:120])
    copied = GeneratedImages("a", fresh, pixels=pixels[None, :120] + rng.normal(size=(1, 120, 12)) * 1e-3)
    assert memorisation(GeneratedImages("a", fresh), real)[0]["copies"].value <= 0.05
    figures, found = memorisation(copied, real, range(60))
    assert figures["copies"].value > 0.95 and found.nearest.tolist() == list(range(60))
    other = GeneratedImages("a", fresh, pixels=rng.normal(size=(1, 120, 12)))
    assert memorisation(other, real)[0]["copies"].value <= 0.05
    assert real_row(real, 4).figures["copies"].value == 1.0


def test_what_all_rows_need_of_the_real_images_is_computed_once_for_the_same_arrays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[object] = []
    real_threshold = report.copy_threshold

    def counted(training: np.ndarray, held_out: np.ndarray, rate: float, check: object) -> float:
        calls.append(training)
        return real_threshold(training, held_out, rate)

    monkeypatch.setattr(report, "copy_threshold", counted)
    rng = np.random.default_rng(4)
    real = replace(
        REAL_IMAGES,
        training_pixels=rng.normal(size=(250, 12)),
        held_out_pixels=rng.normal(size=(1, 150, 12)),
        known=report.Remembered(),
    )
    shown = GeneratedImages("a", images(LABELS[:120]), pixels=rng.normal(size=(1, 120, 12)))
    first = row(shown, real, FEW)
    assert len(calls) == 2  # features and pixels
    again = row(shown, replace(real, held_out_labels=()), FEW)
    assert len(calls) == 2 and again.figures["copies"] == first.figures["copies"]
    other = replace(real, training_pixels=rng.normal(size=(250, 12)))
    row(shown, other, FEW)
    assert len(calls) == 3 and calls[-1] is other.training_pixels


def test_many_images_are_measured_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """One matrix of all distances would take 50 MB, in blocks of 256 it is 0.5 MB and what is computed from it;
    resources/manual/evaluate.md has the peak for 50,000 images.
    """
    monkeypatch.setattr(feature_arrays.blocks, "__defaults__", (256,))
    monkeypatch.setattr(interval, "LARGEST_RESAMPLE", 100)
    rng = np.random.default_rng(9)
    training, held_out, generated = (rng.normal(size=(2500, 24)).astype(np.float32) for _ in range(3))
    tracemalloc.start()
    try:
        found = row(GeneratedImages("many", generated), RealImages(training, held_out), 1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.count == 2500 and found.figures["coverage"].value > 0.9
    assert peak < 15e6


def test_a_part_whose_images_all_have_the_same_features_makes_no_table() -> None:
    rng = np.random.default_rng(0)
    varied, same = rng.normal(size=(100, 4)), np.ones((100, 4))
    for real, part in ((RealImages(varied, same), "held-out"), (RealImages(same, varied), "training")):
        with pytest.raises(
            BadRequest, match=f"The {part} features cannot be measured: all 100 images have the same ones"
        ):
            row(GeneratedImages("generated", varied), real)

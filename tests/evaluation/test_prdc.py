"""Precision, recall, density and coverage against the program of their authors, and on sets that show what each says."""

from __future__ import annotations

import numpy as np
import pytest
from prdc import compute_prdc

from diffstudio.errors import BadRequest
from diffstudio.evaluation.features import feature_arrays
from diffstudio.evaluation.prdc import precision_recall_density_coverage

RNG = np.random.default_rng(3)


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("shift", [0.0, 0.7, 30.0])
def test_the_values_of_their_authors(
    k: int, shift: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(feature_arrays.blocks, "__defaults__", (64,))
    real, fake = RNG.normal(size=(150, 10)), RNG.normal(size=(120, 10)) * 0.9 + shift
    found = precision_recall_density_coverage(real, fake, k)
    expected = compute_prdc(real, fake, k)
    for name in ("precision", "recall", "density", "coverage"):
        assert getattr(found, name) == pytest.approx(expected[name], abs=1e-12), name


def test_a_collapsed_model_is_precise_and_nothing_else() -> None:
    real = RNG.normal(size=(300, 5))
    found = precision_recall_density_coverage(real, real[7] + RNG.normal(size=(300, 5)) * 1e-3)
    assert found.precision == 1.0
    assert found.recall < 0.05 and found.coverage < 0.1


def test_more_images_than_neighbours_are_needed() -> None:
    with pytest.raises(BadRequest, match="too few generated images: this measure needs 7 and there are 6"):
        precision_recall_density_coverage(RNG.normal(size=(20, 3)), RNG.normal(size=(6, 3)))


def test_real_images_with_the_same_features_have_no_neighbourhood() -> None:
    with pytest.raises(BadRequest, match="all 20 images have the same ones"):
        precision_recall_density_coverage(np.ones((20, 3)), np.random.default_rng(0).normal(size=(20, 3)))

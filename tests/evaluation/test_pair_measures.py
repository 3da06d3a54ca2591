"""Measures in one pass, and from one matrix, against the functions that compute them one by one."""

from __future__ import annotations

import numpy as np
import pytest

from diffstudio.errors import BadRequest
from diffstudio.evaluation.features import feature_arrays, pairs
from diffstudio.evaluation.features.neighbours import nearest
from diffstudio.evaluation.frechet import frechet_distance
from diffstudio.evaluation.kernel_distance import kernel_distance
from diffstudio.evaluation.pair_measures import measures_of_part, pair_measures, within
from diffstudio.evaluation.prdc import precision_recall_density_coverage
from diffstudio.evaluation.vendi import vendi_score

RNG = np.random.default_rng(5)
NAMES = ("precision", "recall", "density", "coverage")


@pytest.mark.parametrize("in_double", [0, 10**9])
def test_one_pass_gives_what_single_measures_give(in_double: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = RNG.normal(size=(150, 10)), RNG.normal(size=(120, 10)) * 0.9 + 0.3
    fake[:20], real[:9] = real[30:50], real[9]  # copies and equal images
    expected = precision_recall_density_coverage(real, fake, 3), kernel_distance(real, fake)
    monkeypatch.setattr(feature_arrays.blocks, "__defaults__", (64,))
    monkeypatch.setattr(pairs, "PAIRS_IN_DOUBLE", in_double)
    found = pair_measures(real, fake, within(real, 3), within(fake, 3), 3)
    assert found.prdc == expected[0]
    kernel = float(np.mean((real @ real.T / 10 + 1) ** 3))
    assert found.kernel_distance == pytest.approx(expected[1], abs=kernel * (1e-12 if in_double else 1e-6))
    distances, indices = nearest(fake, real, 1)
    np.testing.assert_array_equal(found.nearest, indices[:, 0])
    np.testing.assert_array_equal(found.distances, distances[:, 0])


def test_neighbourhoods_are_decided_in_double_where_float32_cannot() -> None:
    """Images on a circle around an image, at its radius but for 1e-9 of it, in a set with a large spread."""
    real = np.concatenate([np.zeros((1, 4)), np.eye(4), RNG.normal(size=(60, 4)) * 50 + 500])
    directions = RNG.normal(size=(40, 4))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    fake = directions * (1 + 1e-9 * RNG.choice([-1, 1], size=(40, 1)))
    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patch:
        patch.setattr(pairs, "PAIRS_IN_DOUBLE", 0)
        found = pair_measures(real, fake, within(real, 4), within(fake, 4), 4).prdc
    around = np.sort(np.linalg.norm(real[:, None] - real, axis=2), axis=1)[:, 4]
    inside = np.linalg.norm(real[:, None] - fake, axis=2) < around[:, None]
    assert found.density == pytest.approx(inside.sum() / 4 / 40, abs=1e-15)
    assert 5 < inside[0].sum() < 35  # some on either side


@pytest.mark.parametrize("width", [12, 300])
def test_one_matrix_gives_what_single_measures_give(width: int) -> None:
    real, fake = RNG.normal(size=(90, width)) + 2, RNG.normal(size=(70, width)) * 0.9 + 2.1
    found = measures_of_part(real.astype(np.float32), fake.astype(np.float32))
    one, other = real.astype(np.float32), fake.astype(np.float32)
    expected = {
        "frechet_distance": frechet_distance(one, other),
        "kernel_distance": kernel_distance(one, other),
        "vendi": vendi_score(other),
    }
    shares = precision_recall_density_coverage(one, other)
    expected |= {name: getattr(shares, name) for name in NAMES}
    assert found == {name: pytest.approx(value, rel=1e-8) for name, value in expected.items()}


def test_sets_of_different_widths_and_small_ones_are_refused() -> None:
    real, fake = RNG.normal(size=(20, 3)), RNG.normal(size=(20, 4))
    with pytest.raises(BadRequest, match="different networks"):
        pair_measures(real, fake, within(real), within(fake))
    with pytest.raises(BadRequest, match="this measure needs 7 and there are 6"):
        within(real[:6])

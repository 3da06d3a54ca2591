"""All pairs of two sets in blocks: what comes once, how far float32 may be trusted, and distances in float64."""

from __future__ import annotations

import numpy as np
import pytest

from diffstudio.evaluation.features import feature_arrays, pairs
from diffstudio.evaluation.features.pairs import Block, Frame, exact_squared, is_same, sweep

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_arrays.blocks, "__defaults__", (7,))


@pytest.mark.parametrize("in_double", [0, 10**9])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_bounds_of_distances_are_below_them_and_near(
    in_double: int, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "PAIRS_IN_DOUBLE", in_double)
    views = (RNG.normal(size=(2, 20, 300)) + 50).astype(np.float32) * np.float32(scale)
    other = (RNG.normal(size=(30, 300)) + 50).astype(np.float32) * np.float32(scale)
    expected = np.square(np.linalg.norm(views[:, :, None].astype(np.float64) - other, axis=3)).min(axis=0)
    seen = np.zeros(expected.shape, int)

    def measure(block: Block) -> None:
        assert block.products.dtype == (np.float64 if in_double else np.float32)
        squared = block.lower.astype(np.float64) * block.frame.scale**2
        true = expected[block.rows, block.columns]
        assert (squared <= true * (1 + 1e-12)).all()
        np.testing.assert_allclose(squared, true, rtol=1e-12 if in_double else 3e-5)
        seen[block.rows, block.columns] += 1

    sweep(views, other, [measure])
    assert (seen == 1).all()


def test_pairs_of_one_set_come_once_and_each_block_is_announced() -> None:
    features = RNG.normal(size=(20, 3))
    seen, calls, other = np.zeros((20, 20), int), [], False

    def measure(block: Block) -> None:
        seen[block.rows, block.columns] += 1
        if block.mirrored:
            seen[block.columns, block.rows] += 1
        assert block.diagonal == (block.rows == block.columns and not other)

    sweep([features], features, [measure], lambda: calls.append(1))
    assert (seen == 1).all() and len(calls) == 6
    other = True
    sweep([features.copy()], features, [measure])
    assert (seen == 2).all()


def test_what_is_the_same_part_of_memory() -> None:
    features = RNG.normal(size=(4, 4))
    assert is_same(features, features[None][0]) and is_same(features[1:], features[1:])
    assert not is_same(features, features.copy()) and not is_same(features, features.T)
    assert not is_same(features, features[:3])


def test_equal_features_have_a_scale_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "PAIRS_IN_DOUBLE", 0)
    same = np.ones((3, 4))
    assert Frame.of([same], same).scale == 1.0


def test_distances_of_listed_pairs_are_exact() -> None:
    views, other = RNG.normal(size=(2, 300, 5)).astype(np.float32) + 1000, RNG.normal(size=(4, 5)) + 1000
    rows, columns = np.arange(300), np.arange(300) % 4
    expected = np.square(views - other[columns]).sum(axis=2).min(axis=0)
    np.testing.assert_allclose(exact_squared(views, other, rows, columns), expected, rtol=1e-12)
    assert exact_squared([other], other, np.array([1, 2]), np.array([1, 2])).tolist() == [0.0, 0.0]

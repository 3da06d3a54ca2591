"""The nearest rows against all distances, also where float32 cannot tell them apart."""

from __future__ import annotations

import numpy as np
import pytest

from diffstudio.evaluation.features import feature_arrays, pairs
from diffstudio.evaluation.features.neighbours import NearestSearch, nearest
from diffstudio.evaluation.features.pairs import sweep

RNG = np.random.default_rng(0)


@pytest.fixture(params=[0, 10**9], ids=["float32", "float64"], autouse=True)
def precision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "PAIRS_IN_DOUBLE", request.param)


@pytest.fixture(params=[7, 2048], autouse=True)
def rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_arrays.blocks, "__defaults__", (request.param,))


@pytest.mark.parametrize("count", [1, 4, 20])
def test_the_nearest_of_several_views_counts(count: int) -> None:
    views, other = RNG.normal(size=(3, 20, 5)), RNG.normal(size=(30, 5))
    expected = np.linalg.norm(views[:, :, None] - other, axis=3).min(axis=0)
    distances, indices = nearest(views, other, count)
    np.testing.assert_array_equal(indices, np.argsort(expected, axis=1)[:, :count])
    np.testing.assert_allclose(distances, np.sort(expected, axis=1)[:, :count], rtol=1e-12)


def test_the_nearest_come_first_and_no_image_is_its_own_neighbour() -> None:
    features = RNG.normal(size=(40, 6))
    distances, indices = nearest(features, features, 3, same=True)
    everything = np.linalg.norm(features[:, None] - features, axis=2)
    np.testing.assert_array_equal(indices, np.argsort(everything, axis=1)[:, 1:4])
    np.testing.assert_allclose(distances, np.sort(everything, axis=1)[:, 1:4], rtol=1e-12)


@pytest.mark.parametrize("same", [False, True])
def test_neighbours_that_differ_by_less_than_float32_shows_are_told_apart(same: bool) -> None:
    """Forty nearly equal images in a set with a large spread: their distances are decided in float64."""
    base = RNG.normal(size=(1, 6))
    crowd = base + 1e-3 * RNG.normal(size=(40, 6))
    other = np.concatenate([RNG.normal(size=(30, 6)) * 100, crowd])
    images = other if same else crowd[::-1] + 1e-4
    distances, indices = nearest(images, other, 3, same=same)
    everything = np.linalg.norm(images[:, None] - other, axis=2)
    if same:
        np.fill_diagonal(everything, np.inf)
    np.testing.assert_array_equal(indices, np.argsort(everything, axis=1, kind="stable")[:, :3])
    np.testing.assert_allclose(distances, np.sort(everything, axis=1)[:, :3], rtol=1e-9)


def test_equal_images_are_at_no_distance() -> None:
    same = np.ones((60, 4))
    assert nearest(same, same, 2, same=True)[0].max() == 0 == nearest(same + 0, same, 50)[0].max()


def test_where_there_are_fewer_the_others_are_infinitely_far() -> None:
    features = RNG.normal(size=(3, 4))
    distances, _ = nearest(features, features, 4, same=True)
    assert np.isfinite(distances).sum(axis=1).tolist() == [2, 2, 2]
    assert np.isinf(nearest(features[:1], features[:1], 1, same=True)[0]).all()


def test_columns_find_the_nearest_rows_in_the_same_pass() -> None:
    real, fake = RNG.normal(size=(30, 5)), RNG.normal(size=(20, 5))
    search, turned = NearestSearch([real], fake, 2), NearestSearch([fake], real, 2, turned=True)
    sweep([real], fake, [search.add, turned.add])
    for found, expected in ((search.found(), nearest(real, fake, 2)), (turned.found(), nearest(fake, real, 2))):
        np.testing.assert_array_equal(found[1], expected[1])
        np.testing.assert_array_equal(found[0], expected[0])


def test_it_can_be_interrupted_in_every_part() -> None:
    class Stopped(Exception):
        pass

    calls = []
    crowd = np.concatenate([np.ones((40, 3)), RNG.normal(size=(9, 3)) * 1000])
    nearest(crowd, crowd, 1, check=lambda: calls.append(1))
    for stop in range(1, len(calls) + 1):
        left = iter(range(stop))

        def check() -> None:
            if next(left) == stop - 1:  # noqa: B023 - called before the next round
                raise Stopped

        with pytest.raises(Stopped):
            nearest(crowd, crowd, 1, check=check)

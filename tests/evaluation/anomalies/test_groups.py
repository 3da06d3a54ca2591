"""Groups of points far from the rest, alike among themselves or not, and folders where nothing is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from diffstudio.evaluation.anomalies.calibration import outliers
from diffstudio.evaluation.anomalies.groups import apart

RNG = np.random.default_rng(0)


def cloud(count: int = 60, dimensions: int = 5) -> np.ndarray:
    return RNG.normal(size=(count, dimensions))


def nearest(points: np.ndarray) -> np.ndarray:
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    found: np.ndarray = distances.min(axis=1)
    return found


def test_points_that_are_alike_among_themselves_are_found_where_the_nearest_neighbour_misses_them() -> None:
    points = np.concatenate([cloud(), 12 + 0.1 * cloud(8)])
    assert len(outliers(nearest(points))) == 0
    assert sorted(apart(points)) == list(range(60, 68))


def test_a_single_point_is_found_as_by_its_nearest_neighbour_and_the_farthest_comes_first() -> None:
    points = np.concatenate([cloud(), np.full((1, 5), 10.0), np.full((1, 5), -30.0)])
    assert set(apart(points)) == set(outliers(nearest(points))) == {60, 61}
    assert apart(points)[0] == 61


@pytest.mark.parametrize("seed", range(10))
def test_one_cloud_has_no_group_apart(seed: int) -> None:
    assert len(apart(np.random.default_rng(seed).normal(size=(80, 20)))) == 0


def test_kinds_of_images_are_no_anomalies() -> None:
    """Three kinds far from each other; only the point that is linked to none is apart."""
    kinds = [cloud(30) + 40 * number for number in range(3)]
    assert len(apart(np.concatenate(kinds))) == 0
    assert apart(np.concatenate([*kinds, np.full((1, 5), -60.0)])).tolist() == [90]


def test_points_are_linked_by_others_between_them() -> None:
    line = np.arange(20.0)[:, None] * [1.0, 0.0]
    assert len(apart(line)) == 0, "its ends are far from each other, but each point is near to the next"
    assert apart(np.concatenate([line, [[30.0, 0.0]]])).tolist() == [20]


def test_few_and_equal_points() -> None:
    assert len(apart(np.zeros((3, 2)))) == 0 and len(apart(np.zeros((0, 2)))) == 0
    assert len(apart(np.zeros((10, 2)))) == 0
    assert apart([*np.zeros((9, 2)), [1.0, 1.0]]).tolist() == [9]

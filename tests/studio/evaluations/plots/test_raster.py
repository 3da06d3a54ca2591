"""Points in pixels: every one where it belongs, the last on top, and 20,000 of them within a frame."""

from __future__ import annotations

import time

import numpy as np
import pytest

from diffstudio.studio.evaluations.plots.raster import Stamp, draw, packed, stamp
from diffstudio.studio.evaluations.plots.scatter import SHAPES

BLACK, RED, BLUE = "#000000", "#ff0000", "#0000ff"


def stamps() -> list[Stamp]:
    return [stamp("circle", 3, RED, BLACK), stamp("square", 3, BLUE, BLACK)]


def drawn(places: list[tuple[float, float]], groups: list[int]) -> np.ndarray:
    return draw(np.array(places, np.float64).reshape(-1, 2), np.array(groups, np.int64), stamps(), 40, 30, BLACK)


def test_a_point_lies_where_it_belongs() -> None:
    pixels = drawn([(10, 20), (30.4, 5)], [0, 1])
    assert pixels.shape == (30, 40) and pixels.dtype == np.uint32
    red, blue = pixels == packed(RED), pixels == packed(BLUE)
    assert red[20, 10] and blue[5, 30] and not red[20, 15]
    np.testing.assert_allclose(np.argwhere(red).mean(axis=0), [20, 10])
    np.testing.assert_allclose(np.argwhere(blue).mean(axis=0), [5, 30])


@pytest.mark.parametrize("shape", SHAPES)
def test_a_mark_has_the_area_of_its_shape_and_smooth_edges(shape: str) -> None:
    one = stamp(shape, 4, "#ffffff", BLACK)
    shares = (one.colours & 255) / 255
    assert 25 < shares.sum() < 58 and ((shares > 0) & (shares < 1)).any()  # pi 16 = 50 for a circle
    assert (one.colours >> 24 == 255).all()
    assert shares[(one.x == 0) & (one.y == 0)] == 1


def test_the_last_is_on_top_with_a_rim_around_it() -> None:
    alone, both = drawn([(10, 10)], [0]), drawn([(10, 10), (13, 10)], [0, 1])
    assert both[10, 13] == packed(BLUE) and alone[10, 12] == packed(RED) and both[10, 12] != packed(RED)
    turned = drawn([(13, 10), (10, 10)], [1, 0])
    assert turned[10, 10] == packed(RED) and turned[10, 12] == packed(RED)


def test_what_is_outside_is_left_out_and_what_is_half_inside_is_cut() -> None:
    assert (drawn([(-50, 10), (10, 1e9), (np.float64(60), 10)], [0, 0, 0]) == packed(BLACK)).all()
    assert (drawn([], []) == packed(BLACK)).all()
    whole = (drawn([(20, 15)], [0]) != packed(BLACK)).sum()
    for place in ((0, 15), (39, 15), (20, 0), (20, 29)):
        cut = (drawn([place], [0]) != packed(BLACK)).sum()
        assert 0.4 * whole < cut < 0.8 * whole
    corner = drawn([(0, 0), (39, 29)], [0, 1])
    assert corner[0, 0] == packed(RED) and corner[29, 39] == packed(BLUE)


def test_twenty_thousand_points_take_less_than_a_frame() -> None:
    rng = np.random.default_rng(0)
    places, groups = rng.normal(size=(20_000, 2)) * 150 + [400, 230], rng.integers(0, 2, 20_000)
    marks = [stamp(shape, 2.2, RED, BLACK) for shape in SHAPES[:2]]
    seconds = []
    for shift in range(5):
        begun = time.thread_time()
        draw(places + shift, groups, marks, 800, 460, BLACK)
        seconds.append(time.thread_time() - begun)
    assert min(seconds) < 0.033  # measured: 0.010 s

"""What of a map is shown: zoomed around the mouse, never lost, and the next point by keyboard."""

from __future__ import annotations

import numpy as np
import pytest

from diffstudio.ui.lab.image_map.viewport import MOST_ZOOM, Viewport, nearest, next_in_direction

POINTS = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 5.0], [3.0, 2.0]])


def whole() -> Viewport:
    return Viewport.of(POINTS, 432, 332)


def test_everything_fits_at_one_scale_with_y_upwards() -> None:
    places = whole().places(POINTS)
    np.testing.assert_allclose(places[:3], [[16, 266], [416, 266], [416, 66]])
    assert Viewport.of(np.zeros((3, 2)), 100, 80).places(np.zeros((1, 2))).tolist() == [[50, 40]]


def test_zooming_keeps_the_point_under_the_mouse() -> None:
    view = whole()
    for factor in (2.0, 1.7, 0.8):
        before = view.places(POINTS)[3]
        view = view.zoomed(factor, *before)
        np.testing.assert_allclose(view.places(POINTS)[3], before)
    assert view.zoom == pytest.approx(2.72)
    assert view.zoomed(1e-9) == whole()  # everything again, and not smaller
    assert view.zoomed(1e9).zoom == MOST_ZOOM


def test_moving_stays_among_the_points() -> None:
    near = whole().zoomed(4)
    moved = near.moved(30, -20)
    np.testing.assert_allclose(moved.places(POINTS) - near.places(POINTS), [[30, -20]] * 4)
    far = near.moved(1e6, 1e6)
    assert far.centre == (0.0, 5.0) and whole().moved(50, 50) == whole()


def test_a_point_outside_is_brought_inside_and_one_inside_moves_nothing() -> None:
    near = whole().zoomed(4, 16, 266)  # around the first point
    assert near.places(POINTS)[2, 0] > 432
    shown = near.showing(10.0, 5.0)
    x, y = shown.places(POINTS)[2]
    assert 0 <= x <= 432 and 0 <= y <= 332 and shown.zoom == near.zoom
    assert shown.showing(10.0, 5.0) == shown


def test_after_a_resize_everything_fits_again() -> None:
    np.testing.assert_allclose(whole().resized(232, 200).places(POINTS)[:2, 0], [16, 216])


def test_the_nearest_is_the_one_on_top_within_reach() -> None:
    places = np.array([[5.0, 5.0], [20.0, 5.0], [20.0, 5.0]])
    assert nearest(places, 19, 5, 10) == 2 and nearest(places, 6, 6, 10) == 0
    assert nearest(places, 100, 100, 10) is None and nearest(places[:0], 0, 0, 10) is None


def test_the_arrows_go_to_the_next_point_in_their_direction() -> None:
    places = np.array([[0.0, 0.0], [10.0, 0.0], [20.0, 3.0], [10.0, 9.0], [0.0, -30.0]])
    assert next_in_direction(places, 0, 1, 0) == 1 and next_in_direction(places, 1, 1, 0) == 2
    assert next_in_direction(places, 2, -1, 0) == 1 and next_in_direction(places, 1, 0, 1) == 3
    assert next_in_direction(places, 0, 0, -1) == 4 and next_in_direction(places, 4, 0, -1) is None
    assert next_in_direction(places, 4, 1, 0) == 1  # steep, but nothing else is to the right
    assert next_in_direction(places, 2, 1, 0) is None


def test_every_point_can_be_reached_by_keyboard() -> None:
    places = np.random.default_rng(0).uniform(0, 400, (60, 2))
    reached, waiting = {0}, [0]
    while waiting:
        start = waiting.pop()
        for direction in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            found = next_in_direction(places, start, *direction)
            if found is not None and found not in reached:
                reached.add(found)
                waiting.append(found)
    assert reached == set(range(60))

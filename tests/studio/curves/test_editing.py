from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffstudio.diffusion.curve_points import MOST, NoiseCurve
from diffstudio.errors import BadRequest
from diffstudio.studio.curves.editing import added, added_after, moved, placed, removed

CURVE = NoiseCurve(((0.0, 9.0), (0.3, 2.0), (0.7, -1.0), (1.0, -8.0)))
number = st.floats(-50, 50)


@given(st.lists(st.tuples(st.integers(0, 3), number, number), max_size=8))
def test_dragging_anywhere_keeps_a_schedule(drags: list[tuple[int, float, float]]) -> None:
    curve = CURVE
    for index, u, log_snr in drags:
        curve = moved(curve, index, u, log_snr)  # NoiseCurve itself would refuse
    assert curve.points[0][0] == 0 and curve.points[-1][0] == 1


def test_a_drag_goes_where_there_is_room() -> None:
    assert moved(CURVE, 1, 0.4, 1.0).points[1] == (0.4, 1.0)
    assert moved(CURVE, 1, 0.9, -9.0).points[1] == pytest.approx((0.696, -0.98))  # its neighbour stops it
    assert moved(CURVE, 0, 0.5, 12.0).points[0] == (0.0, 12.0) and moved(CURVE, 3, 0.5, -99).points[3] == (1.0, -20.0)
    tight = NoiseCurve(((0.0, 1.0), (0.002, 0.99), (0.005, 0.98), (1.0, 0.0)))
    assert moved(tight, 1, 0.5, -5).points[1] == (0.002, 0.99)


def test_typed_numbers_are_taken_or_refused() -> None:
    assert placed(CURVE, 2, 0.6, 0.5).points[2] == (0.6, 0.5)
    with pytest.raises(BadRequest, match="does not fall"):
        placed(CURVE, 2, 0.6, 5.0)
    with pytest.raises(BadRequest, match="two points at time 0.3"):
        placed(CURVE, 2, 0.3, 0.5)


def test_points_added_and_removed() -> None:
    curve, index = added(CURVE, 0.5)
    assert index == 2 and curve.points[2] == (0.5, pytest.approx(CURVE.log_snr(0.5)))
    assert removed(curve, 2) == CURVE
    assert added_after(CURVE, 3)[1] == added_after(CURVE, 2)[1] == 3  # before the last
    for u in (0.301, 0.0, 1.0, 1.5):
        with pytest.raises(BadRequest, match="too close"):
            added(CURVE, u)
    full = NoiseCurve(tuple((index / (MOST - 1), 9.0 - index / 10) for index in range(MOST)))
    with pytest.raises(BadRequest, match="at most 64"):
        added(full, 0.501)
    for curve, index in ((CURVE, 0), (CURVE, 3), (NoiseCurve(((0.0, 1.0), (1.0, 0.0))), 1)):
        with pytest.raises(BadRequest, match="cannot be removed"):
            removed(curve, index)

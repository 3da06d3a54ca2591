from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from diffstudio.diffusion.curve_points import NoiseCurve
from diffstudio.errors import BadRequest

LINE = NoiseCurve(((0.0, 10.0), (1.0, -10.0)))
BENT = NoiseCurve(((0.0, 12.0), (0.1, 3.0), (0.35, 2.5), (0.8, -1.0), (1.0, -14.5)))


def test_points_on_a_line_make_that_line() -> None:
    for curve in (LINE, NoiseCurve(((0.0, 10.0), (0.2, 6.0), (0.7, -4.0), (1.0, -10.0)))):
        for u in (0.0, 0.1, 0.2, 0.5, 0.9, 1.0):
            assert curve.log_snr(u) == pytest.approx(10 - 20 * u, abs=1e-12)
            assert curve.time(10 - 20 * u) == pytest.approx(u, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_monotone_cubic_of_scipy(seed: int) -> None:
    draw = np.random.default_rng(seed)
    times = np.concatenate([[0.0], np.sort(draw.uniform(0.01, 0.99, 6)), [1.0]])
    values = -np.sort(-draw.uniform(-20, 20, 8))
    curve = NoiseCurve(tuple(zip(times.tolist(), values.tolist(), strict=True)))
    expected = PchipInterpolator(times, values)
    for u in np.linspace(0, 1, 37).tolist():
        assert curve.log_snr(u) == pytest.approx(float(expected(u)), abs=1e-10)


def test_it_falls_everywhere_and_inverts() -> None:
    u = np.linspace(0, 1, 401).tolist()
    values = [BENT.log_snr(one) for one in u]
    assert (np.diff(values) < 0).all()
    assert [BENT.time(value) for value in values] == pytest.approx(u, abs=1e-9)
    assert BENT.time(30) == 0 and BENT.time(-30) == 1  # beyond its ends
    assert BENT.log_snr(-1) == 12 and BENT.log_snr(2) == pytest.approx(-14.5)


def test_a_flat_end_does_not_turn_back() -> None:
    """The three-point formula at the end would rise there: the slope is 0 instead."""
    curve = NoiseCurve(((0.0, 5.0), (0.5, 4.99), (1.0, -15.0)))
    assert curve.slopes[0] == 0
    assert curve.log_snr(0.25) < 5


def test_alpha_of_zero() -> None:
    assert BENT.starts_without_image and not LINE.starts_without_image


@pytest.mark.parametrize(
    ("points", "sentence"),
    [
        (((0.0, 1.0),), "number of points is 1, and 2 to 64 are needed"),
        (((0.0, 1.0), (1.0, 2.0)), r"does not fall from time 0 \(1\) to time 1 \(2\)"),
        (((0.0, 1.0), (0.5, 1.0), (1.0, 0.0)), "does not fall"),
        (((0.0, 1.0), (0.5, 0.5), (0.5, 0.0), (1.0, -1.0)), "two points at time 0.5"),
        (((0.0, 1.0), (0.6, 0.5), (0.4, 0.0), (1.0, -1.0)), "time 0.4 comes after time 0.6"),
        (((0.0, 1.0), (1.2, 0.5), (1.0, 0.0)), "time 1.2 is not between 0 and 1"),
        (((float("nan"), 1.0), (1.0, 0.0)), "time nan"),
        (((0.0, 90.0), (1.0, 0.0)), "log-SNR 90 is not between -20 and 20"),
        (((0.0, 1.0), (1.0, float("-inf"))), "log-SNR -inf"),
        (((0.1, 1.0), (1.0, 0.0)), "first point to time 0"),
        (((0.0, 1.0), (0.9, 0.0)), "its times go from 0 to 0.9"),
    ],
)
def test_what_is_no_schedule(points: tuple[tuple[float, float], ...], sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        NoiseCurve(points)


def test_read_without_trust() -> None:
    assert NoiseCurve.from_json([[0, 10], [1, -10]]) == LINE
    assert NoiseCurve.from_pairs(LINE.pairs) == LINE
    with pytest.raises(BadRequest, match="number of values is 3"):
        NoiseCurve.from_pairs((0.0, 1.0, 1.0))
    for broken in (None, 3, [], "ab", [[0, 1, 2]], [[0, "x"], [1, 0]], [[0, 10**400], [1, 0]], [[True], [1]]):
        with pytest.raises(BadRequest, match="pairs of a time and a log-SNR"):
            NoiseCurve.from_json(broken)

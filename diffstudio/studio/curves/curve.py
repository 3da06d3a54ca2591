"""A drawn noise schedule in NumPy: its log-SNR, slope and inverse, vectorised over times."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diffstudio.diffusion.curve_points import (
    NoiseCurve as NoiseCurve,
)  # re-exported for the window, which does not import diffusion
from diffstudio.diffusion.curve_points import hermite

Array = NDArray[np.float64]
_HALVINGS = 36  # of an interval: to 1e-11 of its length


def curve_log_snr(curve: NoiseCurve, u: Array) -> Array:
    """The log-SNR at times u in [0, 1]."""
    s, length, ends = _intervals(curve, u)
    return hermite(s, length, *ends)


def curve_slope(curve: NoiseCurve, u: Array) -> Array:
    """dlog-SNR / du at times u; never above 0."""
    s, length, (first, last, slope, slope_last) = _intervals(curve, u)
    a, b, rise = length * slope, length * slope_last, last - first
    return (a + s * (2 * (3 * rise - 2 * a - b) + s * 3 * (a + b - 2 * rise))) / length


def curve_time(curve: NoiseCurve, log_snr: Array) -> Array:
    """The inverse of `curve_log_snr`, clamped to [0, 1]."""
    points = np.array(curve.points)
    log_snr = np.clip(log_snr, points[-1, 1], points[0, 1])
    index = np.clip(np.searchsorted(-points[:, 1], -log_snr, side="right") - 1, 0, len(points) - 2)
    length, ends = _of_intervals(curve, index)
    low, high = np.zeros_like(log_snr), np.ones_like(log_snr)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = hermite(middle, length, *ends) > log_snr
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    found: Array = points[index, 0] + high * length
    found[log_snr >= points[0, 1]] = 0.0
    found[log_snr <= points[-1, 1]] = 1.0
    return found


def _intervals(curve: NoiseCurve, u: Array) -> tuple[Array, Array, tuple[Array, Array, Array, Array]]:
    """For each time, its fraction of its interval, the interval's length, and the values and slopes at its ends."""
    times = np.array([point[0] for point in curve.points])
    index = np.clip(np.searchsorted(times, u, side="right") - 1, 0, len(times) - 2)
    length, ends = _of_intervals(curve, index)
    return (u - times[index]) / length, length, ends


def _of_intervals(curve: NoiseCurve, index: NDArray[np.int64]) -> tuple[Array, tuple[Array, Array, Array, Array]]:
    points, slopes = np.array(curve.points), np.array(curve.slopes)
    times, values = points[:, 0], points[:, 1]
    return times[index + 1] - times[index], (values[index], values[index + 1], slopes[index], slopes[index + 1])

"""Edits of the points of a drawn noise schedule by mouse and keys; the result is always a valid schedule."""

from __future__ import annotations

from diffstudio.diffusion.curve_points import FEWEST, HIGHEST, LOWEST, MOST, NoiseCurve
from diffstudio.errors import BadRequest

SMALLEST_TIME, SMALLEST_FALL = 0.004, 0.02  # between two points that are dragged


def moved(curve: NoiseCurve, index: int, u: float, log_snr: float) -> NoiseCurve:
    """The curve with a point dragged as far as its neighbours allow. The first and last points keep their times."""
    points = list(curve.points)
    last = len(points) - 1
    if 0 < index < last:
        u = _between(u, points[index - 1][0] + SMALLEST_TIME, points[index + 1][0] - SMALLEST_TIME, points[index][0])
    else:
        u = points[index][0]
    highest = points[index - 1][1] - SMALLEST_FALL if index > 0 else HIGHEST
    lowest = points[index + 1][1] + SMALLEST_FALL if index < last else LOWEST
    points[index] = u, _between(log_snr, lowest, highest, points[index][1])
    return NoiseCurve(tuple(points))


def placed(curve: NoiseCurve, index: int, u: float, log_snr: float) -> NoiseCurve:
    """The curve with a point at exactly this place. BadRequest if that is not a noise schedule."""
    points = list(curve.points)
    points[index] = u, log_snr
    return NoiseCurve(tuple(points))


def added(curve: NoiseCurve, u: float) -> tuple[NoiseCurve, int]:
    """The curve with a new point on it at a time, and its index. BadRequest if it is too close to another, or too many."""
    if len(curve.points) >= MOST:
        raise BadRequest(f"A noise schedule has at most {MOST} points", remedy="Remove one first")
    if any(abs(u - time) < SMALLEST_TIME for time, _ in curve.points) or not 0 < u < 1:
        raise BadRequest(f"No point can be added at time {u:.3g}", "another point is too close", "Choose another time")
    index = sum(time < u for time, _ in curve.points)
    points = (*curve.points[:index], (u, curve.log_snr(u)), *curve.points[index:])
    return NoiseCurve(points), index


def added_after(curve: NoiseCurve, index: int) -> tuple[NoiseCurve, int]:
    """The curve with a new point halfway to the next one (for the last point, to the previous). BadRequest if too close."""
    index = min(index, len(curve.points) - 2)
    return added(curve, (curve.points[index][0] + curve.points[index + 1][0]) / 2)


def removed(curve: NoiseCurve, index: int) -> NoiseCurve:
    """The curve without a point. BadRequest for the first and last points."""
    if len(curve.points) <= FEWEST or index in (0, len(curve.points) - 1):
        raise BadRequest(
            "The first and last points cannot be removed", "a noise schedule needs both ends", "Move it instead"
        )
    return NoiseCurve((*curve.points[:index], *curve.points[index + 1 :]))


def _between(value: float, lowest: float, highest: float, otherwise: float) -> float:
    """The value clamped to a range; `otherwise` if the range is empty."""
    return min(max(value, lowest), highest) if lowest <= highest else otherwise

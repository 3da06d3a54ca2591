"""What the mouse and the keys do to the points of a drawn noise schedule: always with a schedule as the result."""

from __future__ import annotations

from diffstudio.diffusion.curve_points import FEWEST, HIGHEST, LOWEST, MOST, NoiseCurve
from diffstudio.errors import BadRequest

SMALLEST_TIME, SMALLEST_FALL = 0.004, 0.02  # between two points that are dragged


def moved(curve: NoiseCurve, index: int, u: float, log_snr: float) -> NoiseCurve:
    """A point dragged towards a place, as far as its neighbours allow. The first and the last keep their times."""
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
    """A point at exactly this place. BadRequest where that is no noise schedule."""
    points = list(curve.points)
    points[index] = u, log_snr
    return NoiseCurve(tuple(points))


def added(curve: NoiseCurve, u: float) -> tuple[NoiseCurve, int]:
    """A new point on the curve at a time, and its index. BadRequest for one too near to another, and for too many."""
    if len(curve.points) >= MOST:
        raise BadRequest(f"A noise schedule has at most {MOST} points", remedy="Remove one first")
    if any(abs(u - time) < SMALLEST_TIME for time, _ in curve.points) or not 0 < u < 1:
        raise BadRequest(f"There is no room for a point at time {u:.3g}", "another one is there", "Choose another time")
    index = sum(time < u for time, _ in curve.points)
    points = (*curve.points[:index], (u, curve.log_snr(u)), *curve.points[index:])
    return NoiseCurve(points), index


def added_after(curve: NoiseCurve, index: int) -> tuple[NoiseCurve, int]:
    """A new point half-way to the next one, or to the one before the last. BadRequest where there is no room."""
    index = min(index, len(curve.points) - 2)
    return added(curve, (curve.points[index][0] + curve.points[index + 1][0]) / 2)


def removed(curve: NoiseCurve, index: int) -> NoiseCurve:
    """Without a point. BadRequest for the first and the last, which hold the ends."""
    if len(curve.points) <= FEWEST or index in (0, len(curve.points) - 1):
        raise BadRequest(
            "The first and the last point cannot be removed", "the curve needs its ends", "Move it instead"
        )
    return NoiseCurve((*curve.points[:index], *curve.points[index + 1 :]))


def _between(value: float, lowest: float, highest: float, otherwise: float) -> float:
    """Clamped; `otherwise` where the neighbours leave no room."""
    return min(max(value, lowest), highest) if lowest <= highest else otherwise

"""NoiseCurve: a drawn noise schedule, a decreasing curve of log-SNR over time through given points. No torch.

Time is u, from 0 (the clean image) to 1 (noise); log-SNR is log(alpha^2 / sigma^2), in nats. Between its points a curve
is the monotone cubic of Fritsch & Butland 1984 (SIAM J. Sci. Stat. Comput. 5, 300), as in SciPy's PchipInterpolator, so
it decreases wherever its points do. A curve does not depend on a model's own time:

    as a spacing       the steps of a sampler have the noise levels at evenly spaced u
    as noise levels    a network is trained at the noise levels of uniform u, with density -du / dlog-SNR: Kingma & Gao
                       2023 (arXiv 2303.00848), section 2.1
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeVar

from diffstudio.errors import BadRequest

LOWEST, HIGHEST = -20.0, 20.0  # log-SNR; beyond these, float32 cannot represent the image or the noise
NO_IMAGE = -14.0  # log-SNR at and below which alpha counts as 0: alpha is 0.0009 there
FEWEST, MOST = 2, 64  # points
UNREADABLE = "A noise schedule cannot be read"
_SMALLEST_GAP = 1e-6  # between two times, and between two log-SNRs
_HALVINGS = 60  # of [0, 1], to the last bit of a float64

_Array = TypeVar("_Array")  # float, tensor or array


@dataclass(frozen=True, slots=True)
class NoiseCurve:
    """A curve through points (u, log-SNR), in the order of their times. BadRequest for points that are not a schedule."""

    points: tuple[tuple[float, float], ...]
    slopes: tuple[float, ...] = field(init=False, compare=False, repr=False)  # of the curve at each point

    def __post_init__(self) -> None:
        _check(self.points)
        object.__setattr__(self, "slopes", _slopes(self.points))

    @classmethod
    def from_pairs(cls, values: Iterable[float]) -> NoiseCurve:
        """The curve from alternating times and log-SNRs, as in a recipe."""
        numbers = [float(value) for value in values]
        if len(numbers) % 2:
            raise BadRequest(
                UNREADABLE,
                f"its number of values is {len(numbers)}, and they must be alternating times and log-SNRs",
                "Give pairs",
            )
        return cls(tuple(zip(numbers[::2], numbers[1::2], strict=True)))

    @classmethod
    def from_json(cls, values: object) -> NoiseCurve:
        """The curve from an untrusted list of pairs."""
        points = [_point(value) for value in values] if isinstance(values, (list, tuple)) else []
        found = tuple(point for point in points if point is not None)
        if not points or len(found) < len(points):
            raise BadRequest(UNREADABLE, "its points must be pairs of a time and a log-SNR")
        return cls(found)

    @property
    def pairs(self) -> tuple[float, ...]:
        """Alternating times and log-SNRs."""
        return tuple(number for point in self.points for number in point)

    @property
    def starts_without_image(self) -> bool:
        """Whether the curve has zero terminal SNR: alpha is 0 at u = 1, to float32 precision."""
        return self.points[-1][1] <= NO_IMAGE

    def log_snr(self, u: float) -> float:
        """The log-SNR at one time, clamped to [0, 1]."""
        u = min(max(u, 0.0), 1.0)
        index = min(max(bisect_right(self.points, (u, math.inf)) - 1, 0), len(self.points) - 2)
        (start, first), (end, last) = self.points[index : index + 2]
        length = end - start
        return hermite((u - start) / length, length, first, last, *self.slopes[index : index + 2])

    def time(self, log_snr: float) -> float:
        """The inverse of `log_snr`, clamped to [0, 1]."""
        low, high = 0.0, 1.0
        if log_snr >= self.points[0][1]:
            return low
        if log_snr <= self.points[-1][1]:
            return high
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            if self.log_snr(middle) > log_snr:
                low = middle
            else:
                high = middle
        return (low + high) / 2


def hermite(s: Any, length: Any, first: _Array, last: _Array, slope: _Array, slope_last: _Array) -> _Array:
    """The cubic Hermite interpolant at the fraction s of an interval, from values and slopes at its ends."""
    rise: Any = last - first  # type: ignore[operator]
    a: Any = length * slope
    b: Any = length * slope_last
    value: _Array = first + s * (a + s * (3 * rise - 2 * a - b + s * (a + b - 2 * rise)))
    return value


def _check(points: tuple[tuple[float, float], ...]) -> None:
    what = "This is not a noise schedule"
    if not FEWEST <= len(points) <= MOST:
        raise BadRequest(
            what, f"its number of points is {len(points)}, and {FEWEST} to {MOST} are needed", "Add or remove points"
        )
    for u, log_snr in points:
        if not 0 <= u <= 1:
            raise BadRequest(what, f"the time {u:g} is not between 0 and 1", "Move that point")
        if not LOWEST <= log_snr <= HIGHEST:
            raise BadRequest(
                what, f"the log-SNR {log_snr:g} is not between {LOWEST:g} and {HIGHEST:g}", "Move that point"
            )
    if points[0][0] != 0 or points[-1][0] != 1:
        raise BadRequest(
            what,
            f"its times go from {points[0][0]:g} to {points[-1][0]:g}",
            "Move the first point to time 0 and the last one to time 1",
        )
    for (u, log_snr), (u_next, log_snr_next) in pairwise(points):
        if abs(u_next - u) < _SMALLEST_GAP:
            raise BadRequest(what, f"it has two points at time {u:g}", "Remove one of them")
        if u_next < u:
            raise BadRequest(
                what, f"time {u_next:g} comes after time {u:g}", "Put the points in the order of their times"
            )
        if log_snr - log_snr_next < _SMALLEST_GAP:
            raise BadRequest(
                what,
                f"its log-SNR does not fall from time {u:g} ({log_snr:g}) to time {u_next:g} ({log_snr_next:g})",
                "Noise must grow with time: move one of the two points",
            )


def _point(value: object) -> tuple[float, float] | None:
    match value:
        case [int() | float() as u, int() | float() as log_snr]:
            try:
                return float(u), float(log_snr)
            except OverflowError:
                return None
    return None


def _slopes(points: tuple[tuple[float, float], ...]) -> tuple[float, ...]:
    """The slopes of the monotone cubic: weighted harmonic means inside, one-sided three-point formulas at the ends."""
    lengths = [end[0] - start[0] for start, end in pairwise(points)]
    secants = [(end[1] - start[1]) / length for (start, end), length in zip(pairwise(points), lengths, strict=True)]
    if len(secants) == 1:
        return secants[0], secants[0]
    inside = []
    for (before, after), (left, right) in zip(pairwise(lengths), pairwise(secants), strict=True):
        weight, weight_right = 2 * after + before, after + 2 * before
        inside.append((weight + weight_right) / (weight / left + weight_right / right))
    return (
        _end_slope(lengths[0], lengths[1], secants[0], secants[1]),
        *inside,
        _end_slope(lengths[-1], lengths[-2], secants[-1], secants[-2]),
    )


def _end_slope(length: float, next_length: float, secant: float, next_secant: float) -> float:
    slope = ((2 * length + next_length) * secant - length * next_secant) / (length + next_length)
    return min(slope, 0.0)  # all secants are negative, so SciPy's other bound, 3 x secant, is never exceeded

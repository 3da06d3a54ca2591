"""Viewport: which part of a map is shown, and how large. Geometry only, no widget."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

MOST_ZOOM = 400.0  # times the scale at which everything fits
STEP = 1.25
_MARGIN = 16.0  # px around everything
_SIDEWAYS = 2.0  # how much an offset across the direction counts, against one along it

Points = NDArray[np.float64]  # [N,2]


@dataclass(frozen=True, slots=True)
class Viewport:
    """`centre` is the point in the middle; `zoom` is 1 where everything fits. `scale` is px for each unit then."""

    low: tuple[float, float]
    high: tuple[float, float]
    width: float
    height: float
    centre: tuple[float, float]
    zoom: float = 1.0

    @classmethod
    def of(cls, points: Points, width: float, height: float) -> Viewport:
        """All of the points."""
        low, high = points.min(axis=0), points.max(axis=0)
        middle = (low + high) / 2
        return cls((low[0], low[1]), (high[0], high[1]), width, height, (middle[0], middle[1]))

    @property
    def scale(self) -> float:
        spans = (self.high[0] - self.low[0], self.high[1] - self.low[1])
        room = (max(1.0, self.width - 2 * _MARGIN), max(1.0, self.height - 2 * _MARGIN))
        fitting = [place / span for place, span in zip(room, spans, strict=True) if span > 0]
        return min(fitting, default=1.0) * self.zoom

    def places(self, points: Points) -> Points:
        """Where points are, in px with y downwards."""
        scale = self.scale
        return np.stack(
            [
                self.width / 2 + (points[:, 0] - self.centre[0]) * scale,
                self.height / 2 - (points[:, 1] - self.centre[1]) * scale,
            ],
            axis=1,
        )

    def resized(self, width: float, height: float) -> Viewport:
        return replace(self, width=width, height=height)

    def zoomed(self, factor: float, x: float | None = None, y: float | None = None) -> Viewport:
        """Zoomed around a place in px, by default the middle: the point there stays."""
        zoom = min(MOST_ZOOM, max(1.0, self.zoom * factor))
        dx = (x if x is not None else self.width / 2) - self.width / 2
        dy = (y if y is not None else self.height / 2) - self.height / 2
        nearer = replace(self, zoom=zoom)
        change = 1 / self.scale - 1 / nearer.scale
        return nearer._within((self.centre[0] + dx * change, self.centre[1] - dy * change))

    def moved(self, dx: float, dy: float) -> Viewport:
        """The points moved by so many px."""
        scale = self.scale
        return self._within((self.centre[0] - dx / scale, self.centre[1] + dy / scale))

    def showing(self, x: float, y: float) -> Viewport:
        """Moved so that a point is inside, if it was not."""
        (place,) = self.places(np.array([[x, y]]))
        left, top = (
            min(max(at, _MARGIN), room - _MARGIN) for at, room in zip(place, (self.width, self.height), strict=True)
        )
        return self.moved(left - place[0], top - place[1])

    def all(self) -> Viewport:
        low, high = self.low, self.high
        return replace(self, zoom=1.0, centre=((low[0] + high[0]) / 2, (low[1] + high[1]) / 2))

    def _within(self, centre: tuple[float, float]) -> Viewport:
        """With its middle inside what there is; at zoom 1 in the middle of it."""
        if self.zoom == 1.0:
            return self.all()
        x, y = (min(max(at, low), high) for at, low, high in zip(centre, self.low, self.high, strict=True))
        return replace(self, centre=(x, y))


def nearest(places: Points, x: float, y: float, reach: float) -> int | None:
    """The nearest of some places within `reach` px, the last where several are equal: it is on top."""
    if not len(places):
        return None
    squared = (places[:, 0] - x) ** 2 + (places[:, 1] - y) ** 2
    found = len(squared) - 1 - int(np.argmin(squared[::-1]))
    return found if squared[found] <= reach**2 else None


def next_in_direction(places: Points, start: int, dx: int, dy: int) -> int | None:
    """The nearest place from `start` to the right (dx = 1), left, below (dy = 1) or above; None where there is none.

    Of places that are further across than along there is one only where no other is left.
    """
    offsets = places - places[start]
    along = offsets[:, 0] * dx + offsets[:, 1] * dy
    across = np.abs(offsets[:, 0] * dy) + np.abs(offsets[:, 1] * dx)
    ahead = along > 0.5
    if not ahead.any():
        return None
    straight = ahead & (across <= along)
    allowed = straight if straight.any() else ahead
    cost = np.where(allowed, along + _SIDEWAYS * across, np.inf)
    return int(np.argmin(cost))

"""Points of a scatter drawn into pixels, tens of thousands within a frame. No torch, no window.

Each kind of mark is a stamp: a few pixels with their colours, smoothed at the edge against the background and with a rim
of it, so that marks that overlap stay apart. All pixels of all points are written by one assignment, in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffstudio.studio.evaluations.plots.scatter import outline

_FINE = 8  # samples of the coverage along a pixel's side
_RIM = 0.9  # px of background around a mark

Pixels = NDArray[np.uint32]  # [H,W], 0xffRRGGBB as Qt's Format_RGB32


@dataclass(frozen=True, slots=True)
class Stamp:
    """The pixels of a mark around its centre."""

    x: NDArray[np.int64]  # [K]
    y: NDArray[np.int64]
    colours: NDArray[np.uint32]


def packed(colour: str) -> int:
    """`#rrggbb` as 0xffrrggbb."""
    return 0xFF000000 | int(colour.removeprefix("#"), 16)


def stamp(shape: str, radius: float, colour: str, background: str) -> Stamp:
    """A mark of `radius` px, in a colour on a background."""
    reach = int(np.ceil(radius * 1.35 + _RIM)) + 1
    covered, rim = (_coverage(shape, size, reach) for size in (radius, radius + _RIM))
    rows, columns = np.nonzero(rim > 0.5)
    share = covered[rows, columns][:, None]
    of_mark, behind = (np.array([int(one[at : at + 2], 16) for at in (1, 3, 5)]) for one in (colour, background))
    mixed = np.rint(of_mark * share + behind * (1 - share)).astype(np.uint32)
    colours = np.uint32(0xFF000000) | mixed[:, 0] << 16 | mixed[:, 1] << 8 | mixed[:, 2]
    return Stamp(columns - reach, rows - reach, colours.astype(np.uint32))


def draw(
    places: NDArray[np.float64],
    group: NDArray[np.int64],
    stamps: Sequence[Stamp],
    width: int,
    height: int,
    background: str,
) -> Pixels:
    """Points [N,2] in px, y downwards, each with the stamp of its group, the last on top. Those outside are left out."""
    reach = max(int(max(np.abs(one.x).max(), np.abs(one.y).max())) for one in stamps) + 1
    margin = 2 * reach  # for marks whose centre is outside, and their other half
    stride, rows = width + 2 * margin, height + 2 * margin
    pixels = np.full(rows * stride, packed(background), np.uint32)
    whole = np.rint(places)
    inside = ((whole > -reach) & (whole < np.array([width + reach, height + reach]))).all(axis=1)
    where, kinds = whole[inside].astype(np.int64) + margin, group[inside]
    most = max(len(one.x) for one in stamps)
    offsets = np.stack([_padded(one.y * stride + one.x, most) for one in stamps])
    colours = np.stack([_padded(one.colours, most) for one in stamps])
    index = (where[:, 1] * stride + where[:, 0])[:, None] + offsets[kinds]
    pixels[index.ravel()] = colours[kinds].ravel()
    return np.ascontiguousarray(pixels.reshape(rows, stride)[margin:-margin, margin:-margin])


def _padded(values: NDArray[Any], count: int) -> NDArray[Any]:
    """As many values, the first of them repeated: the same pixel once more."""
    return np.concatenate([values, np.repeat(values[:1], count - len(values))])


def _coverage(shape: str, radius: float, reach: int) -> NDArray[np.float64]:
    """The share of each pixel [2R+1,2R+1] around the centre that a shape covers."""
    side = 2 * reach + 1
    at = (np.arange(side * _FINE) + 0.5) / _FINE - reach - 0.5
    x, y = at[None], at[:, None]
    corners = outline(shape, radius)
    if corners:
        inside = np.ones((side * _FINE,) * 2, np.bool_)
        for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):  # clockwise on the screen
            cross = (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)
            inside &= cross >= 0
    else:
        inside = x**2 + y**2 <= radius**2
    share: NDArray[np.float64] = inside.reshape(side, _FINE, side, _FINE).mean(axis=(1, 3))
    return share

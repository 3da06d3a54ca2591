"""Overlays of a word's attention map on the image, and the share of each word at one place. No torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_COLOURS = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], np.float64)  # inferno
_OPACITY = 0.72


def heat(word_map: NDArray[np.floating]) -> NDArray[np.float32]:
    """A map scaled to [0,1] by its own minimum and maximum; zeros if it is flat or unknown."""
    known = np.nan_to_num(np.asarray(word_map, np.float32))
    low, high = float(known.min()), float(known.max())
    return (known - low) / (high - low) if high > low else np.zeros_like(known)


def enlarged(values: NDArray[np.floating], height: int, width: int) -> NDArray[np.float32]:
    """Values [h,w] at the centres of cells, bilinear between them: [height,width]."""
    for axis, size in ((0, height), (1, width)):
        count = values.shape[axis]
        places = np.clip((np.arange(size) + 0.5) * count / size - 0.5, 0, count - 1)
        low = np.floor(places).astype(int)
        high, share = np.minimum(low + 1, count - 1), places - low
        weights = share[:, None] if axis == 0 else share[None]
        values = np.take(values, low, axis) * (1 - weights) + np.take(values, high, axis) * weights
    return np.asarray(values, np.float32)


def over_image(image: NDArray[np.uint8], shares: NDArray[np.floating]) -> NDArray[np.uint8]:
    """A grey version of an RGB image [H,W,3] with values [h,w] in [0,1] over it as colours from black to yellow."""
    large = enlarged(shares, *image.shape[:2]).clip(0, 1)
    grey = image.astype(np.float64).mean(axis=2, keepdims=True)
    places = np.linspace(0, 1, len(_COLOURS))
    colours = np.stack([np.interp(large, places, _COLOURS[:, channel]) for channel in range(3)], axis=-1)
    return np.asarray(((1 - _OPACITY) * grey + _OPACITY * colours).round(), np.uint8)


def shares_at(heats: NDArray[np.floating], row: int, column: int) -> NDArray[np.float64]:
    """The share of each word in the heat [W,h,w] of one cell: the shares sum to 1, or are all 0 without heat."""
    here = np.asarray(heats[:, row, column], np.float64)
    return here / here.sum() if here.sum() > 0 else here

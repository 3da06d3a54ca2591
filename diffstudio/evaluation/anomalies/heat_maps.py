"""Heat maps: anomaly scores of pixels, smoothed and drawn over the image. No torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_REACH = 3  # standard deviations of the Gaussian on either side
_COLOURS = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], np.float64)  # inferno
_LEAST_SIDE = 256  # px of a written heat map: small images are enlarged by whole factors
_OPACITY = 0.6


def smoothed(maps: NDArray[np.float32], deviation: float) -> NDArray[np.float32]:
    """Maps [N,H,W] blurred by a Gaussian of this standard deviation in px; borders are repeated."""
    reach = max(1, round(_REACH * deviation))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    weights /= weights.sum()
    for axis in (1, 2):
        size = maps.shape[axis]
        total = np.zeros(maps.shape, np.float64)
        for offset, weight in zip(range(-reach, reach + 1), weights, strict=True):
            total += weight * np.take(maps, np.clip(np.arange(size) + offset, 0, size - 1), axis=axis)
        maps = total.astype(np.float32)
    return maps


def smoothing_of(side: int) -> float:
    """The standard deviation of the blur in px for images of this side: 1.5% of it, at least 0.7."""
    return max(0.7, 0.015 * side)


def over_image(image: NDArray[np.float32], heat: NDArray[np.float32], normal: float) -> NDArray[np.uint8]:
    """The heat map [H,W] drawn over a grey version of the image [C,H,W] in [-1,1], as RGB [H,W,3].

    `normal` is the heat that pixels of normal images rarely exceed. Below it only the image is shown; the colour scale ends
    at three times this value.
    """
    grey = (image[:3].mean(axis=0).clip(-1, 1) + 1) * 127.5
    share = np.clip(heat / (3 * normal or 1.0), 0, 1)
    places = np.linspace(0, 1, len(_COLOURS))
    colours = np.stack([np.interp(share, places, _COLOURS[:, channel]) for channel in range(3)], axis=-1)
    opacity = _OPACITY * np.clip(3 * share, 0, 1)[..., None]
    shown = (1 - opacity) * grey[..., None] + opacity * colours
    factor = max(1, -(-_LEAST_SIDE // max(heat.shape)))
    return np.asarray(shown.round().repeat(factor, axis=0).repeat(factor, axis=1), np.uint8)

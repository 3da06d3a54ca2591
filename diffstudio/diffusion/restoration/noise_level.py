"""Estimates the standard deviation of white noise in an image from its finest details."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_MEDIAN_OF_NORMAL = 0.6744897501960817  # of |z|, z ~ N(0, 1)
_FEWEST = 64  # squares from which a median is taken
_FROM_LIMITS = 2.0  # deviations: nearer to black or white, noise was cut off


def estimate_noise(image: Tensor, limits: tuple[float, float] | None = (-1.0, 1.0)) -> float:
    """The standard deviation of the noise in an image [C,H,W], in its own unit, by the median of its diagonal details.

    median |HH| / 0.6745 over squares of 2 px of the Haar wavelet: Donoho & Johnstone 1994, section 4.2. Edges affect few
    squares, so the median is robust to them; fine texture counts as noise. Values clipped at the `limits` (None: no
    clipping) have too little noise: squares near the limits are left out if enough others remain.
    """
    if min(image.shape[-2:]) < 2:
        return 0.0
    squares = F.unfold(image[:, None].double(), 2, stride=2).permute(0, 2, 1).reshape(-1, 4)  # [N,4]
    details = ((squares[:, 0] - squares[:, 1] - squares[:, 2] + squares[:, 3]) / 2).abs()
    means = squares.mean(1)
    found = _by_median(details)
    if limits is None:
        return found
    for _ in range(3):
        inside = (means > limits[0] + _FROM_LIMITS * found) & (means < limits[1] - _FROM_LIMITS * found)
        if int(inside.sum()) < _FEWEST:
            break
        found = _by_median(details[inside])
    return found


def _by_median(details: Tensor) -> float:
    return float(torch.quantile(details[: 2**24 - 1], 0.5)) / _MEDIAN_OF_NORMAL

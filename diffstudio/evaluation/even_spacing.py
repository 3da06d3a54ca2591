"""Deterministic subsets of images, evenly spaced so that every part of a folder is represented. No torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def evenly_spaced(available: int, count: int) -> NDArray[np.int64]:
    """At most `count` of the indices below `available`, evenly spaced, starting at 0."""
    count = min(count, available)
    return np.arange(count, dtype=np.int64) * available // max(1, count)


def spread(available: int, count: int) -> NDArray[np.int64]:
    """`count` indices below `available`, evenly spread; the numbers of repetitions differ by at most one."""
    return evenly_spaced(available, count) if count <= available else np.arange(count) % available

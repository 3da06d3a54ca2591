"""Some of many images, so that all parts of a folder are represented and the choice is the same each time. No torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def evenly_spaced(available: int, count: int) -> NDArray[np.int64]:
    """At most `count` of the indices below `available`, evenly spaced from 0 on."""
    count = min(count, available)
    return np.arange(count, dtype=np.int64) * available // max(1, count)


def spread(available: int, count: int) -> NDArray[np.int64]:
    """`count` indices below `available`, evenly spread; each as often as any other, but for one."""
    return evenly_spaced(available, count) if count <= available else np.arange(count) % available

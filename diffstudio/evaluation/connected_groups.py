"""Connected groups (single linkage): items that are linked directly or through others. No torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.intp]


def first_of_groups(count: int, one: Indices, other: Indices) -> Indices:
    """[N]: the first item of the group of each of `count` items, from links between items `one` [L] and `other` [L]."""
    groups = np.arange(count)
    join(groups, one, other)
    return groups


def join(groups: Indices, one: Indices, other: Indices) -> None:
    """Add links between items `one` [L] and `other` [L] to `groups` [N], which has the first item of the group of each.

    All links at once: each group is attached to the lowest group that it is linked to, until none is apart.
    """
    while True:
        firsts, others = groups[one], groups[other]
        apart = firsts != others
        if not apart.any():
            return
        np.minimum.at(groups, np.maximum(firsts, others)[apart], np.minimum(firsts, others)[apart])
        while ((further := groups[groups]) != groups).any():
            groups[:] = further

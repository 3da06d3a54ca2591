"""Small groups of images that are far from all others: anomalies among normal images, however alike they are. No torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffstudio.evaluation.anomalies.calibration import far_limit
from diffstudio.evaluation.connected_groups import first_of_groups

MOST_APART = 0.25  # of all points; where more are apart, the groups are kinds of images
_FEWEST = 4


def apart(points: ArrayLike) -> NDArray[np.intp]:
    """Indices of the points [N,D] that are not linked to the largest group, the farthest from it first.

    Two points are linked if they are as near to each other as most points are to their nearest one: up to Tukey's far fence
    of the distances to the nearest point (single linkage). A distance to the nearest point alone misses images that are
    alike among themselves. If more than a quarter of the points are outside the largest group, the groups are kinds of
    images, and only points that are linked to no other one are returned.
    """
    values = np.asarray(points, np.float64)
    if len(values) < _FEWEST:
        return np.zeros(0, np.intp)
    squares = np.einsum("nd,nd->n", values, values)
    distances = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * values @ values.T, 0))
    np.fill_diagonal(distances, np.inf)
    nearest = distances.min(axis=1)
    limit = far_limit(nearest)
    first = first_of_groups(len(values), *np.nonzero(distances <= limit))
    group = np.unique(first, return_inverse=True)[1]  # numbered by their first points
    sizes = np.bincount(group)
    inside = group == sizes.argmax()
    found = np.flatnonzero(~inside)
    if len(found) > MOST_APART * len(values):
        found = np.flatnonzero(nearest > limit)
        return found[np.argsort(-nearest[found], kind="stable")]
    gaps = distances[np.ix_(found, np.flatnonzero(inside))].min(axis=1) if len(found) else np.zeros(0)
    return found[np.argsort(-gaps, kind="stable")]

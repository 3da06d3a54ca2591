"""Trustworthiness: whether neighbours on a map are neighbours in the features too. Venna & Kaski 2001 (ICANN), eq. 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffstudio.evaluation.features.feature_arrays import FeatureArray, as_features, blocks, distance_blocks

NEIGHBOURS = 10
_ROWS = 256  # rows whose ranks are in memory at a time


def trustworthiness(features: ArrayLike, coordinates: ArrayLike, neighbours: int = NEIGHBOURS) -> float | None:
    """Trustworthiness of a map [N,2] of features [N,D]: 1 if all neighbours agree, about 0.5 for a random map.

    Neighbours on the map that are not among the `neighbours` nearest in the features are penalised by their rank there, as
    in scikit-learn's function of the same name. None if N is at most twice `neighbours`, where the measure is not
    defined. The time grows with N^2. BadRequest for features that are not finite, ValueError for different numbers of rows.
    """
    whole, shown = as_features(features, "laid out", at_least=1), as_features(coordinates, "map's", at_least=1)
    if len(whole) != len(shown):
        raise ValueError(f"{len(shown)} points for {len(whole)} images")
    number, k = len(whole), neighbours
    if k < 1 or k >= number / 2:
        return None
    penalty = 0.0
    for rows in blocks(number, _ROWS):
        own = np.arange(rows.start, rows.stop)
        ranks = np.empty((len(own), number), np.int64)
        near = _order(whole, rows)
        np.put_along_axis(ranks, near, np.arange(1, number + 1)[None], axis=1)
        on_map = _order(shown, rows)[:, :k]
        penalty += float(np.maximum(np.take_along_axis(ranks, on_map, axis=1) - k, 0).sum())
    return 1.0 - penalty * 2.0 / (number * k * (2.0 * number - 3.0 * k - 1.0))


def _order(points: FeatureArray, rows: slice) -> NDArray[np.int64]:
    """The indices [n,N] of all points sorted by their distance from each of some rows, the row itself last."""
    distances = np.concatenate([block for _, _, block in distance_blocks(points[None, rows], points)], axis=1)
    own = np.arange(rows.start, rows.stop)
    distances[own - rows.start, own] = np.inf
    return np.argsort(distances, axis=1, kind="stable").astype(np.int64)

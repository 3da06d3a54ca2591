"""Trustworthiness: whether neighbours on a map are neighbours in the features too. Venna & Kaski 2001 (ICANN), eq. 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffstudio.evaluation.features.feature_arrays import FeatureArray, as_features, blocks, distance_blocks

NEIGHBOURS = 10
_ROUNDING = 1e-6  # of the largest distance
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
        on_map = np.argsort(_distances(shown, rows), axis=1, kind="stable")[:, :k]
        ranks = np.take_along_axis(_ranks(_distances(whole, rows)), on_map, axis=1)
        penalty += float(np.maximum(ranks - k, 0).sum())
    return 1.0 - penalty * 2.0 / (number * k * (2.0 * number - 3.0 * k - 1.0))


def _distances(points: FeatureArray, rows: slice) -> NDArray[np.float64]:
    """The distances [n,N] of all points from each of some rows; infinite for the row itself."""
    distances = np.concatenate([block for _, _, block in distance_blocks(points[None, rows], points)], axis=1)
    own = np.arange(rows.start, rows.stop)
    distances[own - rows.start, own] = np.inf
    return np.asarray(distances, np.float64)


def _ranks(distances: NDArray[np.float64]) -> NDArray[np.int64]:
    """The rank, from 1, of each distance [n,N] in its row; equal distances, up to rounding, have the rank of the first."""
    order = np.argsort(distances, axis=1, kind="stable")
    ascending = np.take_along_axis(distances, order, axis=1)
    rounding = _ROUNDING * ascending[:, -2:-1]  # the last one is the row itself
    first = np.ones(distances.shape, np.int64)
    first[:, 1:] = np.where(ascending[:, 1:] - ascending[:, :-1] > rounding, np.arange(2, distances.shape[1] + 1), 1)
    ranks = np.empty_like(first)
    np.put_along_axis(ranks, order, np.maximum.accumulate(first, axis=1), axis=1)
    return ranks

"""Features [N,D] checked before they are measured, and distances between their rows in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffstudio.errors import BadRequest

Features = NDArray[np.float64]
ROWS = 2048  # rows of a matrix of distances that are in memory at once


def as_features(values: ArrayLike, what: str, at_least: int = 2) -> Features:
    """The features [N,D] as float64. `what` names them in messages: real, generated, held-out.

    BadRequest: not two-dimensional, fewer than `at_least` rows, values that are not finite.
    """
    features = np.asarray(values, np.float64)
    if features.ndim != 2 or not features.shape[1]:
        raise _not_measurable(what, f"their shape is {list(features.shape)}, not [N,D]")
    if len(features) < at_least:
        raise BadRequest(
            f"There are too few {what} images", f"this measure needs {at_least:,} and there are {len(features):,}"
        )
    if bad := int(np.count_nonzero(~np.isfinite(features).all(axis=1))):
        raise _not_measurable(what, f"{bad:,} of {len(features):,} are not finite")
    return features


def _not_measurable(what: str, why: str) -> BadRequest:
    return BadRequest(f"The {what} features cannot be measured", why)


def same_width(real: Features, fake: Features) -> None:
    """BadRequest where the features have different widths: they come from different networks."""
    if real.shape[1] != fake.shape[1]:
        raise BadRequest(
            "Features of different networks cannot be compared",
            f"they have {real.shape[1]:,} and {fake.shape[1]:,} values for each image",
        )


def blocks(count: int, rows: int = ROWS) -> Iterator[slice]:
    """Slices that cover `count` rows."""
    for start in range(0, count, rows):
        yield slice(start, min(start + rows, count))


def distance_rows(one: Features, other: Features) -> Iterator[tuple[slice, Features]]:
    """Euclidean distances from `one` [N,D] to `other` [M,D], a block [n,M] at a time, with the rows it is of.

    |a|^2 + |b|^2 - 2ab of float64 is exact to about 1e-8 of the largest norm: both are centred first, so that a common
    offset costs no digits.
    """
    centre = other.mean(axis=0)
    one, other = one - centre, other - centre
    norms = np.einsum("nd,nd->n", other, other)
    for rows in blocks(len(one)):
        block = one[rows]
        squared = np.einsum("nd,nd->n", block, block)[:, None] + norms - 2 * block @ other.T
        yield rows, np.sqrt(np.maximum(squared, 0.0))


def nearest(one: Features, other: Features, count: int, same: bool = False) -> tuple[Features, NDArray[np.intp]]:
    """Distances to, and indices of, the `count` rows of `other` nearest to each row of `one`: [N,count], nearest first.

    `same`: they are the same array, and a row is not its own neighbour.
    """
    found = np.empty((len(one), count))
    indices = np.empty((len(one), count), np.intp)
    for rows, distances in distance_rows(one, other):
        if same:
            distances[np.arange(len(distances)), np.arange(rows.start, rows.stop)] = np.inf
        few = np.argpartition(distances, count - 1, axis=1)[:, :count]
        order = np.argsort(np.take_along_axis(distances, few, axis=1), axis=1, kind="stable")
        indices[rows] = np.take_along_axis(few, order, axis=1)
        found[rows] = np.take_along_axis(distances, indices[rows], axis=1)
    return found, indices

"""The nearest rows of a set of features, exactly: candidates by bounds of the distances, decided by distances in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from diffstudio.evaluation.features.feature_arrays import FeatureArray, Features, blocks, distance_blocks
from diffstudio.evaluation.features.pairs import Block, Check, exact_squared, no_check, sweep

_SPARE, _SPARE_SHARE = 2, 1 / 8  # candidates beyond those asked for, and more for each of them
_FEW = 4  # times as many new candidates in a block as are kept: more are reduced first


def nearest(
    images: FeatureArray, other: FeatureArray, count: int, same: bool = False, check: Check = no_check
) -> tuple[Features, NDArray[np.intp]]:
    """Distances to, and indices of, the `count` rows of `other` nearest to each image: [N,count], nearest first.

    `images` are [N,D], or [V,N,D] with V views of each. `same`: they are `other`, and no row is its own neighbour.
    Where fewer rows than `count` are there, the others are infinitely far.
    """
    views = images if images.ndim == 3 else images[None]
    search = NearestSearch(list(views), other, count, same)
    sweep(views, other, [search.add], check)
    return search.found(check)


class NearestSearch:
    """A search for the `count` rows of `other` [M,D] nearest to each image [V][N,D], fed by `sweep`.

    `turned`: the blocks have the images as columns.
    """

    def __init__(
        self, views: Sequence[FeatureArray], other: FeatureArray, count: int, same: bool = False, turned: bool = False
    ) -> None:
        self.views, self.other, self.count, self.same, self.turned = views, other, count, same, turned
        self.scale = 1.0
        kept = min(count + _SPARE + int(count * _SPARE_SHARE), len(other) - same)
        self.bounds: FeatureArray = np.full((len(views[0]), kept), np.inf, np.float32)
        self.indices = np.zeros(self.bounds.shape, np.intp)

    def add(self, block: Block) -> None:
        if block.frame.dtype == np.float64 and self.bounds.dtype != np.float64:
            self.bounds = self.bounds.astype(np.float64)
        self.scale = block.frame.scale
        lower = block.lower
        if self.turned:
            self._merge(block.columns, block.rows, lower.T)
            return
        if self.same and block.diagonal:
            lower = lower.copy()
            np.fill_diagonal(lower, np.inf)
        self._merge(block.rows, block.columns, lower)
        if block.mirrored:
            self._merge(block.columns, block.rows, lower.T)

    def _merge(self, rows: slice, columns: slice, lower: FeatureArray) -> None:
        """Keep the smallest of the bounds so far and of a block."""
        kept = self.bounds.shape[1]
        if not kept:
            return
        best, numbers = self.bounds[rows], self.indices[rows]
        new, places = _below(lower, best.max(axis=1), kept)
        candidates = np.concatenate([best, new], axis=1)
        indices = np.concatenate([numbers, places + columns.start], axis=1)
        order = np.argpartition(candidates, kept - 1, axis=1)[:, :kept]
        self.bounds[rows] = np.take_along_axis(candidates, order, axis=1)
        self.indices[rows] = np.take_along_axis(indices, order, axis=1)

    def found(self, check: Check = no_check) -> tuple[Features, NDArray[np.intp]]:
        """Distances and indices [N,count], nearest first; of equally near rows the first ones come first."""
        images, kept = self.bounds.shape
        few = min(self.count, kept)
        distances = np.full((images, self.count), np.inf)
        indices = np.zeros(distances.shape, np.intp)
        for rows in blocks(images):
            check()
            numbers = np.arange(images)[rows]
            squared = exact_squared(
                self.views, self.other, np.repeat(numbers, kept), self.indices[rows].reshape(-1)
            ).reshape(len(numbers), kept)
            order = np.lexsort((self.indices[rows], squared), axis=1)[:, :few]
            distances[rows, :few] = np.sqrt(np.take_along_axis(squared, order, axis=1))
            indices[rows, :few] = np.take_along_axis(self.indices[rows], order, axis=1)
        if kept < len(self.other) - self.same:  # the others are no nearer than the largest of the bounds
            limit = np.sqrt(np.maximum(self.bounds.max(axis=1), 0).astype(np.float64)) * self.scale
            undecided = np.flatnonzero(distances[:, -1] > limit)
            for part in blocks(len(undecided)):
                check()
                rows_again = undecided[part]
                distances[rows_again], indices[rows_again] = self._in_double(rows_again)
        return distances, indices

    def _in_double(self, rows: NDArray[np.intp]) -> tuple[Features, NDArray[np.intp]]:
        """The nearest rows of a few images by all distances in float64, for images with too many equally near ones."""
        best = np.full((len(rows), self.count), np.inf)
        indices = np.zeros(best.shape, np.intp)
        for some, columns, distances in distance_blocks([view[rows] for view in self.views], self.other):
            if self.same:
                own = rows[some] - columns.start
                inside = np.flatnonzero((own >= 0) & (own < distances.shape[1]))
                distances[inside, own[inside]] = np.inf
            candidates = np.concatenate([best[some], distances], axis=1)
            numbers = np.arange(columns.start, columns.stop)[None].repeat(len(distances), axis=0)
            numbers = np.concatenate([indices[some], numbers], axis=1)
            order = np.argpartition(candidates, self.count - 1, axis=1)[:, : self.count]
            best[some] = np.take_along_axis(candidates, order, axis=1)
            indices[some] = np.take_along_axis(numbers, order, axis=1)
        squared = exact_squared(self.views, self.other, np.repeat(rows, self.count), indices.reshape(-1))
        squared = squared.reshape(best.shape)
        order = np.lexsort((indices, squared), axis=1)
        return np.sqrt(np.take_along_axis(squared, order, axis=1)), np.take_along_axis(indices, order, axis=1)


def _below(values: FeatureArray, limits: FeatureArray, kept: int) -> tuple[FeatureArray, NDArray[np.intp]]:
    """The values [n,m] below the limit [n] of their row, [n,c] filled up with infinity, and their columns.

    Where these are many, the `kept` smallest of each row.
    """
    small = values < limits[:, None]
    counts = np.count_nonzero(small, axis=1)
    most = int(counts.max())
    if most > _FEW * kept:
        few = min(kept, values.shape[1])
        best = np.argpartition(values, few - 1, axis=1)[:, :few]
        return cast(FeatureArray, np.take_along_axis(values, best, axis=1)), best
    rows, columns = np.divmod(np.flatnonzero(small), values.shape[1])
    found = cast(FeatureArray, np.full_like(values, np.inf, shape=(len(values), most)))
    places = np.zeros(found.shape, np.intp)
    slots = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    found[rows, slots] = values[rows, columns]
    places[rows, slots] = columns
    return found, places

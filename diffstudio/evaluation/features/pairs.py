"""All pairs of two sets of features, a block of a matrix at a time, for several measures in one pass.

Products of large sets are computed in float32, which takes half the time. Their rounding errors are bounded, so that what
a bound leaves undecided can be decided in float64: measures by neighbours are those of float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import NDArray

from diffstudio.evaluation.features.feature_arrays import FeatureArray, Features, blocks

PAIRS_IN_DOUBLE = 2048**2  # up to so many, products are computed in float64
_PAIRS_AT_ONCE = 128  # of which exact distances are computed: their features fit into a processor's cache

Check = Callable[[], None]  # called again and again while something is computed; may raise


def no_check() -> None:
    """The `check` of a computation that is not to be interrupted."""


@dataclass(frozen=True)
class Frame:
    """How features are shifted and scaled before they are multiplied: a common offset would cost digits, and float32 has
    a smaller range than float64.
    """

    centre: Features  # [D]
    scale: float
    dtype: type[np.float32] | type[np.float64]

    @classmethod
    def of(cls, views: Sequence[FeatureArray], other: FeatureArray) -> Frame:
        centre: Features = other.mean(axis=0, dtype=np.float64)
        if len(views[0]) * len(other) <= PAIRS_IN_DOUBLE:
            return cls(centre, 1.0, np.float64)
        largest = 0.0
        for features in [*views, other]:
            for rows in blocks(len(features)):
                largest = max(largest, float(np.abs(features[rows] - centre).max()))
        return cls(centre, largest * float(np.sqrt(len(centre))) or 1.0, np.float32)

    @property
    def tolerance(self) -> float:
        """A bound of the rounding error of a squared distance, as a share of the sum of both squared norms.

        Errors of the D terms of a product are independent, and add up to about D^(1/2) times one of them.
        """
        return float(np.finfo(self.dtype).eps) * (8 + 2 * float(np.sqrt(len(self.centre))))

    def placed(self, features: FeatureArray) -> FeatureArray:
        shifted = (features - self.centre) / self.scale
        return cast(FeatureArray, shifted.astype(self.dtype, copy=False))


@dataclass(frozen=True)
class Block:
    """The pairs of some rows of one set with some rows of another, called columns.

    `row_views` [V][n,D] and `column_features` [m,D] are shifted and scaled by `frame`. `mirrored`: the sets are one, and
    this block stands for its transpose as well; `diagonal`: rows and columns are the same.
    """

    frame: Frame
    rows: slice
    columns: slice
    row_views: Sequence[FeatureArray]
    column_features: FeatureArray
    mirrored: bool = False
    diagonal: bool = False

    @cached_property
    def products(self) -> FeatureArray:
        """The products [n,m] of the first view of each row with each column."""
        return self.row_views[0] @ self.column_features.T

    @cached_property
    def lower(self) -> FeatureArray:
        """Lower bounds [n,m] of the squared distances, of the nearest view of each row, in units of the frame's scale."""
        column = self.column_norms * (1 - self.frame.tolerance)
        found: list[FeatureArray] = []
        for number, view in enumerate(self.row_views):
            squared = (self.products if number == 0 else view @ self.column_features.T) * self.frame.dtype(-2)
            squared += _norms(view)[:, None] * (1 - self.frame.tolerance)
            squared += column
            found.append(squared)
        return found[0] if len(found) == 1 else np.minimum.reduce(found)

    @cached_property
    def row_norms(self) -> FeatureArray:
        return _norms(self.row_views[0])

    @cached_property
    def column_norms(self) -> FeatureArray:
        return _norms(self.column_features)


def _norms(features: FeatureArray) -> FeatureArray:
    squares: FeatureArray = np.einsum("nd,nd->n", features, features)
    return squares


def sweep(
    views: FeatureArray | Sequence[FeatureArray],
    other: FeatureArray,
    measures: Sequence[Callable[[Block], None]],
    check: Check = no_check,
) -> None:
    """Give each block of pairs of images [V][N,D], in V views, and of `other` [M,D] to each of the `measures`.

    If both are one array, each pair comes once, in a block on the diagonal or a mirrored one. `check` is called before
    each block.
    """
    frame = Frame.of(list(views), other)
    symmetric = len(views) == 1 and is_same(views[0], other)
    for rows in blocks(len(views[0])):
        placed = [frame.placed(view[rows]) for view in views]
        for columns in blocks(len(other)):
            if symmetric and columns.start < rows.start:
                continue
            check()
            diagonal = symmetric and columns == rows
            to = placed[0] if diagonal else frame.placed(other[columns])
            block = Block(frame, rows, columns, placed, to, symmetric and not diagonal, diagonal)
            for measure in measures:
                measure(block)


def is_same(one: FeatureArray, other: FeatureArray) -> bool:
    """Whether two arrays are the same part of memory, in the same order."""
    return (one.shape, one.strides, one.dtype, one.ctypes.data) == (
        *(other.shape, other.strides, other.dtype),
        other.ctypes.data,
    )


def exact_squared(
    views: FeatureArray | Sequence[FeatureArray], other: FeatureArray, rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> Features:
    """The squared distances [P] of P pairs of rows of [V][N,D] and [M,D] in float64, of the nearest view."""
    found = np.empty(len(rows))
    for part in blocks(len(rows), _PAIRS_AT_ONCE):
        to = other[columns[part]].astype(np.float64)
        squared = []
        for view in views:
            difference = view[rows[part]] - to
            squared.append(np.einsum("pd,pd->p", difference, difference))
        found[part] = np.minimum.reduce(squared)
    return found

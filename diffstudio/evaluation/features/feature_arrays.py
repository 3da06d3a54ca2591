"""Features [N,D] checked before they are measured, and distances between their rows in bounded memory.

Features may be float32, or a memory map of a file: they are converted to float64 a block of rows at a time, so that
50,000 images of 1,280 features take no more memory than a few blocks.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffstudio.errors import BadRequest

Features = NDArray[np.float64]
FeatureArray = NDArray[np.float32] | NDArray[np.float64]
ROWS = 2048  # rows and columns of a matrix of distances that are in memory at once
LARGEST = 1e15  # magnitude of a value; the sixth powers of the kernel distance would overflow not far above it
_REAL_NUMBERS = "biuf"  # kinds of NumPy's types
_SAME = 1e-6  # of the largest value; features that differ by less are equal up to rounding


def as_features(values: ArrayLike, what: str, at_least: int = 2) -> FeatureArray:
    """The features [N,D], without a copy where they are float32 or float64. `what` names them in messages.

    BadRequest: not two-dimensional, fewer than `at_least` rows, values that are not real numbers, not finite, or above
    LARGEST.
    """
    features = _as_numbers(values, what)
    if features.ndim != 2 or not features.shape[1]:
        raise not_measurable(what, f"their shape is {list(features.shape)}, not [N,D]")
    if len(features) < at_least:
        raise BadRequest(
            f"There are too few {what} images", f"this measure needs {at_least:,} and there are {len(features):,}"
        )
    finite = sum(int(np.count_nonzero(np.isfinite(features[rows]).all(axis=1))) for rows in blocks(len(features)))
    if bad := len(features) - finite:
        raise not_measurable(what, f"{bad:,} of {len(features):,} are not finite")
    largest = max((float(np.abs(features[rows]).max()) for rows in blocks(len(features))), default=0.0)
    if largest > LARGEST:
        raise not_measurable(what, f"a value is {largest:.3g}, and sums of products of more than {LARGEST:g} overflow")
    return features


def all_same(features: FeatureArray) -> bool:
    """Whether all rows are equal, up to rounding."""
    same = _SAME * float(np.abs(features[0]).max())
    return all(float(np.abs(features[rows] - features[0]).max()) <= same for rows in blocks(len(features)))


def _as_numbers(values: ArrayLike, what: str) -> FeatureArray:
    try:
        array = np.asarray(values)
    except ValueError as error:  # rows of different lengths
        raise not_measurable(what, "their rows have different lengths") from error
    if array.dtype.kind not in _REAL_NUMBERS:
        raise not_measurable(what, f"their values are not real numbers ({array.dtype})")
    return cast(FeatureArray, array if array.dtype in (np.float32, np.float64) else array.astype(np.float64))


def as_varied(values: ArrayLike, what: str, at_least: int = 2) -> FeatureArray:
    """As `as_features`, for images that others are compared with. BadRequest also if all of them have the same features.

    Distances between such images are 0, so that neighbourhoods, duplicates and ratios of distances are not defined.
    """
    features = as_features(values, what, at_least)
    if all_same(features):
        raise not_measurable(what, f"all {len(features):,} images have the same ones", "Compare with different images")
    return features


def as_views(values: ArrayLike, what: str) -> FeatureArray:
    """The features [V,N,D] of V views of each image, or [N,D] of one; not copied, and checked, as by `as_features`."""
    array = np.asarray(values)
    if array.ndim != 3:
        return as_features(array, what, at_least=1)[None]
    checked = [as_features(view, what, at_least=1) for view in array]
    return cast(FeatureArray, array if array.dtype == checked[0].dtype else np.stack(checked))


def not_measurable(what: str, why: str, remedy: str = "") -> BadRequest:
    return BadRequest(f"The {what} features cannot be measured", why, remedy)


def same_width(real: FeatureArray, generated: FeatureArray) -> None:
    """BadRequest where the features have different widths: they come from different networks."""
    if real.shape[-1] != generated.shape[-1]:
        raise different_networks(f"they have {real.shape[-1]:,} and {generated.shape[-1]:,} values for each image")


def check_labels(features: FeatureArray, labels: Sequence[Hashable]) -> None:
    """BadRequest unless there is a label for each row."""
    if len(labels) != len(features):
        raise BadRequest(
            "The images cannot be compared with their labels", "the number of labels differs from the number of images"
        )


def different_networks(why: str) -> BadRequest:
    return BadRequest("Features of different networks cannot be compared", why, "Extract all of them with one network")


def blocks(count: int, rows: int = ROWS) -> Iterator[slice]:
    """Slices that cover `count` rows."""
    for start in range(0, count, rows):
        yield slice(start, min(start + rows, count))


def distance_blocks(
    views: FeatureArray | Sequence[FeatureArray], other: FeatureArray
) -> Iterator[tuple[slice, slice, Features]]:
    """Euclidean distances from images [N,D] to `other` [M,D], a block [n,m] at a time, with the rows and columns it is of.

    With several views of each image, [V][N,D], the distance is that of the nearest view.

    |a|^2 + |b|^2 - 2ab of float64 is exact to about 1e-8 of the largest norm: both are centred first, so that a common
    offset costs no digits.
    """
    centre = other.mean(axis=0, dtype=np.float64)
    for rows in blocks(len(views[0])):
        shown = [view[rows].astype(np.float64) - centre for view in views]
        norms = [np.einsum("nd,nd->n", view, view)[:, None] for view in shown]
        for columns in blocks(len(other)):
            to = other[columns].astype(np.float64) - centre
            to_norms = np.einsum("nd,nd->n", to, to)
            squared = [norm + to_norms - 2 * view @ to.T for view, norm in zip(shown, norms, strict=True)]
            yield rows, columns, np.sqrt(np.maximum(np.minimum.reduce(squared), 0.0))

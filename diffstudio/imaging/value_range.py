"""Images of more than 8 bits a channel: which of their values become black and white.

The rule for a single file: 16-bit values count from 0 to 65,535, or as many bits as the file declares; other whole
numbers from 0 to 255 or 65,535, the first that holds them all; floats from 0 to 1, -1 to 1 or 0 to 255. What fits none
of these is stretched from its lowest to its highest value. Floats may exceed 0 to 1 and -1 to 1 by 5%, which is cut.

The rule for a folder: the same, over the values of all its files, so that equal values give equal pixels; and because
many files show what one cannot, whole numbers count from 0 to the largest of 8, 10, 12, 14 or 16 bits: 12-bit data in
16-bit files is common in microscopy and radiography.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Range = tuple[float, float]  # the value that becomes black, and the value that becomes white
Values = NDArray[Any]  # [H,W] grey or [H,W,3] RGB, whole numbers or floats

_OVERSHOOT = 0.05  # of 1, which resampling filters and colour conversions add to floats
_BITS = (8, 10, 12, 14, 16)
_MOST_FOR_PERCENTILES = 100_000
_BLOCK_VALUES = 1 << 22  # converted at a time


class SampleType(StrEnum):
    """Kinds of values that share a range within a folder."""

    UINT16 = "uint16"
    INTEGER = "integer"  # of 32 bits, or with a sign
    FLOAT = "floating"

    @property
    def description(self) -> str:
        return {"uint16": "16-bit values", "integer": "whole numbers", "floating": "floating-point values"}[self]


@dataclass(frozen=True, slots=True)
class Depth:
    """What was found in one file of more than 8 bits a channel."""

    sample_type: SampleType
    low: float  # finite values only
    high: float
    declared: Range | None = None  # by the file itself
    not_numbers: int = 0  # NaN and infinite values, which become black
    inner: Range = (0.0, 0.0)  # the 0.1 and 99.9 percentiles, measured of arrays only


def sample_type_of(values: Values) -> SampleType:
    if values.dtype.kind == "f":
        return SampleType.FLOAT
    return SampleType.UINT16 if values.dtype == np.uint16 else SampleType.INTEGER


def measure(values: Values, declared: Range | None = None) -> Depth:
    """The lowest and highest finite value of an image; 0 and 0 if no value is finite."""
    low, high, not_numbers = np.inf, -np.inf, 0
    for block in _blocks(values):
        finite = block
        if block.dtype.kind == "f":
            finite = block[np.isfinite(block)]
            not_numbers += block.size - finite.size
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return Depth(sample_type_of(values), *((low, high) if low <= high else (0.0, 0.0)), declared, not_numbers)


def measure_channel(values: Values) -> Depth:
    """As `measure`, with the percentiles of at most some 100,000 values, evenly spread."""
    found = measure(values)
    some = values.reshape(-1)[:: max(1, values.size // _MOST_FOR_PERCENTILES)]
    some = some[np.isfinite(some)]
    if not some.size:
        return found
    low, high = np.percentile(some.astype(np.float64), (0.1, 99.9))
    return replace(found, inner=(float(low), float(high)))


def range_of_file(depth: Depth) -> Range:
    """The range of a file by itself."""
    if depth.declared is not None:
        return depth.declared
    if depth.sample_type is SampleType.FLOAT:
        return _float_range(depth.low, depth.high)
    return (0.0, 65535.0) if depth.sample_type is SampleType.UINT16 else _narrowest(depth.low, depth.high, (8, 16))


def ranges_of_folder(depths: Iterable[Depth]) -> dict[SampleType, Range]:
    """One range for each type of values that occurs in a folder."""
    by_type: dict[SampleType, list[Depth]] = {}
    for depth in depths:
        by_type.setdefault(depth.sample_type, []).append(depth)
    return {sample_type: _common(sample_type, found) for sample_type, found in sorted(by_type.items())}


def chosen_range(depth: Depth, ranges: Mapping[SampleType, Range]) -> Range:
    """The folder's range for a file of this type, else the file's own."""
    return ranges.get(depth.sample_type) or range_of_file(depth)


def range_among(
    sample_type: SampleType, values: Range, own: Range, ranges: Mapping[SampleType, Range], limits: Range | None = None
) -> Range:
    """The range for an image that may not be in the units of the images that have `ranges`.

    `values` are its lowest and highest one, and `own` its range by itself. The known range of its type counts, if it holds
    the values up to 5%, or one of both ranges is no usual one; else its own. A type without a known range is read by its
    own range if that is a usual one, else by `limits`, those of other types, if these hold the values.
    """
    known = ranges.get(sample_type)
    if known is None:
        return limits if limits is not None and not _is_usual(own) and _holds(limits, values) else own
    return own if not _holds(known, values) and _is_usual(own) and _is_usual(known) else known


def _holds(used: Range, values: Range) -> bool:
    margin = _OVERSHOOT * (used[1] - used[0])
    return used[0] - margin <= values[0] and values[1] <= used[1] + margin


def _is_usual(used: Range) -> bool:
    """Whether it follows from how files store values, rather than from the values of some images."""
    return used in ((0, 1), (-1, 1)) or used in [(0, 2**count - 1) for count in _BITS]


def to_bits(values: Values, used: Range, largest: int) -> NDArray[np.uint16]:
    """Values scaled so that `used` becomes 0 .. `largest`, rounded and cut; NaN and infinities become 0."""
    low, high = used
    factor = largest / (high - low) if high > low else 0.0
    out = np.empty(values.shape, dtype=np.uint16)
    for block, target in zip(_blocks(values), _blocks(out), strict=True):
        scaled = np.nan_to_num((block.astype(np.float64) - low) * factor, nan=0.0, posinf=0.0, neginf=0.0)
        target[...] = np.clip(np.rint(scaled), 0, largest)
    return out


def _common(sample_type: SampleType, depths: Sequence[Depth]) -> Range:
    declared = [depth.declared for depth in depths if depth.declared is not None]
    if len(declared) == len(depths):
        return min(low for low, _ in declared), max(high for _, high in declared)
    low, high = min(depth.low for depth in depths), max(depth.high for depth in depths)
    return _float_range(low, high) if sample_type is SampleType.FLOAT else _narrowest(low, high, _BITS)


def _narrowest(low: float, high: float, bits: Sequence[int]) -> Range:
    if low < 0:
        return low, high
    return 0.0, next((float(2**count - 1) for count in bits if high <= 2**count - 1), high)


def _float_range(low: float, high: float) -> Range:
    if high <= 1 + _OVERSHOOT and low >= -1 - _OVERSHOOT:
        return (0.0, 1.0) if low >= -_OVERSHOOT else (-1.0, 1.0)
    return (0.0, 255.0) if low >= 0 and high <= 255 else (low, high)


def _blocks(values: Values) -> list[Values]:
    """Slices of whole rows, so that no intermediate array grows with the image."""
    rows = max(1, _BLOCK_VALUES // max(1, values[:1].size))
    return [values[start : start + rows] for start in range(0, len(values), rows)]

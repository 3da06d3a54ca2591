"""The deletion test: whether masking a word changes an image most where the word's attention map is high. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

REGION_SHARE = 0.25  # share of the grid cells that form a word's region, where its map is highest
CLEAR = 0.95  # share of the moved regions that must have a smaller ratio


@dataclass(frozen=True, slots=True)
class DeletionTest:
    """The change of the image when one word is masked, inside and outside its region."""

    inside: float  # mean change in the word's region, in 8-bit levels
    outside: float  # mean change in the rest of the image
    random: float  # mean ratio of the same region moved to all other places
    beaten: float  # share of these with a smaller ratio
    others: float | None  # mean ratio in the regions of the other words; None if there are none

    @property
    def ratio(self) -> float:
        """The change inside the region divided by the change outside; 1 if nothing changes."""
        return _ratio(self.inside, self.outside)

    @property
    def holds(self) -> bool:
        """Whether the ratio is above 1 and above the mean ratio of the moved regions."""
        return self.ratio > max(1.0, self.random)

    @property
    def is_clear(self) -> bool:
        """Whether it holds, with a larger ratio than nearly all moved regions."""
        return self.holds and self.beaten >= CLEAR


def region(word_map: NDArray[np.floating], share: float = REGION_SHARE) -> NDArray[np.bool_]:
    """A mask [h,w] of the cells in which a map [h,w] is highest: `share` of all cells, at least one."""
    count = max(1, round(share * word_map.size))
    chosen = np.zeros(word_map.size, np.bool_)
    chosen[np.argsort(-word_map.ravel(), kind="stable")[:count]] = True
    return chosen.reshape(word_map.shape)


def on_grid(values: NDArray[np.floating], grid: tuple[int, int]) -> NDArray[np.float64]:
    """The mean [h,w] of the pixels [H,W] in each cell; cell sizes differ by a pixel if the grid does not divide evenly."""
    height, width = values.shape
    rows = np.linspace(0, height, grid[0] + 1).round().astype(int)
    columns = np.linspace(0, width, grid[1] + 1).round().astype(int)
    sums = np.add.reduceat(np.add.reduceat(values.astype(np.float64), rows[:-1], axis=0), columns[:-1], axis=1)
    return np.asarray(sums / np.outer(np.diff(rows), np.diff(columns)), np.float64)


def deletion_test(
    change: NDArray[np.floating], word_map: NDArray[np.floating], others: Sequence[NDArray[np.floating]] = ()
) -> DeletionTest:
    """Compare the change [H,W] caused by masking a word with the word's map [h,w] and those of other words.

    The baseline is exact, without random numbers: the region moved to every other place of the grid, with wrap-around.
    ValueError for a map with more cells than the image has pixels along a side.
    """
    if word_map.shape[0] > change.shape[0] or word_map.shape[1] > change.shape[1]:
        raise ValueError(f"a map of {word_map.shape} cells for an image of {change.shape} px")
    cells = on_grid(change, (word_map.shape[0], word_map.shape[1]))
    chosen = region(word_map)
    inside, outside = _means(cells, chosen)
    moved = _moved_ratios(cells, chosen)
    own = _ratio(inside, outside)
    return DeletionTest(
        inside,
        outside,
        _mean_of_finite(moved),
        float((moved < own).mean()) if len(moved) else 0.0,
        _mean_of_finite(np.array([_ratio(*_means(cells, region(other))) for other in others])) if others else None,
    )


def _means(cells: NDArray[np.float64], chosen: NDArray[np.bool_]) -> tuple[float, float]:
    return float(cells[chosen].mean()), float(cells[~chosen].mean()) if not chosen.all() else float(cells.mean())


def _ratio(inside: float, outside: float) -> float:
    if outside > 0:
        return inside / outside
    return 1.0 if inside == 0 else float("inf")


def _mean_of_finite(ratios: NDArray[np.float64]) -> float:
    """The mean ratio without infinite ones (no change outside the region); 1 if none is left."""
    finite = ratios[np.isfinite(ratios)]
    return float(finite.mean()) if len(finite) else 1.0


def _moved_ratios(cells: NDArray[np.float64], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The ratios of the region at all other places of the grid, by FFT correlation."""
    count, total = int(chosen.sum()), float(cells.sum())
    sums = np.fft.ifft2(np.fft.fft2(cells) * np.conj(np.fft.fft2(chosen.astype(np.float64)))).real.ravel()[1:]
    inside = np.clip(sums, 0, None) / count
    outside = np.clip(total - sums, 0, None) / max(1, cells.size - count)
    tiny = 1e-12 * max(total, 1e-300)
    return np.where(outside > tiny, inside / np.maximum(outside, tiny), np.where(inside > tiny, np.inf, 1.0))

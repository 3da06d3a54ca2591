"""Tiles: a picture too large to be worked on whole, worked on in windows that overlap, so that no seam shows.

The windows' answers are averaged with weights that fall towards each window's edge: MultiDiffusion (Bar-Tal et al. 2023, arXiv
2302.08113, eq. 5) where what is averaged are the estimates of a denoiser, a plain cross-fade where it is finished pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Tile:
    """A window of a picture, in px of that picture."""

    top: int
    left: int
    height: int
    width: int

    def of(self, picture: Tensor, scale: int = 1) -> Tensor:
        """That window of [B,C,H,W], as a view; of a picture `scale` times as large if it is not 1."""
        return picture[..., scale * self.top:scale * (self.top + self.height), scale * self.left:scale * (self.left + self.width)]


def starts(length: int, window: int, overlap: int) -> list[int]:
    """Where windows begin so that they cover `length`, are spread evenly, and overlap by at least `overlap`."""
    if window >= length:
        return [0]
    if not 0 <= overlap < window:
        raise ValueError(f"windows of {window} cannot overlap by {overlap}")
    last = -(-(length - window) // (window - overlap))
    return [round(index * (length - window) / last) for index in range(last + 1)]


def tiles(height: int, width: int, window: int, overlap: int) -> list[Tile]:
    """The windows of a picture of height × width, row by row; none is larger than the picture."""
    return [Tile(top, left, min(window, height), min(window, width))
            for top in starts(height, window, overlap) for left in starts(width, window, overlap)]


def feather(height: int, width: int, overlap: int) -> Tensor:
    """How much each px of a window counts [height,width]: 1 inside, falling in a line over `overlap` px, never 0."""
    def ramp(length: int) -> Tensor:
        inward = torch.arange(length, dtype=torch.float32) + 0.5
        return (torch.minimum(inward, length - inward) / max(1, overlap)).clamp(max=1.0)

    return ramp(height)[:, None] * ramp(width)


def over_tiles(function: Callable[[Tensor], Tensor], picture: Tensor, window: int, overlap: int, *, scale: int = 1,
               progress: Callable[[int, int], None] | None = None) -> Tensor:
    """`function`, which makes [B,C,h,w] into [B,C',scale h,scale w], applied to [B,C,H,W] a window at a time.

    A picture that fits into one window is handed over whole. `progress` hears how many of how many windows are done, and may
    raise to stop. The sum is kept where the picture is, in float32.
    """
    wanted = tiles(picture.shape[-2], picture.shape[-1], window, overlap)
    if len(wanted) == 1:
        return function(picture)
    total: Tensor | None = None
    weight_total = torch.zeros(scale * picture.shape[-2], scale * picture.shape[-1], device=picture.device)
    for done, (tile, made) in enumerate(_each(function, picture, wanted), 1):
        weight = feather(scale * tile.height, scale * tile.width, scale * overlap).to(picture.device)
        if total is None:
            total = picture.new_zeros((*made.shape[:-2], *weight_total.shape), dtype=torch.float32)
        tile.of(total, scale).add_(made.to(total) * weight)
        tile.of(weight_total, scale).add_(weight)
        if progress is not None:
            progress(done, len(wanted))
    assert total is not None
    return total / weight_total


def _each(function: Callable[[Tensor], Tensor], picture: Tensor, wanted: list[Tile]) -> Iterator[tuple[Tile, Tensor]]:
    for tile in wanted:
        yield tile, function(tile.of(picture))

"""Tiles: a picture too large to be worked on whole, worked on in windows that overlap, so that no seam shows.

The windows' answers are averaged with weights that fall towards each window's edge: MultiDiffusion (Bar-Tal et al. 2023, arXiv
2302.08113, eq. 5) where what is averaged are the estimates of a denoiser, a plain cross-fade where it is finished pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
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
        return picture[
            ...,
            scale * self.top : scale * (self.top + self.height),
            scale * self.left : scale * (self.left + self.width),
        ]


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
    return [
        Tile(top, left, min(window, height), min(window, width))
        for top in starts(height, window, overlap)
        for left in starts(width, window, overlap)
    ]


def feather(height: int, width: int, overlap: int) -> Tensor:
    """How much each px of a window counts [height,width]: 1 inside, falling in a line over `overlap` px, never 0."""
    return ramp(height, overlap)[:, None] * ramp(width, overlap)


def ramp(length: int, overlap: int) -> Tensor:
    """One side of `feather` [length]."""
    inward = torch.arange(length, dtype=torch.float32) + 0.5
    return (torch.minimum(inward, length - inward) / max(1, overlap)).clamp(max=1.0)


def each_tile(
    function: Callable[[Tensor, Tile], Tensor], picture: Tensor, window: int, overlap: int, *, scale: int = 1
) -> Generator[tuple[int, int], None, Tensor]:
    """`function`, which makes [B,C,h,w] into [B,C',scale h,scale w], applied to [B,C,H,W] a window at a time.

    It is told which window that is. A picture that fits into one window is handed over whole. Yields how many of how many
    windows are done, and returns the whole. The sum is kept where the picture is, in float32 at the least.
    """
    height, width = picture.shape[-2:]
    wanted = tiles(height, width, window, overlap)
    if len(wanted) == 1:
        made = function(picture, wanted[0])
        yield 1, 1
        return made
    total: Tensor | None = None
    weights = (
        torch.zeros(scale * height, 1, device=picture.device),
        torch.zeros(1, scale * width, device=picture.device),
    )
    for done, tile in enumerate(wanted, 1):
        made = function(tile.of(picture), tile)
        weight = feather(scale * tile.height, scale * tile.width, scale * overlap).to(picture.device)
        if total is None:
            total = picture.new_zeros(
                (*made.shape[:-2], scale * height, scale * width), dtype=torch.promote_types(made.dtype, torch.float32)
            )
        tile.of(total, scale).add_(made.to(total) * weight)
        down, across = ramp(scale * tile.height, scale * overlap), ramp(scale * tile.width, scale * overlap)
        if tile.left == 0:  # windows stand in rows and columns, so their weights do too: a sum for each is enough
            weights[0][scale * tile.top : scale * (tile.top + tile.height), 0].add_(down.to(picture.device))
        if tile.top == 0:
            weights[1][0, scale * tile.left : scale * (tile.left + tile.width)].add_(across.to(picture.device))
        yield done, len(wanted)
    assert total is not None
    return total.div_(weights[0]).div_(weights[1])


def over_tiles(
    function: Callable[[Tensor], Tensor],
    picture: Tensor,
    window: int,
    overlap: int,
    *,
    scale: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """As `each_tile`, all at once. `progress` hears how many of how many windows are done, and may raise to stop."""
    return finish(each_tile(lambda part, _: function(part), picture, window, overlap, scale=scale), progress)


def finish(
    steps: Generator[tuple[int, int], None, Tensor], progress: Callable[[int, int], None] | None = None
) -> Tensor:
    """Take every step, and give what they return."""
    while True:
        try:
            done, count = next(steps)
        except StopIteration as end:
            made: Tensor = end.value
            return made
        if progress is not None and count > 1:
            progress(done, count)

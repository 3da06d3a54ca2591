"""Process a large image in overlapping tiles, without visible seams.

The tiles' results are averaged with weights that fall towards each tile's edge: MultiDiffusion (Bar-Tal et al. 2023,
arXiv 2302.08113, eq. 5) for the estimates of a denoiser, a cross-fade for finished pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of an image, in px of that image."""

    top: int
    left: int
    height: int
    width: int

    def of(self, image: Tensor, scale: int = 1) -> Tensor:
        """This tile of an image [B,C,H,W] as a view; `scale` is that of the image relative to the tile's coordinates."""
        return image[
            ...,
            scale * self.top : scale * (self.top + self.height),
            scale * self.left : scale * (self.left + self.width),
        ]


def starts(length: int, tile_size: int, overlap: int) -> list[int]:
    """The offsets of evenly spaced tiles that cover `length` and overlap by at least `overlap`."""
    if tile_size >= length:
        return [0]
    if not 0 <= overlap < tile_size:
        raise ValueError(f"tiles of {tile_size} cannot overlap by {overlap}")
    last = -(-(length - tile_size) // (tile_size - overlap))
    return [round(index * (length - tile_size) / last) for index in range(last + 1)]


def tiles(height: int, width: int, tile_size: int, overlap: int) -> list[Tile]:
    """The tiles of an image of height × width, row by row; none is larger than the image."""
    return [
        Tile(top, left, min(tile_size, height), min(tile_size, width))
        for top in starts(height, tile_size, overlap)
        for left in starts(width, tile_size, overlap)
    ]


def feather(height: int, width: int, overlap: int) -> Tensor:
    """Blending weights of a tile [height,width]: 1 inside, falling linearly over `overlap` px at the edges, never 0."""
    return ramp(height, overlap)[:, None] * ramp(width, overlap)


def ramp(length: int, overlap: int) -> Tensor:
    """The weights of `feather` along one side [length]."""
    inward = torch.arange(length, dtype=torch.float32) + 0.5
    return (torch.minimum(inward, length - inward) / max(1, overlap)).clamp(max=1.0)


def each_tile(
    function: Callable[[Tensor, Tile], Tensor], image: Tensor, tile_size: int, overlap: int, *, scale: int = 1
) -> Generator[tuple[int, int], None, Tensor]:
    """Apply `function`, which makes [B,C,h,w] into [B,C',scale h,scale w], to [B,C,H,W] one tile at a time.

    `function` is given the tile too. An image that fits into one tile is passed whole. Yields (tiles done, tiles) and
    returns the whole result. The sum is kept on the image's device, in float32 or higher precision.
    """
    height, width = image.shape[-2:]
    all_tiles = tiles(height, width, tile_size, overlap)
    if len(all_tiles) == 1:
        result = function(image, all_tiles[0])
        yield 1, 1
        return result
    total: Tensor | None = None
    weights = (torch.zeros(scale * height, 1, device=image.device), torch.zeros(1, scale * width, device=image.device))
    for done, tile in enumerate(all_tiles, 1):
        result = function(tile.of(image), tile)
        weight = feather(scale * tile.height, scale * tile.width, scale * overlap).to(image.device)
        if total is None:
            total = image.new_zeros(
                (*result.shape[:-2], scale * height, scale * width),
                dtype=torch.promote_types(result.dtype, torch.float32),
            )
        tile.of(total, scale).add_(result.to(total) * weight)
        down, across = ramp(scale * tile.height, scale * overlap), ramp(scale * tile.width, scale * overlap)
        if tile.left == 0:  # the weights are separable: one sum for rows and one for columns
            weights[0][scale * tile.top : scale * (tile.top + tile.height), 0].add_(down.to(image.device))
        if tile.top == 0:
            weights[1][0, scale * tile.left : scale * (tile.left + tile.width)].add_(across.to(image.device))
        yield done, len(all_tiles)
    assert total is not None
    return total.div_(weights[0]).div_(weights[1])


def over_tiles(
    function: Callable[[Tensor], Tensor],
    image: Tensor,
    tile_size: int,
    overlap: int,
    *,
    scale: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """As `each_tile`, without the generator. `progress(tiles done, tiles)` may raise to stop."""
    return finish(each_tile(lambda part, _: function(part), image, tile_size, overlap, scale=scale), progress)


def finish(
    steps: Generator[tuple[int, int], None, Tensor], progress: Callable[[int, int], None] | None = None
) -> Tensor:
    """Run the generator to its end and return its result."""
    while True:
        try:
            done, count = next(steps)
        except StopIteration as end:
            result: Tensor = end.value
            return result
        if progress is not None and count > 1:
            progress(done, count)

"""MultiDiffusion: sample images much larger than the training size, from the estimates of overlapping tiles.

Bar-Tal et al. 2023, arXiv 2302.08113: the estimate with the smallest weighted squared difference to those of all tiles
is their weighted mean (eq. 5). The sampler sees one large state, so no seams arise, and the network needs the memory
of one tile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.diffusion.schedule import NoiseSchedule
from diffstudio.models.conditioning.image_inputs import ImageInputs
from diffstudio.models.memory.limits import needs_tiling
from diffstudio.models.model import Model, multiples_of, unsupported_size
from diffstudio.models.tiling import Tile, each_tile, finish, tiles


@dataclass(frozen=True, slots=True)
class Tiling:
    """Overlapping square tiles of an image, of the model's training size."""

    tile_size: int  # px of the image
    overlap: int

    def tile_size_of(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of one tile of an image of this size."""
        return min(width, self.tile_size), min(height, self.tile_size)

    def count(self, width: int, height: int) -> int:
        """The number of tiles of an image of this size."""
        return len(tiles(height, width, self.tile_size, self.overlap))


def tiling_for(model: Model, width: int, height: int, *, always: bool = False) -> Tiling | None:
    """The tiling of an image of width × height px; None if it needs none, unless `always`."""
    trained_side = max(model.network_size)
    tile_size = max(model.multiple, trained_side // model.multiple * model.multiple)
    if always or needs_tiling(width, height, trained_side):
        return Tiling(tile_size, tile_size // 4 // model.multiple * model.multiple or tile_size // 2)
    return None


class TiledDenoiser:
    """The mean of the estimates of `denoiser_of(tile)` for each tile of the state, weighted towards the tiles' centres.

    `tile_size` and `overlap` are px of the state. `before_tile` is called before each tile, and may raise to stop.
    """

    def __init__(
        self,
        denoiser_of: Callable[[Tile], Denoiser],
        schedule: NoiseSchedule,
        tile_size: int,
        overlap: int,
        before_tile: Callable[[], None] = lambda: None,
    ) -> None:
        self.schedule = schedule
        self._denoiser_of, self._tile_size, self._overlap = denoiser_of, tile_size, overlap
        self._before_tile = before_tile
        self._denoisers: dict[Tile, Denoiser] = {}

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        def estimate(part: Tensor, tile: Tile) -> Tensor:
            self._before_tile()
            if tile not in self._denoisers:
                self._denoisers[tile] = self._denoiser_of(tile)
            return self._denoisers[tile](part.contiguous(), t)

        return finish(each_tile(estimate, x_t, self._tile_size, self._overlap)).to(x_t)


def tiled_denoiser(
    model: Model,
    make_denoiser: Callable[[ImageInputs], Denoiser],
    images: ImageInputs,
    scale_factor: int,
    tiling: Tiling,
    before_tile: Callable[[], None] = lambda: None,
) -> TiledDenoiser:
    """A denoiser for each tile, given the images cropped to it. `scale_factor` is image px per state px."""
    has_images = images.image is not None or images.mask is not None or bool(images.controls)
    shared = None if has_images else make_denoiser(images)

    def denoiser_of(tile: Tile) -> Denoiser:
        return shared if shared is not None else make_denoiser(cropped(images, tile, scale_factor))

    return TiledDenoiser(
        denoiser_of, model.schedule, tiling.tile_size // scale_factor, tiling.overlap // scale_factor, before_tile
    )


def cropped(images: ImageInputs, tile: Tile, scale_factor: int) -> ImageInputs:
    """The images cropped to a tile of the state, which is `scale_factor` times smaller."""

    def crop(image: Tensor | None) -> Tensor | None:
        return None if image is None else tile.of(image, scale_factor)

    controls = tuple(replace(control, image=tile.of(control.image, scale_factor)) for control in images.controls)
    return replace(images, image=crop(images.image), mask=crop(images.mask), controls=controls)


def check_size(model: Model, width: int, height: int, tiling: Tiling | None) -> None:
    """Check that the model can generate this size, whole or in tiles. BadRequest."""
    if tiling is None:
        model.check_size(width, height)
        return
    model.check_size(*tiling.tile_size_of(width, height))
    if width % model.multiple or height % model.multiple:
        near = " × ".join(str(round(side / model.multiple) * model.multiple) for side in (width, height))
        raise unsupported_size(width, height, multiples_of(model.multiple), near)

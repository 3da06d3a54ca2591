"""Sampling pictures far larger than a model makes well: each estimate is put together from windows that overlap.

MultiDiffusion (Bar-Tal et al. 2023, arXiv 2302.08113): of all estimates that agree best with what the network says of each
window by itself, the one that minimises the weighted squared difference is their weighted mean (eq. 5). The sampler walks
one large state and never hears of it, so there are no seams to begin with, and memory is that of one window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.diffusion.schedule import NoiseSchedule
from diffstudio.errors import BadRequest
from diffstudio.models.model import ImageInputs, Model
from diffstudio.models.tiling import Tile, each_tile, finish, tiles

_TIMES_TRAINED = 2  # up to so many times the trained side a model makes a given picture well as a whole


@dataclass(frozen=True, slots=True)
class Windows:
    """Squares of a picture, in px of it, each of which the model makes well."""

    side: int
    overlap: int

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of one window of such a picture."""
        return min(width, self.side), min(height, self.side)

    def count(self, width: int, height: int) -> int:
        """How many windows such a picture has."""
        return len(tiles(height, width, self.side, self.overlap))


def windows_for(model: Model, width: int, height: int, *, asked: bool = False) -> Windows | None:
    """The windows for a picture of width × height px; None where it is made whole, which is so unless it is large or `asked` for."""
    largest = max(model.default_size)
    side = max(model.multiple, largest // model.multiple * model.multiple)
    if asked or max(width, height) > _TIMES_TRAINED * largest:
        return Windows(side, side // 4 // model.multiple * model.multiple or side // 2)
    return None


class TiledDenoiser:
    """The mean of what `denoiser_of(tile)` says of each window of the state, weighted towards their middles.

    `window` and `overlap` are px of the state. `between` is called before each window, and may raise to stop.
    """

    def __init__(
        self,
        denoiser_of: Callable[[Tile], Denoiser],
        schedule: NoiseSchedule,
        window: int,
        overlap: int,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        self.schedule = schedule
        self._denoiser_of, self._window, self._overlap, self._between = denoiser_of, window, overlap, between
        self._known: dict[Tile, Denoiser] = {}

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        def estimate(part: Tensor, tile: Tile) -> Tensor:
            self._between()
            if tile not in self._known:
                self._known[tile] = self._denoiser_of(tile)
            return self._known[tile](part.contiguous(), t)

        return finish(each_tile(estimate, x_t, self._window, self._overlap)).to(x_t)


def tiled(
    model: Model,
    whole: Callable[[ImageInputs], Denoiser],
    hints: ImageInputs,
    shrinks: int,
    windows: Windows,
    between: Callable[[], None] = lambda: None,
) -> TiledDenoiser:
    """`whole` makes a denoiser of hints; each window has one, shown its own part. `shrinks`: px of a picture to one of a state."""
    shown = hints.image is not None or hints.mask is not None or bool(hints.controls)
    alike = None if shown else whole(hints)

    def denoiser_of(tile: Tile) -> Denoiser:
        return alike if alike is not None else whole(cropped(hints, tile, shrinks))

    return TiledDenoiser(denoiser_of, model.schedule, windows.side // shrinks, windows.overlap // shrinks, between)


def cropped(hints: ImageInputs, tile: Tile, shrinks: int) -> ImageInputs:
    """What lies in a window of the state, of pictures `shrinks` times as large."""

    def part(picture: Tensor | None) -> Tensor | None:
        return None if picture is None else tile.of(picture, shrinks)

    controls = tuple(replace(control, image=tile.of(control.image, shrinks)) for control in hints.controls)
    return replace(hints, image=part(hints.image), mask=part(hints.mask), controls=controls)


def check_size(model: Model, width: int, height: int, windows: Windows | None) -> None:
    """BadRequest when the model cannot make such a picture, whole or in these windows."""
    if windows is None:
        model.check_size(width, height)
        return
    model.check_size(*windows.size(width, height))
    if width % model.multiple or height % model.multiple:
        near = " × ".join(str(round(side / model.multiple) * model.multiple) for side in (width, height))
        raise BadRequest(
            f"This checkpoint cannot make pictures of {width} × {height}",
            f"its sides are multiples of {model.multiple} px",
            f"Try {near}",
        )

"""What is done when a job does not fit into memory, one thing after the other, each in a sentence for the person.

First the other models in memory go, then the batch becomes smaller, then the parts of the model lie in the machine's own memory
and come to the accelerator only while they are at work, at last layer by layer. A picture that cannot be decoded whole is decoded
by itself, then in tiles: what was sampled is not lost by it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from diffstudio.errors import OutOfMemory
from diffstudio.models.families.latent import LatentModel
from diffstudio.models.memory import devices, offload
from diffstudio.models.memory.estimate import decoding_bytes, sampling_bytes
from diffstudio.models.model import Model
from diffstudio.models.tiling import Tile, each_tile, finish, over_tiles

_WINDOWS = (64, 32)  # of a latent's side, where it is decoded in tiles
_MOST_AT_ONCE = 8  # the first pictures are not to wait for ever
_Way = tuple[Callable[[], Tensor], int, str]  # what to try, the bytes that it takes, and what to say of it
_SHARE = 0.9  # of the free memory that is counted on


class OutOfMemoryFallback:
    """Of one job. `drop_others` lets go of other models and says how many those were; `in_windows` sees less of a picture at once.

    The latter says what that means, or nothing where it cannot.
    """

    def __init__(
        self, model: Model, drop_others: Callable[[], int] = lambda: 0, in_windows: Callable[[], str] = lambda: ""
    ) -> None:
        self._model, self._drop_others, self._in_windows = model, drop_others, in_windows

    def after_failure(self, count: int, width: int, height: int) -> tuple[int, str]:
        """How many images to try at once now that `count` did not fit, and what was done. OutOfMemory when nothing is left to do.

        Call outside the `except`, whose traceback keeps tensors alive.
        """
        devices.free_unused()
        if others := self._drop_others():
            devices.free_unused()
            return count, f"The memory was full: {_checkpoints(others)} that had been kept loaded made room."
        if count > 1:
            return count // 2, f"The memory was full: {_pictures(count // 2)} at once now, not {count}."
        if said := self._in_windows() or offload.further(self._model):
            return 1, f"The memory was full: {said}"
        raise OutOfMemory(
            f"A picture of {width} × {height} does not fit into memory",
            remedy="Close other programs, or choose a smaller size or checkpoint",
        )


def images_at_once(model: Model, width: int, height: int) -> int:
    """How many pictures are sampled as one batch: on an accelerator as many of a latent model as have room, and at most 8."""
    if not isinstance(model, LatentModel) or model.device.type == "cpu":
        return devices.images_at_once(width, height, model.device)
    needed = width * height * sampling_bytes(model.family.name, model.dtype.itemsize)
    return max(1, min(_MOST_AT_ONCE, devices.free_bytes(model.device) * 2 // 3 // needed))


def decode(model: Model, state: Tensor, note: Callable[[str], None], check: Callable[[], None]) -> Tensor:
    """As `model.decode`, state [B,C,h,w] -> [B,3,H,W], in smaller pieces where it does not fit at once; `note` hears so.

    `check` is called between pieces and may raise to stop.
    """
    ways: list[_Way] = [(lambda: model.decode(state), _bytes(model, state), "")]
    if len(state) > 1:
        ways.append(
            (
                lambda: _one_by_one(model.decode, state, check),
                _bytes(model, state[:1]),
                "The pictures were decoded one by one",
            )
        )
    if isinstance(model, LatentModel):
        ways += [
            (partial(_in_tiles, model, state, window, check), 0, "The picture was decoded in tiles")
            for window in _WINDOWS
            if window < max(state.shape[-2:])
        ]
    return _first_that_fits(model, ways, note)


def encode(model: Model, image: Tensor, note: Callable[[str], None], check: Callable[[], None]) -> Tensor:
    """As `model.encode_image`, image [B,3,H,W] -> state [B,C,h,w], in smaller pieces where it does not fit at once."""
    state = torch.empty(len(image), *model.state_shape(image.shape[-1], image.shape[-2]), device="meta")
    ways: list[_Way] = [(lambda: model.encode_image(image.to(model.device)), _bytes(model, state), "")]
    if len(state) > 1:
        ways.append(
            (
                lambda: _one_by_one(lambda one: model.encode_image(one.to(model.device)), image, check),
                _bytes(model, state[:1]),
                "The pictures were encoded one by one",
            )
        )
    if isinstance(model, LatentModel):
        ways += [
            (partial(_encoded_in_tiles, model, image, window, check), 0, "The picture was encoded in tiles")
            for window in _WINDOWS
            if window < max(state.shape[-2:])
        ]
    return _first_that_fits(model, ways, note)


def _first_that_fits(model: Model, ways: list[_Way], note: Callable[[str], None]) -> Tensor:
    for place, (way, needed, said) in enumerate(ways, 1):
        if place < len(ways) and needed > _SHARE * devices.free_bytes(model.device):
            continue
        try:
            image = way()
        except (RuntimeError, MemoryError) as error:
            if place == len(ways) or not devices.is_out_of_memory(error):
                raise
        else:
            if said:
                note(f"{said}, because it did not fit into memory at once.")
            return image
        devices.free_unused()
    raise AssertionError("the last way returns or raises")


def _one_by_one(work: Callable[[Tensor], Tensor], pieces: Tensor, check: Callable[[], None]) -> Tensor:
    made = []
    for one in pieces.split(1):
        check()
        made.append(work(one))
    return torch.cat(made)


def _in_tiles(model: LatentModel, state: Tensor, window: int, check: Callable[[], None]) -> Tensor:
    """Windows that overlap by a quarter, each decoded by itself and faded into the next."""
    made = [
        over_tiles(
            model.decode, one, window, window // 4, scale=model.shrinks, progress=lambda done, all_of_them: check()
        )
        for one in state.split(1)
    ]
    return torch.cat(made)


def _encoded_in_tiles(model: LatentModel, image: Tensor, window: int, check: Callable[[], None]) -> Tensor:
    """Likewise, the other way: the windows are the state's."""

    def encode(one: Tensor, _: Tensor, tile: Tile) -> Tensor:
        check()
        return model.encode_image(tile.of(one, model.shrinks).to(model.device))

    empty = torch.empty(1, 1, image.shape[-2] // model.shrinks, image.shape[-1] // model.shrinks, device=model.device)
    return torch.cat([finish(each_tile(partial(encode, one), empty, window, window // 4)) for one in image.split(1)])


def _bytes(model: Model, state: Tensor) -> int:
    """What decoding takes beside the weights; encoding takes less."""
    if not isinstance(model, LatentModel):
        return 0
    pixels = len(state) * state.shape[-2] * state.shape[-1] * model.shrinks**2
    return pixels * decoding_bytes(model.family.name, next(model.vae.parameters()).dtype.itemsize)


def _checkpoints(count: int) -> str:
    return "a checkpoint" if count == 1 else f"{count} checkpoints"


def _pictures(count: int) -> str:
    return "one picture" if count == 1 else f"{count} pictures"

"""OutOfMemoryFallback: what is tried, step by step, when a job does not fit into memory; each step has a note.

First other models are unloaded, then the batch is halved, then images are sampled in tiles, then the model is offloaded
to CPU memory, by modules and finally by layers. A batch that cannot be decoded at once is decoded one by one, then in
tiles, so that no finished sampling is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from diffstudio.errors import OutOfMemory
from diffstudio.models.memory import devices, limits, offload
from diffstudio.models.memory.estimate import decoding_bytes, sampling_bytes
from diffstudio.models.model import Model
from diffstudio.models.tiling import Tile, each_tile, finish, over_tiles

_Attempt = tuple[Callable[[], Tensor], int, str]  # the function to try, the bytes it needs, and the note about it


class OutOfMemoryFallback:
    """The fallback of one job.

    `drop_other_models` frees them and returns their number; `sample_in_tiles` switches the job to tiles and returns a
    clause about it, empty if that is impossible.
    """

    def __init__(
        self,
        model: Model,
        drop_other_models: Callable[[], int] = lambda: 0,
        sample_in_tiles: Callable[[], str] = lambda: "",
    ) -> None:
        self._model, self._drop_other_models, self._sample_in_tiles = model, drop_other_models, sample_in_tiles

    def after_failure(self, count: int, width: int, height: int) -> tuple[int, str]:
        """After a batch of `count` images did not fit: the batch size to try next, and a note about the change.

        OutOfMemory when nothing is left to try. Call it outside the `except`, whose traceback keeps tensors alive.
        """
        devices.free_unused()
        if others := self._drop_other_models():
            devices.free_unused()
            freed = "another checkpoint was" if others == 1 else f"{others} other checkpoints were"
            return count, f"Out of memory: {freed} unloaded."
        if count > 1:
            return count // 2, f"Out of memory: the batch size is now {count // 2} instead of {count}."
        if done := self._sample_in_tiles() or offload.offload_more(self._model):
            return 1, f"Out of memory: {done}"
        raise OutOfMemory(
            f"An image of {width} × {height} does not fit into memory",
            remedy="Close other programs, or choose a smaller size or checkpoint",
        )


def images_at_once(model: Model, width: int, height: int) -> int:
    """The batch size for images of this size: see `limits.images_at_once`."""
    device = model.device
    if device.type == "cpu" or not model.is_latent:
        return limits.images_at_once(width, height, device.type, model.is_latent)
    image_bytes = width * height * sampling_bytes(model.family.name, model.dtype.itemsize)
    return limits.images_at_once(width, height, device.type, True, image_bytes, devices.free_bytes(device))


def decode(model: Model, state: Tensor, note: Callable[[str], None], check: Callable[[], None]) -> Tensor:
    """As `model.decode`, state [B,C,h,w] -> [B,3,H,W]; one by one or in tiles if it does not fit at once.

    `note` is then called with a sentence. `check` is called between images or tiles and may raise to stop.
    """
    attempts: list[_Attempt] = [(lambda: model.decode(state), _decoding_bytes(model, state), "")]
    if len(state) > 1:
        one_by_one = partial(_one_by_one, model.decode, state, check)
        attempts.append((one_by_one, _decoding_bytes(model, state[:1]), "The images were decoded one by one"))
    attempts += [
        (partial(_decode_in_tiles, model, state, tile_size, check), 0, "The image was decoded in tiles")
        for tile_size in _tile_sizes(model, state)
    ]
    return _first_that_fits(model, attempts, note)


def encode(model: Model, image: Tensor, note: Callable[[str], None], check: Callable[[], None]) -> Tensor:
    """As `model.encode_image`, image [B,3,H,W] -> state [B,C,h,w]; one by one or in tiles if it does not fit at once."""

    def encoded(images: Tensor) -> Tensor:
        return model.encode_image(images.to(model.device))

    state = torch.empty(len(image), *model.state_shape(image.shape[-1], image.shape[-2]), device="meta")
    attempts: list[_Attempt] = [(lambda: encoded(image), _decoding_bytes(model, state), "")]
    if len(state) > 1:
        one_by_one = partial(_one_by_one, encoded, image, check)
        attempts.append((one_by_one, _decoding_bytes(model, state[:1]), "The images were encoded one by one"))
    attempts += [
        (partial(_encode_in_tiles, model, image, tile_size, check), 0, "The image was encoded in tiles")
        for tile_size in _tile_sizes(model, state)
    ]
    return _first_that_fits(model, attempts, note)


def _tile_sizes(model: Model, state: Tensor) -> list[int]:
    """The tile sizes to try, in latent px; none for a model without latents."""
    return [size for size in limits.DECODE_TILE_SIZES if model.is_latent and size < max(state.shape[-2:])]


def _first_that_fits(model: Model, attempts: list[_Attempt], note: Callable[[str], None]) -> Tensor:
    for number, (attempt, needed, done) in enumerate(attempts, 1):
        if number < len(attempts) and not limits.fits(needed, devices.free_bytes(model.device)):
            continue
        try:
            image = attempt()
        except (RuntimeError, MemoryError) as error:
            if number == len(attempts) or not devices.is_out_of_memory(error):
                raise
        else:
            if done:
                note(f"{done}, because it did not fit into memory at once.")
            return image
        devices.free_unused()
    raise AssertionError("the last attempt returns or raises")


def _one_by_one(function: Callable[[Tensor], Tensor], batch: Tensor, check: Callable[[], None]) -> Tensor:
    results = []
    for one in batch.split(1):
        check()
        results.append(function(one))
    return torch.cat(results)


def _decode_in_tiles(model: Model, state: Tensor, tile_size: int, check: Callable[[], None]) -> Tensor:
    """Decode in tiles that overlap by a quarter and are cross-faded."""
    images = [
        over_tiles(
            model.decode,
            one,
            tile_size,
            tile_size // 4,
            scale=model.vae_scale_factor,
            progress=lambda done, count: check(),
        )
        for one in state.split(1)
    ]
    return torch.cat(images)


def _encode_in_tiles(model: Model, image: Tensor, tile_size: int, check: Callable[[], None]) -> Tensor:
    """Encode in tiles, measured in px of the state, that overlap by a quarter and are cross-faded."""
    factor = model.vae_scale_factor

    def encode(one: Tensor, _: Tensor, tile: Tile) -> Tensor:
        check()
        return model.encode_image(tile.of(one, factor).to(model.device))

    empty = torch.empty(1, 1, image.shape[-2] // factor, image.shape[-1] // factor, device=model.device)
    return torch.cat(
        [finish(each_tile(partial(encode, one), empty, tile_size, tile_size // 4)) for one in image.split(1)]
    )


def _decoding_bytes(model: Model, state: Tensor) -> int:
    """The memory for decoding besides the weights; encoding takes less."""
    if not model.is_latent or model.vae is None:
        return 0
    pixels = len(state) * state.shape[-2] * state.shape[-1] * model.vae_scale_factor**2
    return pixels * decoding_bytes(model.family.name, next(model.vae.parameters()).dtype.itemsize)

"""Enlarge images, by Lanczos or by an upscaler model: the resize step that the hires fix and upscaling share."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from diffstudio.errors import OutOfMemory
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.files.hashes import sha256_of
from diffstudio.models.memory import devices, limits
from diffstudio.models.memory.oom_fallback import encode
from diffstudio.models.model import Model
from diffstudio.models.upscalers import SMALLER_SCALE, Upscaler, load_upscaler
from diffstudio.studio.events import Event, JobId, Loading, Noted, Picture

ENLARGING = "Enlarging"  # what the progress shows


class Enlarger:
    """Enlarges the images of one job. `file` is the upscaler model, loaded on first use; None resizes by Lanczos."""

    def __init__(self, file: Checkpoint | None, device: torch.device) -> None:
        self._file, self._device = file, device
        self._upscaler: Upscaler | None = None

    def metadata(self) -> dict[str, str]:
        """What determines the pixels besides the upscaler's name, for the image's metadata."""
        return {"upscaler_hash": sha256_of(self._file.path)[:10]} if self._file is not None else {}

    def enlarged(self, image: Picture, width: int, height: int) -> Generator[float, None, Picture]:
        """[h,w,3] -> [height,width,3]; yields the fraction done, 0 to 1. OutOfMemory before any work if it cannot fit."""
        if self._file is not None:
            self._upscaler = self._upscaler or load_upscaler(self._file, self._device)
            image = yield from _by_model(self._upscaler, image, width, height)
        if image.shape[:2] != (height, width):
            image = np.array(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
        return image

    def state_of(
        self, images: Sequence[Picture], width: int, height: int, model: Model, job: JobId, check: Callable[[], None]
    ) -> Generator[Event, None, Tensor]:
        """Enlarge images and encode them to the clean state [B,C,h,w]. `check` is called between tiles, and may raise."""
        larger = []
        for index, image in enumerate(images):
            what = ENLARGING if len(images) == 1 else f"{ENLARGING} image {index + 1} of {len(images)}"
            steps = self.enlarged(image, width, height)
            larger.append((yield from with_progress(steps, job, what, check)))
        notes: list[str] = []
        state = encode(model, as_tensor(larger), notes.append, check)
        for note in notes:
            yield Noted(job, note)
        return state

    @staticmethod
    def latent(state: Tensor, shape: Sequence[int]) -> Tensor:
        """Resize a clean state [B,C,h,w] to the size of `shape` [C,H,W]."""
        return F.interpolate(state, tuple(shape[1:]), mode="bicubic", antialias=True)


def as_tensor(images: Sequence[Picture]) -> Tensor:
    """B images of one size [H,W,3] -> [B,3,H,W] in [-1,1]."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def with_progress(
    steps: Generator[float, None, Picture], job: JobId, what: str, check: Callable[[], None]
) -> Generator[Event, None, Picture]:
    """Run a generator of fractions to its result, and yield the fractions as Loading events."""
    while True:
        check()
        try:
            fraction = next(steps)
        except StopIteration as end:
            result: Picture = end.value
            return result
        yield Loading(job, what, fraction)


def _by_model(upscaler: Upscaler, image: Picture, width: int, height: int) -> Generator[float, None, Picture]:
    """Apply the upscaler as often as the size needs; the result may be larger. An upscaler of scale 1 runs once."""
    needed = max(width / image.shape[1], height / image.shape[0])
    passes = (
        max(1, math.ceil(math.log(needed) / math.log(upscaler.scale) - 1e-9))
        if upscaler.scale > 1 and needed > 1
        else 1
    )
    for index in range(passes):
        remaining = max(width / image.shape[1], height / image.shape[0])
        fold = max(
            (
                fold
                for fold in range(1, upscaler.scale + 1)
                if upscaler.scale % fold == 0 and upscaler.scale / fold >= remaining
            ),
            default=1,
        )
        _check_memory(image, upscaler.scale // fold)
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float().div_(255)
        tiles = upscaler.each_tile(pixels, downscale=fold)
        while True:
            try:
                done, count = next(tiles)
            except StopIteration as end:
                enlarged: Tensor = end.value
                break
            yield (index + done / count) / passes
        image = enlarged[0].mul_(255).round_().permute(1, 2, 0).byte().contiguous().numpy()
    return image


def _check_memory(image: Picture, scale: int) -> None:
    needed = image.shape[0] * image.shape[1] * scale**2 * limits.UPSCALER_BYTES_PER_PIXEL
    free = devices.free_bytes(torch.device("cpu"))
    if not limits.fits(needed, free):
        raise OutOfMemory(
            f"Enlarging {image.shape[1]:,} × {image.shape[0]:,} px by a factor of {scale} takes about {needed / 2**30:.1f} GiB",
            f"{free / 2**30:.1f} GiB are free",
            SMALLER_SCALE,
        )

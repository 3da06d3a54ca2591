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
from diffstudio.models.upscalers import Upscaler, load_upscaler
from diffstudio.studio.events import Event, JobId, Loading, Noted, Picture


class Enlarger:
    """Of one job. `file` is the upscaler model, loaded when it is first needed; None resizes by Lanczos."""

    def __init__(self, file: Checkpoint | None, device: torch.device) -> None:
        self._file, self._device = file, device
        self._upscaler: Upscaler | None = None

    def metadata(self) -> dict[str, str]:
        """What determines the pixels besides the upscaler's name, for the image's metadata."""
        return {"upscaler_hash": sha256_of(self._file.path)[:10]} if self._file is not None else {}

    def enlarged(self, picture: Picture, width: int, height: int) -> Generator[float, None, Picture]:
        """[h,w,3] -> [height,width,3]; yields the fraction done, 0 to 1. OutOfMemory before any work if it cannot fit."""
        if self._file is not None:
            self._upscaler = self._upscaler or load_upscaler(self._file, self._device)
            picture = yield from _by_model(self._upscaler, picture, width, height)
        if picture.shape[:2] != (height, width):
            picture = np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))
        return picture

    def state_of(
        self, pictures: Sequence[Picture], width: int, height: int, model: Model, job: JobId, check: Callable[[], None]
    ) -> Generator[Event, None, Tensor]:
        """The clean state [B,C,h,w] of these images at that size; `check` is called between pieces, and may raise to
        stop.
        """
        larger = []
        for index, picture in enumerate(pictures):
            what = "Enlarging" if len(pictures) == 1 else f"Enlarging image {index + 1} of {len(pictures)}"
            steps = self.enlarged(picture, width, height)
            larger.append((yield from with_progress(steps, job, what, check)))
        notes: list[str] = []
        state = encode(model, as_tensor(larger), notes.append, check)
        for note in notes:
            yield Noted(job, note)
        return state

    @staticmethod
    def latent(state: Tensor, shape: Sequence[int]) -> Tensor:
        """A clean state [B,C,h,w] at the size of `shape` [C,H,W]."""
        return F.interpolate(state, tuple(shape[1:]), mode="bicubic", antialias=True)


def as_tensor(pictures: Sequence[Picture]) -> Tensor:
    """B images of one size [H,W,3] -> [B,3,H,W] in [-1,1]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def with_progress(
    steps: Generator[float, None, Picture], job: JobId, what: str, check: Callable[[], None]
) -> Generator[Event, None, Picture]:
    """Run the steps, with their fractions as Loading events; returns their result."""
    while True:
        check()
        try:
            fraction = next(steps)
        except StopIteration as end:
            made: Picture = end.value
            return made
        yield Loading(job, what, fraction)


def _by_model(upscaler: Upscaler, picture: Picture, width: int, height: int) -> Generator[float, None, Picture]:
    """At least as large as asked for, in as many passes of the upscaler as that takes; one of scale 1 changes no size."""
    needed = max(width / picture.shape[1], height / picture.shape[0])
    passes = (
        max(1, math.ceil(math.log(needed) / math.log(upscaler.scale) - 1e-9))
        if upscaler.scale > 1 and needed > 1
        else 1
    )
    for index in range(passes):
        left = max(width / picture.shape[1], height / picture.shape[0])
        fold = max(
            (
                fold
                for fold in range(1, upscaler.scale + 1)
                if upscaler.scale % fold == 0 and upscaler.scale / fold >= left
            ),
            default=1,
        )
        _check_memory(picture, upscaler.scale // fold)
        pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float().div_(255)
        tiles = upscaler.each_tile(pixels, fold=fold)
        while True:
            try:
                done, count = next(tiles)
            except StopIteration as end:
                made: Tensor = end.value
                break
            yield (index + done / count) / passes
        picture = made[0].mul_(255).round_().permute(1, 2, 0).byte().contiguous().numpy()
    return picture


def _check_memory(picture: Picture, scale: int) -> None:
    needed = picture.shape[0] * picture.shape[1] * scale**2 * limits.UPSCALER_BYTES_PER_PIXEL
    free = devices.free_bytes(torch.device("cpu"))
    if not limits.fits(needed, free):
        raise OutOfMemory(
            f"Enlarging {picture.shape[1]:,} × {picture.shape[0]:,} px by {scale} takes about {needed / 2**30:.1f} GiB",
            f"{free / 2**30:.1f} GiB are free",
            "Close other programs, or choose a smaller scale",
        )

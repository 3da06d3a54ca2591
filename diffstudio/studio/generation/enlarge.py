"""Pictures made larger, to be sampled again from there or for themselves: by Lanczos, or by an upscaler of the library."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from diffstudio.errors import OutOfMemory
from diffstudio.models.files.hashes import sha256_of
from diffstudio.models.library.library import Library
from diffstudio.models.memory import devices
from diffstudio.models.memory.oom_fallback import encode
from diffstudio.models.model import Model
from diffstudio.models.upscalers import Upscaler, load_upscaler
from diffstudio.studio.events import Event, JobId, Loading, Noted, Picture
from diffstudio.studio.generation.upscaler_lookup import find_upscaler

_BYTES_PER_PIXEL = 3 * (4 + 4)  # while a network's windows are put together, and what that becomes beside it
_SHARE = 0.9  # of the free memory that is counted on


class Enlarger:
    """The upscaler of one job, loaded when it is first needed. CheckpointMissing, CheckpointUnknown where the name is none's."""

    def __init__(self, name: str, library: Library | None, device: torch.device) -> None:
        self.name, self._device = name, device
        self._file = find_upscaler(name, library)
        self._upscaler: Upscaler | None = None

    def about(self) -> dict[str, str]:
        """What decides the pixels besides its name."""
        return {"upscaler_hash": sha256_of(self._file.path)[:10]} if self._file is not None else {}

    def enlarged(self, picture: Picture, width: int, height: int) -> Generator[float, None, Picture]:
        """[h,w,3] -> [height,width,3]; yields how much of it is done, 0 to 1. OutOfMemory before any work where it cannot be."""
        if self._file is not None:
            self._upscaler = self._upscaler or load_upscaler(self._file, self._device)
            picture = yield from _by_network(self._upscaler, picture, width, height)
        if picture.shape[:2] != (height, width):
            picture = np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))
        return picture

    def state_of(
        self, pictures: Sequence[Picture], width: int, height: int, model: Model, job: JobId, check: Callable[[], None]
    ) -> Generator[Event, None, Tensor]:
        """The clean state [B,C,h,w] of these pictures at that size; `check` is called between pieces, and may raise to stop."""
        larger = []
        for index, picture in enumerate(pictures):
            what = "Enlarging" if len(pictures) == 1 else f"Enlarging picture {index + 1} of {len(pictures)}"
            steps = self.enlarged(picture, width, height)
            larger.append((yield from told(steps, job, what, check)))
        notes: list[str] = []
        state = encode(model, as_image(larger), notes.append, check)
        for note in notes:
            yield Noted(job, note)
        return state

    @staticmethod
    def latent(state: Tensor, shape: Sequence[int]) -> Tensor:
        """A clean state [B,C,h,w] at the size of `shape` [C,H,W]."""
        return F.interpolate(state, tuple(shape[1:]), mode="bicubic", antialias=True)


def as_image(pictures: Sequence[Picture]) -> Tensor:
    """B pictures of one size [H,W,3] -> [B,3,H,W] in [-1,1]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def told(
    steps: Generator[float, None, Picture], job: JobId, what: str, check: Callable[[], None]
) -> Generator[Event, None, Picture]:
    """Each step as an event; returns what the steps do."""
    while True:
        check()
        try:
            share = next(steps)
        except StopIteration as end:
            made: Picture = end.value
            return made
        yield Loading(job, what, share)


def _by_network(upscaler: Upscaler, picture: Picture, width: int, height: int) -> Generator[float, None, Picture]:
    """At least as large as wanted, in as many passes of the network as that takes; one that only cleans changes no size."""
    wanted = max(width / picture.shape[1], height / picture.shape[0])
    passes = (
        max(1, math.ceil(math.log(wanted) / math.log(upscaler.scale) - 1e-9))
        if upscaler.scale > 1 and wanted > 1
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
        windows = upscaler.each_tile(pixels, fold=fold)
        while True:
            try:
                done, count = next(windows)
            except StopIteration as end:
                made: Tensor = end.value
                break
            yield (index + done / count) / passes
        picture = made[0].mul_(255).round_().permute(1, 2, 0).byte().contiguous().numpy()
    return picture


def _check_memory(picture: Picture, scale: int) -> None:
    needed = picture.shape[0] * picture.shape[1] * scale**2 * _BYTES_PER_PIXEL
    free = devices.free_bytes(torch.device("cpu"))
    if needed > _SHARE * free:
        raise OutOfMemory(
            f"Enlarging {picture.shape[1]:,} × {picture.shape[0]:,} px by {scale} takes about {needed / 2**30:.1f} GiB",
            f"{free / 2**30:.1f} GiB are free",
            "Close other programs, or enlarge it less",
        )

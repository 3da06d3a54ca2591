"""Restorer: one image at a time with a pixel model, in the values that the model knows."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.diffusion.noise import SeededNoise
from diffstudio.diffusion.restoration.degradations import Blurred, Degradation, Masked, Reduced, gaussian_kernel
from diffstudio.diffusion.restoration.noise_level import estimate_noise
from diffstudio.diffusion.restoration.restoration import (
    ConditionedDenoiser,
    conditioned_samples,
    denoised_samples,
    posterior_mean,
)
from diffstudio.diffusion.samplers import Step
from diffstudio.models.conditioning.prompt_schedule import StepTexts
from diffstudio.models.memory.oom_fallback import images_at_once
from diffstudio.models.model import Model
from diffstudio.models.multidiffusion import TiledDenoiser, Tiling, tiling_for
from diffstudio.studio.evaluations.restore.image_files import RestorableImage, Values
from diffstudio.studio.evaluations.restore.request import RestoreRequest, RestoreTask
from diffstudio.studio.evaluations.samples import CheckedDenoiser

LEVEL = 1 / 127.5  # one level of 8 bits in [-1,1]
ROUNDING = 0.5 * LEVEL  # the noise of an image that is taken for exact


@dataclass(frozen=True, slots=True)
class Restored:
    """Values [H,W,C] in about [-1,1]."""

    mean: Values
    sample: Values | None
    noise: float  # that was assumed, in levels of 255
    estimated: bool


class Restorer:
    """`on_call` is called before each call of the network, and may raise to stop."""

    def __init__(self, model: Model, request: RestoreRequest, on_call: Callable[[], None]) -> None:
        self._model, self._request, self._on_call = model, request, on_call
        tiling = tiling_for(model, *model.network_size, always=True)
        assert tiling is not None
        self._tiling: Tiling = tiling

    def calls(self, picture: RestorableImage) -> int:
        """How many calls of the network an image takes, batches counted as one."""
        request = self._request
        if request.task is RestoreTask.DENOISE:
            calls = 2 + (0 if request.mean_only else request.steps)
            return calls * self._tiles(picture, 1)
        scale = request.scale if request.task is RestoreTask.SUPER_RESOLUTION else 1
        rows = len(self._rows(picture)) * request.draws
        return request.steps * -(-rows // self._at_once()) * self._tiles(picture, scale)

    def restore(self, picture: RestorableImage, unknown: NDArray[np.bool_] | None = None) -> Restored | None:
        """`unknown` are the pixels [H,W] that `inpaint` fills. None for `denoise` where no noise is found."""
        rows = self._rows(picture)
        if self._request.task is RestoreTask.DENOISE:
            return self._denoised(picture, rows)
        noise = self._noise(picture, estimated=self._request.task is RestoreTask.DEBLUR)
        degradation, y = self._degraded(rows, unknown)
        samples = self._samples(degradation, y, max(noise, ROUNDING))
        width, height = (side * self._scale for side in picture.size)
        samples = samples[..., :height, :width]
        if unknown is not None:  # what is known stays as it is
            samples = torch.where(torch.from_numpy(unknown), samples, rows)
        mean, sample = samples.mean(0), samples[0]
        return Restored(self._values(mean, picture), self._values(sample, picture), noise / LEVEL, self._estimates)

    @property
    def _scale(self) -> int:
        return self._request.scale if self._request.task is RestoreTask.SUPER_RESOLUTION else 1

    @property
    def _estimates(self) -> bool:
        return self._request.noise is None and self._request.task in (RestoreTask.DENOISE, RestoreTask.DEBLUR)

    def _noise(self, picture: RestorableImage, *, estimated: bool) -> float:
        if self._request.noise is not None:
            return self._request.noise * LEVEL
        if not estimated:
            return ROUNDING
        return estimate_noise(torch.from_numpy(picture.values).permute(2, 0, 1))

    def _rows(self, picture: RestorableImage) -> Tensor:
        """The image as the model takes it: [N,C,H,W], with a row for each colour where the model is of grey images."""
        values = torch.from_numpy(picture.values).permute(2, 0, 1)
        if self._model.output.colours == 1:
            return values[:, None].contiguous()
        return values.expand(3, -1, -1)[None].contiguous()

    def _values(self, rows: Tensor, picture: RestorableImage) -> Values:
        """The inverse of `_rows`: a grey image is the mean of the colours."""
        values = rows[:, 0] if self._model.output.colours == 1 else rows[0]
        values = values.mean(0, keepdim=True) if picture.is_grey else values
        found: Values = values.permute(1, 2, 0).float().cpu().numpy()
        return found

    # Denoising

    def _denoised(self, picture: RestorableImage, rows: Tensor) -> Restored | None:
        request, schedule = self._request, self._model.schedule
        noise = self._noise(picture, estimated=True)
        if noise < ROUNDING:
            return None
        level, noisy = noise, rows
        if picture.is_grey and self._model.output.colours == 3:
            # One value for three colours: noise that their mean does not see makes theirs independent.
            level = noise * math.sqrt(3)
            drawn = SeededNoise([request.seed])(rows)
            noisy = rows + level * (drawn - drawn.mean(1, keepdim=True))
        y = self._canvas(noisy).to(self._model.device)
        generator = torch.Generator().manual_seed(request.seed)
        probe = (torch.randint(0, 2, y.shape, generator=generator) * 2 - 1).to(y)
        denoiser = self._denoiser(len(y))
        mean = posterior_mean(denoiser, schedule, y, level, probe)
        sample = None
        if not request.mean_only:
            draw = SeededNoise([request.seed + index for index in range(len(y))])
            sample = _last(denoised_samples(denoiser, schedule, y, level, request.steps, draw))
        width, height = picture.size

        def shown(found: Tensor) -> Values:
            return self._values(found[..., :height, :width], picture)

        return Restored(shown(mean), None if sample is None else shown(sample), noise / LEVEL, self._estimates)

    # The other tasks

    def _degraded(self, rows: Tensor, unknown: NDArray[np.bool_] | None) -> tuple[Degradation, Tensor]:
        """What was done to the image, and the image, on the canvas."""
        if unknown is not None:
            known = self._canvas(torch.from_numpy(~unknown)[None, None].float()).to(self._model.device)
            y = known * self._canvas(rows).to(self._model.device)
            return Masked(known), y
        y = self._canvas(rows, self._scale).to(self._model.device)
        if self._request.task is RestoreTask.SUPER_RESOLUTION:
            return Reduced(self._scale), y
        kernel = gaussian_kernel(self._request.blur)
        return Blurred(kernel, margin=len(kernel)), y

    def _samples(self, degradation: Degradation, y: Tensor, noise: float) -> Tensor:
        """[draws,N,C,H,W] on the CPU."""
        request, count = self._request, len(y)
        seeds = [request.seed + index for index in range(count * request.draws)]
        found = []
        for first in range(0, len(seeds), self._at_once()):
            part = seeds[first : first + self._at_once()]
            rows = [(first + index) % count for index in range(len(part))]
            denoiser = ConditionedDenoiser(self._denoiser(len(part)), degradation, y[rows], noise)
            draw = SeededNoise(part)
            shape = (y.shape[1], y.shape[2] * self._scale, y.shape[3] * self._scale)
            start = draw.start(shape).to(y)
            found.append(_last(conditioned_samples(denoiser, self._model.schedule, start, request.steps, draw)).cpu())
        samples = torch.cat(found)
        return samples.view(request.draws, count, *samples.shape[1:])

    # The network

    def _at_once(self) -> int:
        return max(1, images_at_once(self._model, *self._model.network_size))

    def _denoiser(self, count: int) -> Denoiser:
        """For `count` images of any size on the canvas: in tiles of the training size, without guidance."""
        prompt = self._request.prompt
        encoded = self._model.prompt_encoder(None)(StepTexts.plain([prompt] * count, [""] * count))
        denoiser = self._model.denoiser(encoded, 1.0 if prompt else 0.0)
        checked = CheckedDenoiser(denoiser, self._on_call)
        return TiledDenoiser(lambda tile: checked, self._model.schedule, self._tiling.tile_size, self._tiling.overlap)

    def _tiles(self, picture: RestorableImage, scale: int) -> int:
        width, height = self._canvas_size(picture.size, scale)
        return self._tiling.count(width * scale, height * scale)

    def _canvas_size(self, size: tuple[int, int], scale: int) -> tuple[int, int]:
        """The px before scaling that an image is continued to: at least one tile, in multiples that the network takes."""
        multiple = self._model.multiple // math.gcd(self._model.multiple, scale)
        least = -(-self._tiling.tile_size // scale)
        width, height = (-(-max(side, least) // multiple) * multiple for side in size)
        return width, height

    def _canvas(self, rows: Tensor, scale: int = 1) -> Tensor:
        """Rows [N,C,H,W] continued by their mirror image to the right and below, which keeps noise white."""
        height, width = rows.shape[-2:]
        across, down = self._canvas_size((width, height), scale)
        padded = np.pad(rows.numpy(), ((0, 0), (0, 0), (0, down - height), (0, across - width)), mode="symmetric")
        return torch.from_numpy(padded)


def _last(steps: Iterator[Step]) -> Tensor:
    return deque(steps, maxlen=1).pop().x

"""A running pipeline of diffusers as a Denoiser, and its latents and images as tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diffstudio.diffusion.schedule import Schedule
from diffstudio.errors import BadRequest, CheckpointUnknown
from diffstudio.models.families.flow import unpack
from diffstudio.models.families.pipelines.pipeline_stepper import PipelineStepper, Reached
from diffstudio.models.files.file_access import first_line


class SteppedPipeline:
    """A running pipeline as a Denoiser: each call lets it run until its next network call has returned.

    Calls that were answered elsewhere, as when a job restarts from a recorded step, are caught up on.
    """

    def __init__(self, stepper: PipelineStepper, schedule: Schedule, width: int, height: int) -> None:
        self.schedule = schedule
        self.output: Any = None  # what the pipeline returned
        self.advanced = False  # whether the newest estimate came from here rather than from a record
        self._expected_calls = self._calls = 0  # of the network
        self._stepper, self._width, self._height = stepper, width, height
        self._last: Reached | None = None

    def expect_one_more(self) -> None:
        self._expected_calls += 1
        self.advanced = False

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        while self._calls < self._expected_calls and self.output is None:
            self._advance()
        self.advanced = True
        return x_t if self._last is None else _as_map(self._last.estimate, self._width, self._height)

    def _advance(self) -> None:
        try:
            reached = self._stepper.next()
        except ValueError as error:
            raise BadRequest(
                "The pipeline of this checkpoint refuses the request",
                first_line(error),
                "Try another size or other settings",
            ) from error
        if not isinstance(reached, Reached):
            self.output = reached
            return
        self._last, self._calls = reached, self._calls + 1
        if reached.share >= 1:
            self._advance()  # there is no other network call: it decodes and returns

    @property
    def share(self) -> float:
        return self._last.share if self._last is not None else 0.0

    def latents(self, otherwise: Tensor) -> Tensor:
        return _as_map(self._last.latents, self._width, self._height) if self._last is not None else otherwise

    def level(self, before: float) -> float:
        """The time just reached; evenly spaced if the scheduler does not report it."""
        if self._last is None:
            return before
        return self._last.level if self._last.level is not None else self.schedule.t_max * (1 - self._last.share)


def _as_map(latents: Tensor, width: int, height: int) -> Tensor:
    """Latents as [B,C,h,w], float32, for an image of `width` × `height` latent px, however the pipeline packs them."""
    latents = latents.float()
    match latents.ndim:
        case 4:
            return latents
        case 5:
            return latents[:, :, 0]  # a video of one frame
        case 3 if latents.shape[1] == width * height:
            return latents.transpose(1, 2).reshape(len(latents), -1, height, width)  # one token per latent px
        case 3 if latents.shape[1] == (width // 2) * (height // 2) and latents.shape[2] % 4 == 0:
            return unpack(latents, height // 2 * 2, width // 2 * 2)  # one token per 2 × 2 latent px
    return latents.new_zeros(len(latents), 3, 1, 1)  # an unknown layout


def output_images(output: Any) -> Tensor:
    """The images [B,3,H,W] in [-1,1] of a pipeline's output. CheckpointUnknown if it has none."""
    images = getattr(output, "images", None)
    if images is None:
        raise CheckpointUnknown(
            "The pipeline of this checkpoint returned no images",
            f"it returned a {type(output).__name__}",
            "Choose another checkpoint",
        )
    if not isinstance(images, Tensor):
        import numpy as np

        images = torch.stack(
            [torch.from_numpy(np.asarray(image.convert("RGB"))).permute(2, 0, 1) / 255 for image in images]
        )
    return images.float() * 2 - 1

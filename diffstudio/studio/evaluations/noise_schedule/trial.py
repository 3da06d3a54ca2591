"""TrialImage: an image drawn at once with a noise schedule or a spacing, and kept nowhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from diffstudio.diffusion.curve_points import NoiseCurve
from diffstudio.errors import BadRequest

if TYPE_CHECKING:
    from diffstudio.models.model import Model

Pixels = NDArray[np.uint8]  # [H,W,3], RGB


@dataclass(frozen=True, slots=True)
class TrialImage:
    """A live task: see `studio.jobs.live_tasks`."""

    checkpoint: str
    steps: int
    sampler: str
    spacing: str | NoiseCurve
    guidance: float
    prompt: str = ""
    seed: int = 0
    times: tuple[float, ...] = ()  # instead of those of the spacing: fractions of t_max, as requests carry them

    def run(self, model: Model, check: Callable[[], None]) -> Pixels:
        """BadRequest for what the model cannot do, Interrupted from `check`."""
        import torch

        from diffstudio.diffusion.noise_curve import curve_fractions
        from diffstudio.models.conditioning.prompt_schedule import StepTexts
        from diffstudio.models.sampling import SampleOptions, sample
        from diffstudio.studio.evaluations.samples import CheckedDenoiser
        from diffstudio.studio.generation.preview import shrunk, to_images

        if model.own_sampler is not None:
            raise BadRequest(
                "No image can be drawn with a noise schedule of one's own",
                "this checkpoint samples by itself",
                "Choose another checkpoint",
            )
        options = SampleOptions(
            [self.seed],
            steps=self.steps,
            sampler=self.sampler,
            spacing="uniform" if isinstance(self.spacing, NoiseCurve) else self.spacing,
            guidance=self.guidance,
            times=curve_fractions(self.spacing, model.schedule, self.steps)
            if isinstance(self.spacing, NoiseCurve)
            else self.times,
        )
        check()
        encoded = model.prompt_encoder(None)(StepTexts.plain([self.prompt], [""]))
        with torch.no_grad():
            *_, last = sample(model, encoded, options, wrap=lambda denoiser: CheckedDenoiser(denoiser, check))
            check()
            return shrunk(to_images(model.decode(last.x))[0])

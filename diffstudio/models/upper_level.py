"""The upper level of a cascade: an image is sampled at the base's size, then enlarged by a second network.

Cascaded diffusion models: Ho et al. 2021 (arXiv 2106.15282).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import CleanPrediction, Denoiser
from diffstudio.diffusion.noise import SeededNoise
from diffstudio.diffusion.restoration.degradations import Reduced
from diffstudio.diffusion.samplers import Step, dpmpp_2m
from diffstudio.diffusion.schedule import NoiseSchedule, RectifiedFlow
from diffstudio.diffusion.spacing import times_from_noise_level
from diffstudio.errors import BadRequest
from diffstudio.networks.cascade import CascadedTransformer, noised
from diffstudio.networks.transformer import Condition

SPACING = "log_snr"
_SECOND_TIME = 0.9  # of `log_snr`: at more noise the smaller image determines nearly everything


@dataclass(frozen=True, slots=True)
class UpperLevel:
    """The upper network of a checkpoint. `call` runs it in the model's data type."""

    network: CascadedTransformer
    schedule: RectifiedFlow
    call: Callable[[Tensor, Tensor, Condition], Tensor]

    @property
    def factor(self) -> int:
        """How many times as large as the base's its images are."""
        return self.network.factor

    @property
    def steps(self) -> int:
        return self.network.upper_config.sample_steps

    @property
    def multiple(self) -> int:
        """Both sides of its images are multiples of this, in px."""
        upper, base = self.network.upper_config.network.patch_size, self.network.config.patch_size
        return math.lcm(upper, base * self.factor)

    @property
    def trained_size(self) -> int:
        """px, the side of its training images."""
        return self.network.upper_config.network.image_size

    def draws(self, width: int, height: int) -> bool:
        """Whether an image of this size is too large for the base alone."""
        return max(width, height) > self.network.config.image_size

    def check_base_alone(self, width: int, height: int) -> None:
        """BadRequest for a size that needs the upper level: only the base network is inspected."""
        if self.draws(width, height):
            side = self.network.config.image_size
            raise BadRequest(
                f"Images of {width} × {height} px are too large to inspect with this checkpoint",
                f"it generates images of more than {side} px in two levels, and only the first one is inspected",
                f"Choose at most {side} × {side} px",
            )

    def times(self, strength: float = 1.0) -> Tensor:
        """The times of its steps, float64 [n + 1]; fewer with a denoising strength below 1."""
        return times_from_noise_level(self.schedule, self.steps, SPACING, strength, _SECOND_TIME)

    def denoiser(self, low: Tensor, level: float = 0.0, *, exact: bool = False) -> Denoiser:
        """A denoiser of larger images, given the smaller ones [B,C,h,w], which have noise of this level.

        `exact`: each estimate is moved by the least amount that makes it equal to `low` when it is reduced.
        """
        condition = Condition(low=low, low_noise=torch.full((len(low),), level, device=low.device))
        denoiser = CleanPrediction(lambda x_t, t: self.call(x_t, t, condition), self.schedule)
        return _Consistent(denoiser, low, Reduced(self.factor)) if exact else denoiser

    def sample(
        self,
        low: Tensor,
        noise: SeededNoise,
        *,
        clean: Tensor | None = None,
        strength: float = 1.0,
        wrap: Callable[[Denoiser], Denoiser] = lambda denoiser: denoiser,
    ) -> Iterator[Step]:
        """Enlarge the base's images [B,C,h,w]; with `clean` [B,C,H,W], from that image with a denoising strength."""
        level = self.network.upper_config.sample_noise
        low = noised(low, torch.full((len(low),), level), noise(low))
        times = self.times(1.0 if clean is None else strength)
        x = float(self.schedule.sigma(times[0])) * noise.start(self._shape(low)).to(low)
        if clean is not None:
            x = float(self.schedule.alpha(times[0])) * clean + x
        return dpmpp_2m(wrap(self.denoiser(low, level)), x, times, noise)

    def _shape(self, low: Tensor) -> tuple[int, int, int]:
        return low.shape[1], low.shape[2] * self.factor, low.shape[3] * self.factor

    @torch.no_grad()
    def enlarged(self, low: Tensor, noise: SeededNoise) -> Iterator[Step]:
        """Any image [B,C,h,w] enlarged: the last Step's x, which equals `low` when it is reduced and within [-1,1]."""
        x = noise.start(self._shape(low)).to(low)
        yield from dpmpp_2m(self.denoiser(low, exact=True), x, self.times(), noise)


@dataclass(frozen=True, slots=True)
class _Consistent:
    """A denoiser whose estimates equal `low` when they are reduced: null-space projection (arXiv 2212.00490, eq. 13)."""

    denoiser: Denoiser
    low: Tensor
    reduction: Reduced

    @property
    def schedule(self) -> NoiseSchedule:
        return self.denoiser.schedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        estimate = self.denoiser(x_t, t)
        return self.reduction.proximal(self.low, estimate, estimate.new_zeros(()))

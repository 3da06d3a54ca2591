"""Data whose every quantity is known: the expected clean image, the probability flow, the density at any noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import alpha_sigma
from diffstudio.diffusion.schedule import NoiseSchedule, RectifiedFlow, Schedule, VarianceExploding, VariancePreserving

SCHEDULES: dict[str, Schedule] = {
    "linear": VariancePreserving.linear(),
    "scaled_linear": VariancePreserving.scaled_linear(),
    "cosine": VariancePreserving.cosine(),
    "sigmoid": VariancePreserving.sigmoid(),
    "zero_terminal_snr": VariancePreserving.scaled_linear().with_zero_terminal_snr(),
    "variance_exploding": VarianceExploding(),
    "rectified_flow": RectifiedFlow(),
    "shifted_flow": RectifiedFlow(shift=3.0),
}


def float64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@dataclass(frozen=True)
class Point:
    """All images are one image."""

    schedule: NoiseSchedule
    value: float = 0.7

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        return torch.full_like(x_t, self.value)


@dataclass(frozen=True)
class Gaussian:
    """Independent pixels, each N(mean, deviation^2)."""

    schedule: NoiseSchedule
    mean: float = 0.7
    deviation: float = 0.4

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = alpha_sigma(self.schedule, t, x_t)
        gain = alpha * self.deviation**2 / ((alpha * self.deviation) ** 2 + sigma**2)
        return self.mean + gain * (x_t - alpha * self.mean)

    def deviation_at(self, t: Tensor) -> Tensor:
        return ((self.schedule.alpha(t) * self.deviation) ** 2 + self.schedule.sigma(t) ** 2).sqrt()

    def flow(self, x: Tensor, t: Tensor, t_next: Tensor) -> Tensor:
        """The probability flow keeps a pixel as many deviations from the mean as it is."""
        score = (x - self.schedule.alpha(t) * self.mean) / self.deviation_at(t)
        return self.schedule.alpha(t_next) * self.mean + score * self.deviation_at(t_next)


@dataclass(frozen=True)
class Mixture:
    """Independent pixels, each from one of several Gaussians."""

    schedule: NoiseSchedule
    weights: Sequence[float] = (0.3, 0.7)
    means: Sequence[float] = (-1.0, 0.6)
    deviations: Sequence[float] = (0.3, 0.2)

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        x, weights, means, deviations = self._parts(x_t)
        alpha, sigma = (level.unsqueeze(-1) for level in alpha_sigma(self.schedule, t, x_t))
        variance = (alpha * deviations) ** 2 + sigma**2
        away = x - alpha * means
        belongs = (weights.log() - variance.log() / 2 - away**2 / (2 * variance)).softmax(-1)
        return (belongs * (means + alpha * deviations**2 / variance * away)).sum(-1)

    def quantile_of(self, x: Tensor, t: Tensor) -> Tensor:
        x, weights, means, deviations = self._parts(x)
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        return (weights * torch.special.ndtr((x - alpha * means) / ((alpha * deviations) ** 2 + sigma**2).sqrt())).sum(
            -1
        )

    def flow(self, x: Tensor, t: Tensor, t_next: Tensor) -> Tensor:
        """In one dimension paths never cross, so that the probability flow keeps quantiles: found by bisection."""
        quantile = self.quantile_of(x, t)
        low, high = torch.full_like(x, -500.0), torch.full_like(x, 500.0)
        for _ in range(100):
            middle = (low + high) / 2
            below = self.quantile_of(middle, t_next) < quantile
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return x.unsqueeze(-1), x.new_tensor(self.weights), x.new_tensor(self.means), x.new_tensor(self.deviations)


def no_noise(like: Tensor) -> Tensor:
    raise AssertionError("a sampler without noise asked for some")


def log_snr_ladder(schedule: Schedule, first: float, last: float, steps: int) -> Tensor:
    """Even steps between two finite log-SNRs: smooth all the way, so that orders of convergence can be seen."""
    return schedule.t_from_log_snr(torch.linspace(first, last, steps + 1, dtype=torch.float64))

"""Training losses: which noise levels are drawn, how much each counts, and the loss itself.

A loss is always a weighted squared error of the clean estimate; predicting noise, v or velocity differs from it by a
weight that is a function of the noise level alone (Kingma & Gao 2023), so one function serves every kind of network.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import Protocol

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import Denoiser, levels
from diffstudio.diffusion.schedule import NoiseSchedule, Schedule, VariancePreserving


class NoiseLevels(Protocol):
    """A distribution of training times."""

    def sample(self, count: int, schedule: Schedule, generator: torch.Generator) -> Tensor:
        """t [count] float32 on the generator's device, between t_min and t_max of the schedule."""
        ...


@dataclass(frozen=True)
class UniformTimes:
    """Every time alike; every training step alike where there are steps: Ho et al. 2020, Algorithm 1."""

    def sample(self, count: int, schedule: Schedule, generator: torch.Generator) -> Tensor:
        if isinstance(schedule, VariancePreserving):
            steps = torch.randint(1, schedule.steps + 1, (count,), generator=generator, device=generator.device)
            return steps.float()
        return _within(schedule, schedule.t_max * _uniform(count, generator))


@dataclass(frozen=True)
class LogNormalSigma:
    """log(sigma / alpha) ~ N(mean, deviation^2): Karras et al. 2022, Table 1."""

    mean: float = -1.2
    deviation: float = 1.2

    def sample(self, count: int, schedule: Schedule, generator: torch.Generator) -> Tensor:
        log_sigma = self.mean + self.deviation * _normal(count, generator)
        return _within(schedule, schedule.t_from_log_snr(-2 * log_sigma))


@dataclass(frozen=True)
class LogitNormalTimes:
    """logit(t / t_max) ~ N(mean, deviation^2), a positive mean leaning to noise: Esser et al. 2024, eq. 19."""

    mean: float = 0.0
    deviation: float = 1.0

    def sample(self, count: int, schedule: Schedule, generator: torch.Generator) -> Tensor:
        logit = self.mean + self.deviation * _normal(count, generator)
        return _within(schedule, schedule.t_max * torch.sigmoid(logit))


@dataclass(frozen=True)
class CosineTimes:
    """sigma / alpha = tan(u * pi / 2) for uniform u: the cosine schedule seen as a distribution, Kingma & Gao 2023."""

    def sample(self, count: int, schedule: Schedule, generator: torch.Generator) -> Tensor:
        angle = pi / 2 * _uniform(count, generator)
        return _within(schedule, schedule.t_from_log_snr(-2 * angle.tan().log()))


class Weighting(Protocol):
    """How much the squared error of a clean estimate counts: schedule, t [B] -> w [B]."""

    def __call__(self, schedule: NoiseSchedule, t: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class UniformWeighting:
    def __call__(self, schedule: NoiseSchedule, t: Tensor) -> Tensor:
        return torch.ones_like(t)


@dataclass(frozen=True)
class EDMWeighting:
    """(sigma^2 + sigma_data^2) / (sigma * sigma_data)^2: Karras et al. 2022, Table 1, their sigma being sigma / alpha."""

    sigma_data: float = 0.5

    def __call__(self, schedule: NoiseSchedule, t: Tensor) -> Tensor:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        return (alpha / sigma) ** 2 + self.sigma_data**-2


@dataclass(frozen=True)
class MinSNR:
    """min(SNR, gamma): Hang et al. 2023, eq. 8. With gamma infinite, the squared error of the noise: Ho et al. 2020."""

    gamma: float = 5.0

    def __call__(self, schedule: NoiseSchedule, t: Tensor) -> Tensor:
        return ((schedule.alpha(t) / schedule.sigma(t)) ** 2).clamp(max=self.gamma)


@dataclass(frozen=True)
class VelocityWeighting:
    """The squared error of the velocity eps - x_0 that the estimate implies: 1 / sigma^2 on a rectified flow.

    `sigma_floor` bounds it near the clean image, where a small error of the estimate is a huge one of the velocity.
    """

    sigma_floor: float = 0.05

    def __call__(self, schedule: NoiseSchedule, t: Tensor) -> Tensor:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        return ((alpha + sigma) / sigma.clamp(min=self.sigma_floor)) ** 2


def training_loss(denoiser: Denoiser, x_0: Tensor, t: Tensor, eps: Tensor, weighting: Weighting) -> Tensor:
    """w(t) * |D(x_t, t) - x_0|^2, averaged within each image: float32 [B], differentiable through the denoiser.

    x_0 and eps [B,C,H,W] float32, t [B] float32. Safe under autocast: only the network runs in half precision.
    """
    alpha, sigma = levels(denoiser.schedule, t, x_0)
    x_t = alpha * x_0 + sigma * eps
    error = denoiser(x_t, t).float() - x_0.float()
    return weighting(denoiser.schedule, t).to(error) * error.square().flatten(1).mean(1)


def _uniform(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, device=generator.device)


def _normal(count: int, generator: torch.Generator) -> Tensor:
    return torch.randn(count, generator=generator, device=generator.device)


def _within(schedule: Schedule, t: Tensor) -> Tensor:
    return t.clamp(schedule.t_min, schedule.t_max)

"""Training losses: distributions of noise levels, loss weightings, and the loss itself.

The loss is a weighted squared error of the estimate of x_0. Losses on noise, v or velocity differ from it by a weight
that depends on the noise level alone (Kingma & Gao 2023, arXiv 2303.00848), so one function serves every prediction
type.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import Protocol

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import Denoiser, alpha_sigma
from diffstudio.diffusion.schedule import NoiseSchedule, Schedule, VariancePreserving


class NoiseLevels(Protocol):
    """A distribution of the times, and so of the noise levels, that a network is trained at."""

    def sample(self, count: int, schedule: Schedule, generator: torch.Generator) -> Tensor:
        """t [count], float32 on the generator's device, from t_min to t_max of the schedule."""
        ...


@dataclass(frozen=True)
class UniformTimes:
    """t uniform, over the training steps where there are any: Ho et al. 2020 (arXiv 2006.11239), Algorithm 1."""

    def sample(self, count: int, schedule: Schedule, generator: torch.Generator) -> Tensor:
        if isinstance(schedule, VariancePreserving):
            steps = torch.randint(1, schedule.steps + 1, (count,), generator=generator, device=generator.device)
            return steps.float()
        return _clamped(schedule, schedule.t_max * _uniform(count, generator))


@dataclass(frozen=True)
class LogNormalSigma:
    """log(sigma / alpha) ~ N(mean, deviation^2): Karras et al. 2022 (arXiv 2206.00364), Table 1."""

    mean: float = -1.2
    deviation: float = 1.2

    def sample(self, count: int, schedule: Schedule, generator: torch.Generator) -> Tensor:
        log_sigma = self.mean + self.deviation * _normal(count, generator)
        return _clamped(schedule, schedule.t_from_log_snr(-2 * log_sigma))


@dataclass(frozen=True)
class LogitNormalTimes:
    """logit(t / t_max) ~ N(mean, deviation^2): Esser et al. 2024 (arXiv 2403.03206), eq. 19.

    A positive mean prefers high noise levels.
    """

    mean: float = 0.0
    deviation: float = 1.0

    def sample(self, count: int, schedule: Schedule, generator: torch.Generator) -> Tensor:
        logit = self.mean + self.deviation * _normal(count, generator)
        return _clamped(schedule, schedule.t_max * torch.sigmoid(logit))


@dataclass(frozen=True)
class CosineTimes:
    """sigma / alpha = tan(u * pi / 2) with u uniform: the cosine schedule of Kingma & Gao 2023 (arXiv 2303.00848)."""

    def sample(self, count: int, schedule: Schedule, generator: torch.Generator) -> Tensor:
        angle = pi / 2 * _uniform(count, generator)
        return _clamped(schedule, schedule.t_from_log_snr(-2 * angle.tan().log()))


class Weighting(Protocol):
    """The weight of the squared error of the x_0 estimate: schedule, t [B] -> w [B]."""

    def __call__(self, schedule: NoiseSchedule, t: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class UniformWeighting:
    """w = 1: the plain squared error of the x_0 estimate."""

    def __call__(self, schedule: NoiseSchedule, t: Tensor) -> Tensor:
        return torch.ones_like(t)


@dataclass(frozen=True)
class EDMWeighting:
    """(sigma^2 + sigma_data^2) / (sigma * sigma_data)^2: Karras et al. 2022 (arXiv 2206.00364), Table 1.

    Their sigma is sigma / alpha here.
    """

    sigma_data: float = 0.5

    def __call__(self, schedule: NoiseSchedule, t: Tensor) -> Tensor:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        return (alpha / sigma) ** 2 + self.sigma_data**-2


@dataclass(frozen=True)
class MinSNR:
    """min(SNR, gamma): Min-SNR-gamma, Hang et al. 2023 (arXiv 2303.09556), for x_0 prediction.

    With gamma infinite it is the squared error of the noise: Ho et al. 2020 (arXiv 2006.11239), eq. 14.
    """

    gamma: float = 5.0

    def __call__(self, schedule: NoiseSchedule, t: Tensor) -> Tensor:
        return ((schedule.alpha(t) / schedule.sigma(t)) ** 2).clamp(max=self.gamma)


@dataclass(frozen=True)
class VelocityWeighting:
    """The squared error of the velocity eps - x_0 implied by the estimate: 1 / sigma^2 for a rectified flow.

    JiT, Li & He 2025 (arXiv 2511.13720), Table 1. `sigma_floor` bounds the weight near the clean image, where a small
    error of the estimate is a large error of the velocity.
    """

    sigma_floor: float = 0.05

    def __call__(self, schedule: NoiseSchedule, t: Tensor) -> Tensor:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        return ((alpha + sigma) / sigma.clamp(min=self.sigma_floor)) ** 2


@dataclass(frozen=True)
class VWeighting:
    """The squared error of v = alpha * eps - sigma * x_0 implied by the estimate: Salimans & Ho 2022 (arXiv 2202.00512).

    `sigma_floor` as for `VelocityWeighting`.
    """

    sigma_floor: float = 0.05

    def __call__(self, schedule: NoiseSchedule, t: Tensor) -> Tensor:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        return ((alpha**2 + sigma**2) / sigma.clamp(min=self.sigma_floor)) ** 2


@dataclass(frozen=True)
class LikelihoodWeighting:
    """-SNR'(t) / 2: with uniform times the loss is the variational bound of the data, up to a constant.

    In nats per value: Kingma et al. 2021 (arXiv 2107.00630), eq. 14; Song et al. 2021 (arXiv 2101.09258). The weight grows
    like t^-3 for a rectified flow, and stays that of `t_floor` below it, or the loss would be of the smallest noise alone.
    """

    t_floor: float = 0.05

    def __call__(self, schedule: NoiseSchedule, t: Tensor) -> Tensor:
        with torch.enable_grad():
            at = t.detach().clamp(min=self.t_floor).requires_grad_()
            snr = (schedule.alpha(at) / schedule.sigma(at)) ** 2
            (slope,) = torch.autograd.grad(snr.sum(), at)
        return -slope / 2


def training_loss(
    denoiser: Denoiser, x_0: Tensor, t: Tensor, eps: Tensor, weighting: Weighting, pixel_weights: Tensor | None = None
) -> Tensor:
    """w(t) * |D(x_t, t) - x_0|^2, averaged over each image: float32 [B], differentiable through the denoiser.

    x_0 and eps are [B,C,H,W] float32, t is [B] float32. The loss is computed in float32, also with an autocast network.
    `pixel_weights` [B,1,H,W] are those of masked training, as in kohya-ss and OneTrainer: the mean is over all pixels.
    """
    estimate = estimated(denoiser, x_0, t, eps)
    return weighted_error(denoiser.schedule, estimate, x_0, t, weighting, pixel_weights)


def estimated(denoiser: Denoiser, x_0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """D(x_t, t) as float32, where x_t is x_0 with the noise eps of time t."""
    alpha, sigma = alpha_sigma(denoiser.schedule, t, x_0)
    return denoiser(alpha * x_0 + sigma * eps, t).float()


def weighted_error(
    schedule: NoiseSchedule,
    estimate: Tensor,
    x_0: Tensor,
    t: Tensor,
    weighting: Weighting,
    pixel_weights: Tensor | None = None,
) -> Tensor:
    """`training_loss` of estimates that are computed already."""
    error = estimate - x_0.float()
    squared = error.square() if pixel_weights is None else error.square() * pixel_weights.to(error)
    return weighting(schedule, t).to(error) * squared.flatten(1).mean(1)


def _uniform(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, device=generator.device)


def _normal(count: int, generator: torch.Generator) -> Tensor:
    return torch.randn(count, generator=generator, device=generator.device)


def _clamped(schedule: Schedule, t: Tensor) -> Tensor:
    return t.clamp(schedule.t_min, schedule.t_max)

"""Denoisers: whatever a network was trained to say, said as the expected clean image.

Samplers and losses know this one thing. Each wrapper cites what its network predicts and solves for x_0; the network
gets x_t and the time as it learnt it, and may answer in half precision: the estimate has the dtype of x_t.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from diffstudio.diffusion.schedule import NoiseSchedule, VariancePreserving

Network = Callable[[Tensor, Tensor], Tensor]  # x_t [B,C,H,W], its own time [B] -> its prediction [B,C,H,W]


class Denoiser(Protocol):
    """x_t [B,C,H,W], t [B] -> the expected clean x_0 [B,C,H,W]."""

    @property
    def schedule(self) -> NoiseSchedule: ...

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class EpsPrediction:
    """The network predicts the noise: Ho et al. 2020. ValueError where alpha = 0, for x_t is that noise there."""

    network: Network
    schedule: NoiseSchedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        if bool((self.schedule.alpha(t) == 0).any()):
            raise ValueError("a network that predicts noise cannot start from noise alone: alpha is 0 there")
        alpha, sigma = levels(self.schedule, t, x_t)
        eps = _predict(self.network, self.schedule, x_t, t)
        return (x_t - sigma * eps) / alpha


@dataclass(frozen=True)
class VPrediction:
    """The network predicts v = alpha * eps - sigma * x_0: Salimans & Ho 2022."""

    network: Network
    schedule: NoiseSchedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = levels(self.schedule, t, x_t)
        v = _predict(self.network, self.schedule, x_t, t)
        return (alpha * x_t - sigma * v) / (alpha**2 + sigma**2)


@dataclass(frozen=True)
class CleanPrediction:
    """The network predicts x_0 itself."""

    network: Network
    schedule: NoiseSchedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        return _predict(self.network, self.schedule, x_t, t)


@dataclass(frozen=True)
class FlowPrediction:
    """The network predicts the velocity eps - x_0 of the straight line from image to noise: Liu et al. 2022."""

    network: Network
    schedule: NoiseSchedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = levels(self.schedule, t, x_t)
        velocity = _predict(self.network, self.schedule, x_t, t)
        return (x_t - sigma * velocity) / (alpha + sigma)


@dataclass(frozen=True)
class EDMPreconditioned:
    """The network predicts what keeps its inputs and targets at unit variance: Karras et al. 2022, eq. 7 and Table 1.

    `sigma_data` is the standard deviation of the data. The network's own time is c_noise = log(sigma / alpha) / 4.
    """

    network: Network
    schedule: NoiseSchedule
    sigma_data: float = 0.5

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = levels(self.schedule, t, x_t)
        variance = sigma**2 + (self.sigma_data * alpha) ** 2  # of x_t
        c_skip = self.sigma_data**2 * alpha / variance
        c_out = self.sigma_data * sigma * variance.rsqrt()
        c_in = variance.rsqrt()
        c_noise = (sigma / alpha).flatten().log() / 4  # [B]
        return c_skip * x_t + c_out * self.network(c_in * x_t, c_noise).to(x_t.dtype)


def levels(schedule: NoiseSchedule, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """alpha(t) and sigma(t) [B,1,...] where `like` [B,...] lies, ready to be multiplied with it."""
    shape = (-1, *(1,) * (like.ndim - 1))
    return schedule.alpha(t).to(like).view(shape), schedule.sigma(t).to(like).view(shape)


def _predict(network: Network, schedule: NoiseSchedule, x_t: Tensor, t: Tensor) -> Tensor:
    own_time = t - 1 if isinstance(schedule, VariancePreserving) else t  # training step k is index k - 1
    return network(x_t, own_time.to(x_t)).to(x_t.dtype)

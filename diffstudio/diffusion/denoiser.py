"""Denoisers: any network's prediction converted to the expected clean image.

Samplers and losses use denoisers only. Each wrapper cites the prediction of its network and solves it for x_0. The
network is given x_t and the time in its own convention, and may return half precision: the estimate has the dtype of
x_t.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from diffstudio.diffusion.objectives.parameterisation import Parameterisation, Prediction
from diffstudio.diffusion.schedule import NoiseSchedule, RectifiedFlow, VariancePreserving

# The largest sigma / alpha at which these predictions are evaluated on a rectified flow, where it is infinite at t = 1.
LARGEST_SIGMA = {
    Prediction.EDM: 80.0,  # Karras et al. 2022 (arXiv 2206.00364), Table 1
    Prediction.EPS: 20.0,  # it multiplies the error of eps; Stable Diffusion ends at 14.6
}

Network = Callable[[Tensor, Tensor], Tensor]  # x_t [B,C,H,W], the network's own time [B] -> its prediction [B,C,H,W]


class Denoiser(Protocol):
    """x_t [B,C,H,W], t [B] -> the expected clean x_0 [B,C,H,W]."""

    @property
    def schedule(self) -> NoiseSchedule: ...

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class EpsPrediction:
    """The network predicts the noise: Ho et al. 2020 (arXiv 2006.11239), eq. 15.

    ValueError where alpha = 0, since x_t does not depend on x_0 there.
    """

    network: Network
    schedule: NoiseSchedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        if bool((self.schedule.alpha(t) == 0).any()):
            raise ValueError("an eps-prediction network cannot be sampled at alpha = 0 (zero terminal SNR)")
        alpha, sigma = alpha_sigma(self.schedule, t, x_t)
        eps = _predict(self.network, self.schedule, x_t, t)
        return (x_t - sigma * eps) / alpha


@dataclass(frozen=True)
class VPrediction:
    """The network predicts v = alpha * eps - sigma * x_0: Salimans & Ho 2022 (arXiv 2202.00512), section 4."""

    network: Network
    schedule: NoiseSchedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = alpha_sigma(self.schedule, t, x_t)
        v = _predict(self.network, self.schedule, x_t, t)
        return (alpha * x_t - sigma * v) / (alpha**2 + sigma**2)


@dataclass(frozen=True)
class CleanPrediction:
    """The network predicts x_0 itself: the "sample" prediction of diffusers."""

    network: Network
    schedule: NoiseSchedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        return _predict(self.network, self.schedule, x_t, t)


@dataclass(frozen=True)
class FlowPrediction:
    """The network predicts the velocity eps - x_0 of a straight path from image to noise.

    Rectified flow, Liu et al. 2022 (arXiv 2209.03003); flow matching with optimal-transport paths, Lipman et al. 2022
    (arXiv 2210.02747).
    """

    network: Network
    schedule: NoiseSchedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = alpha_sigma(self.schedule, t, x_t)
        velocity = _predict(self.network, self.schedule, x_t, t)
        return (x_t - sigma * velocity) / (alpha + sigma)


@dataclass(frozen=True)
class EDMPreconditioned:
    """The preconditioned network F of EDM: Karras et al. 2022 (arXiv 2206.00364), eq. 7 and Table 1.

    Their sigma is sigma / alpha here. `sigma_data` is the standard deviation of the data. The network's own time is
    c_noise = log(sigma / alpha) / 4.
    """

    network: Network
    schedule: NoiseSchedule
    sigma_data: float = 0.5

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = alpha_sigma(self.schedule, t, x_t)
        variance = sigma**2 + (self.sigma_data * alpha) ** 2  # of x_t
        c_skip = self.sigma_data**2 * alpha / variance
        c_out = self.sigma_data * sigma * variance.rsqrt()
        c_in = variance.rsqrt()
        c_noise = (sigma / alpha).flatten().log() / 4  # [B]
        return c_skip * x_t + c_out * self.network(c_in * x_t, c_noise).to(x_t.dtype)


@dataclass(frozen=True)
class LimitedNoise:
    """Evaluates a denoiser at `t_max` for all later times, where the prediction of its network is undefined."""

    denoiser: Denoiser
    t_max: float

    @property
    def schedule(self) -> NoiseSchedule:
        return self.denoiser.schedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.denoiser(x_t, t.clamp(max=self.t_max))


@dataclass(frozen=True)
class MinTimestep:
    """Evaluates a denoiser at `t_min` for all smaller times, with x_t scaled as it would be there. For samplers only.

    The errors of a network's estimates add to the noise, so that a state in a sampler has more of it than its time says:
    exposure bias (Ning et al. 2023, arXiv 2308.15321). A network that is told of too little noise keeps what was added.
    """

    denoiser: Denoiser
    t_min: float

    @property
    def schedule(self) -> NoiseSchedule:
        return self.denoiser.schedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        told = t.clamp(min=self.t_min)
        alpha, _ = alpha_sigma(self.schedule, t, x_t)
        alpha_told, _ = alpha_sigma(self.schedule, told, x_t)
        scale = (alpha_told / alpha).where(alpha_told != alpha, alpha.new_ones(()))  # both may be 0
        return self.denoiser(x_t * scale, told)


Clip = Callable[[Tensor], Tensor]  # an estimate of x_0 [B,C,H,W] -> the clipped estimate


@dataclass(frozen=True)
class Clipped:
    """A denoiser whose estimates are clipped. What a sampler takes for the noise in x_t then follows from the clipped one."""

    denoiser: Denoiser
    clip: Clip

    @property
    def schedule(self) -> NoiseSchedule:
        return self.denoiser.schedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.clip(self.denoiser(x_t, t))


def clipped_to(limit: float) -> Clip:
    """Clip values to [-limit,limit]: `clip_sample` of diffusers' schedulers."""
    return lambda estimate: estimate.clamp(-limit, limit)


def dynamically_thresholded(ratio: float, largest: float) -> Clip:
    """Dynamic thresholding: Saharia et al. 2022 (arXiv 2205.11487), section 2.3.

    s is the quantile `ratio` of the absolute values of each image, at least 1 and at most `largest`. Values are clipped
    to [-s,s] and divided by s.
    """

    def threshold(estimate: Tensor) -> Tensor:
        s = estimate.abs().flatten(1).quantile(ratio, dim=1).clamp(1, largest).view(-1, 1, 1, 1)
        return estimate.clamp(-s, s) / s

    return threshold


def denoiser_for(parameterisation: Parameterisation, network: Network, schedule: RectifiedFlow) -> Denoiser:
    """The denoiser of a network with this parameterisation, for all t from 0 to 1.

    At t = 1, x_t is pure noise: an eps prediction does not determine the clean image there, and EDM's c_noise is infinite.
    Both are evaluated at LARGEST_SIGMA instead.
    """
    match parameterisation.prediction:
        case Prediction.X0:
            return CleanPrediction(network, schedule)
        case Prediction.VELOCITY:
            return FlowPrediction(network, schedule)
        case Prediction.V:
            return VPrediction(network, schedule)
        case Prediction.EPS:
            return _limited(EpsPrediction(network, schedule), Prediction.EPS)
    return _limited(EDMPreconditioned(network, schedule, parameterisation.sigma_data), Prediction.EDM)


def _limited(denoiser: Denoiser, prediction: Prediction) -> LimitedNoise:
    sigma = LARGEST_SIGMA[prediction]
    return LimitedNoise(denoiser, sigma / (1 + sigma))


def alpha_sigma(schedule: NoiseSchedule, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """alpha(t) and sigma(t), each [B,1,...] to broadcast with `like` [B,...], in its dtype and on its device."""
    shape = (-1, *(1,) * (like.ndim - 1))
    return schedule.alpha(t).to(like).view(shape), schedule.sigma(t).to(like).view(shape)


def _predict(network: Network, schedule: NoiseSchedule, x_t: Tensor, t: Tensor) -> Tensor:
    # Training step k is the network's timestep k - 1.
    timestep = t - 1 if isinstance(schedule, VariancePreserving) else t
    return network(x_t, timestep.to(x_t)).to(x_t.dtype)

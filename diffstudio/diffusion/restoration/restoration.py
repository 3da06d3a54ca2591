"""Image restoration with a denoiser: the posterior mean and posterior samples of x given y = A x + n.

Denoising (A = I) needs no approximation: alpha y is x_t at the noise's own level. One call there is the posterior mean,
and the reverse process from there draws a sample. A network's errors would add up on that way, so that an estimate is
moved back to y where it is further from it than the noise explains, which exact estimates are not.

Other degradations run the reverse process from noise with the estimate of x given y in place of that of x alone: the
denoiser's estimate D(x_t), then the proximal step of the data (see `degradations`), then new noise: DiffPIR, Zhu et al.
2023 (arXiv 2305.08995), Algorithm 1, with all noise drawn anew. x given x_t is taken for N(D(x_t), r^2 I), which is exact
for white Gaussian data. The mean of several samples is near the posterior mean. The errors of a network are smooth, and
what y says of them beside a hole holds inside it too (see `continuation`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.diffusion.noise import Noise
from diffstudio.diffusion.restoration.continuation import continued
from diffstudio.diffusion.restoration.degradations import Degradation, Identity, Masked
from diffstudio.diffusion.restoration.unbiased_risk import PROBE_STEP, corrected_estimate
from diffstudio.diffusion.samplers import Step, dpmpp_2m_sde
from diffstudio.diffusion.schedule import NoiseSchedule, Schedule

DATA_VARIANCE = 0.25  # of the values of images in [-1,1]: Karras et al. 2022 (arXiv 2206.00364), sigma_data
_HIGHEST, _LOWEST = 80.0, 0.02  # sigma / alpha of the first step after pure noise, and of the last network call
_SIGNIFICANT = 3.0  # standard deviations


@dataclass(frozen=True)
class ConditionedDenoiser:
    """A denoiser conditioned on y: the expected clean image given x_t and y.

    `noise` is the standard deviation of n in y [B,C,h,w]. r^2 is s^2 v / (s^2 + v), with s = sigma / alpha and the
    `variance` v of the data, or what y says of it where that is clearly more: a network that cannot draw some details
    is further from the data than its noise level explains, and has to trust y more (the discrepancy |A D - y|^2). With
    a variance of 0 that alone moves the estimate.
    """

    denoiser: Denoiser
    degradation: Degradation
    y: Tensor
    noise: float
    variance: float = DATA_VARIANCE

    @property
    def schedule(self) -> NoiseSchedule:
        return self.denoiser.schedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        estimate = self.denoiser(x_t, t)
        ratio = self.noise**2 / self.spread(estimate, float(t[0]))
        conditioned = self.degradation.proximal(self.y, estimate, ratio.view(-1, 1, 1, 1))
        if isinstance(self.degradation, Masked):
            return estimate + continued(conditioned - estimate, self.degradation.known > 0)
        return conditioned

    def spread(self, estimate: Tensor, t: float) -> Tensor:
        """r^2 of each image [B]."""
        time = torch.tensor(t, dtype=torch.float64)
        alpha2, sigma2 = float(self.schedule.alpha(time)) ** 2, float(self.schedule.sigma(time)) ** 2
        expected = sigma2 * self.variance / (sigma2 + alpha2 * self.variance)
        values = self.y[0].numel() * self.degradation.seen
        distance = (self.degradation.apply(estimate) - self.y).square().flatten(1).sum(1) / values
        found = (distance - self.noise**2) / self.degradation.gain
        unclear = _SIGNIFICANT * (2 / values) ** 0.5 * (expected + self.noise**2 / self.degradation.gain)
        return torch.where(found > expected + unclear, found, expected)


def posterior_mean(
    denoiser: Denoiser, schedule: Schedule, y: Tensor, noise: float, probe: Tensor | None = None
) -> Tensor:
    """E[x | y] of y = x + n [B,C,H,W] with the noise's standard deviation: one call at its own level.

    With a `probe` of random signs like y, a second call finds what of y the network cannot draw, and gives it back (see
    `unbiased_risk`); of an exact denoiser the result stays the posterior mean.
    """
    t = time_of(schedule, noise)
    alpha = float(schedule.alpha(torch.tensor(t, dtype=torch.float64)))

    def call(values: Tensor) -> Tensor:
        with torch.no_grad():
            return denoiser(alpha * values, torch.full((len(y),), t, dtype=torch.float64))

    estimate = call(y)
    if probe is None:
        return estimate
    return corrected_estimate(y, estimate, call(y + PROBE_STEP * noise * probe), probe, noise)


def denoised_samples(
    denoiser: Denoiser, schedule: Schedule, y: Tensor, noise: float, steps: int, draw: Noise
) -> Iterator[Step]:
    """The reverse process from y = x + n to a sample of x given y: the last Step's x [B,C,H,W]."""
    times = restoration_times(schedule, steps, noise)
    alpha = float(schedule.alpha(times[0]))
    return dpmpp_2m_sde(ConditionedDenoiser(denoiser, Identity(), y, noise, 0.0), alpha * y, times, draw)


def conditioned_samples(
    denoiser: ConditionedDenoiser, schedule: Schedule, start: Tensor, steps: int, draw: Noise
) -> Iterator[Step]:
    """The reverse process from standard-normal noise `start` [B,C,H,W] to samples of x given y."""
    times = restoration_times(schedule, steps)
    return dpmpp_2m_sde(denoiser, float(schedule.sigma(times[0])) * start, times, draw)


def time_of(schedule: Schedule, noise: float) -> float:
    """The time at which sigma / alpha is `noise`, at most t_max."""
    return float(schedule.t_from_log_snr(torch.tensor(-2 * math.log(noise), dtype=torch.float64)))


def restoration_times(schedule: Schedule, steps: int, noise: float | None = None) -> Tensor:
    """The times of `steps` network calls, float64 [steps + 1], falling to 0: even in log(sigma / alpha).

    From the level `noise`, or without one from t_max. ValueError for fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"{steps} steps")
    before: list[float] = []
    if noise is not None:
        first = noise
    else:
        log_snr = float(schedule.log_snr(torch.tensor(schedule.t_max, dtype=torch.float64)))
        if math.isfinite(log_snr):
            first = math.exp(-log_snr / 2)
        else:
            first, before = _HIGHEST, [schedule.t_max]
    calls = steps - len(before)
    last = min(_LOWEST, first / 2) if calls > 1 else first
    levels = torch.linspace(math.log(first), math.log(last), calls, dtype=torch.float64)
    end = torch.zeros(1, dtype=torch.float64)
    return torch.cat([torch.tensor(before, dtype=torch.float64), schedule.t_from_log_snr(-2 * levels), end])


def blended(mean: Tensor, sample: Tensor, share: float) -> Tensor:
    """mean + share (sample - mean): from the posterior mean at 0 to a sample at 1.

    Its expectation is the mean and its covariance share^2 times the posterior's, so that its squared error is
    (1 + share^2) times the least one: 3 dB more at 1. Such straight lines between the two ends are the best trade of
    error for realism: Freirich et al. 2021 (arXiv 2107.02555), section 3.
    """
    return mean + share * (sample - mean)

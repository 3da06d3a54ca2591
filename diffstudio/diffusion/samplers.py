"""Samplers: from noise to an image in a sequence of denoising steps, written as generators that yield a `Step` each.

    x            [B,C,H,W]   the state at times[0]; all arithmetic is done in its dtype and on its device
    times        [steps + 1] falling, usually to 0; converted to float64 on the CPU
    denoiser     called without gradients, one or two times per step
    noise        called by the stochastic samplers only

The caller may inspect each step, pause between steps or stop iterating at any time.

All samplers share one update. The state is split into the denoised image and the noise, x = alpha * D + sigma * eps,
and recombined at the next noise level, with a share eta of the noise drawn anew. Samplers differ in how they estimate D
and in eta. Since the update is written in alpha and sigma alone, it holds for every schedule, also where alpha(t_max) =
0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import CleanPrediction, Clip, Denoiser
from diffstudio.diffusion.noise import Noise
from diffstudio.diffusion.schedule import NoiseSchedule, RectifiedFlow, Schedule


@dataclass(frozen=True, slots=True)
class Step:
    """One finished denoising step."""

    index: int  # 1 .. steps
    t: float  # the time just reached
    x: Tensor  # the state at that time; the last Step's x is the sample
    denoised: Tensor  # the newest estimate of x_0 on the way there


Sampler = Callable[[Denoiser, Tensor, Tensor, Noise], Iterator[Step]]  # denoiser, x, times, noise


# ---- the update that all samplers share ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Interval:
    """The interval from t to t_next that one step covers, with the schedule's values at both ends."""

    index: int  # 1 .. steps
    t: float
    alpha: float
    sigma: float
    scheduler_sigma: float  # Schedule.scheduler_sigma
    t_next: float
    alpha_next: float
    sigma_next: float
    scheduler_sigma_next: float

    @property
    def h(self) -> float:
        """The step size in lambda = log(alpha / sigma), half the log-SNR: h of Lu et al. 2022 (arXiv 2211.01095).

        Infinite where the interval starts at alpha = 0 or ends at sigma = 0.
        """
        if self.alpha == 0 or self.sigma_next == 0:
            return math.inf
        return math.log(self.alpha_next / self.sigma_next) - math.log(self.alpha / self.sigma)

    @property
    def has_second_slope(self) -> bool:
        """Whether Heun's method evaluates the denoiser at t_next too: not at infinite sigma / alpha, nor at sigma = 0."""
        return math.isfinite(self.scheduler_sigma) and self.sigma_next > 0

    def second_order_estimate(self, denoised: Tensor, denoised_next: Tensor) -> Tensor:
        """The estimate to use for the whole interval, given those at its two ends.

        dz/ds = (z - D) / s (see `heun`) is solved exactly for an estimate D that is linear in s. The weights of the two
        estimates are positive and add up to 1, however long the step.
        """
        ratio = self.scheduler_sigma_next / self.scheduler_sigma
        weight = (-ratio * math.log(ratio) / (1 - ratio) - ratio) / (1 - ratio)
        return torch.lerp(denoised_next, denoised, weight)

    def update(self, x: Tensor, denoised: Tensor, eta: float = 0.0, noise: Noise | None = None) -> Tensor:
        """The state at t_next given the estimate `denoised` of x_0: DDIM, Song et al. 2020 (arXiv 2010.02502), eq. 12.

        `eta` sets the share of new noise as in their eq. 16: 0 is the deterministic DDIM, 1 the posterior of DDPM.
        """
        sigma_new = eta * self.sigma_next * math.sqrt(-math.expm1(-2 * self.h))
        sigma_kept = math.sqrt(self.sigma_next**2 - sigma_new**2)
        ratio = sigma_kept / self.sigma
        x = ratio * x + (self.alpha_next - ratio * self.alpha) * denoised
        return x + sigma_new * noise(x) if noise is not None and sigma_new > 0 else x


def _intervals(schedule: NoiseSchedule, times: Tensor) -> Iterator[_Interval]:
    """The intervals between consecutive times, all values computed in float64. ValueError unless the times fall."""
    times = times.to("cpu", torch.float64)
    if times.ndim != 1 or len(times) < 2 or not bool((times.diff() < 0).all()):
        raise ValueError("times must be a 1-D tensor of at least two strictly decreasing values")
    if isinstance(schedule, Schedule):
        scheduler_sigma = schedule.scheduler_sigma(times)
    else:
        scheduler_sigma = schedule.sigma(times) / schedule.alpha(times)
    levels = torch.stack([times, schedule.alpha(times), schedule.sigma(times), scheduler_sigma], dim=1).tolist()
    return (_Interval(index, *start, *end) for index, (start, end) in enumerate(pairwise(levels), start=1))


@torch.no_grad()  # a decorator, because around a yield the mode would leak to the caller
def _estimate(denoiser: Denoiser, x: Tensor, t: float) -> Tensor:
    return denoiser(x, torch.full((len(x),), t, dtype=torch.float64))


# ---- first order: one network call per step --------------------------------------------------------------------------


def euler(denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise) -> Iterator[Step]:
    """Euler's method on the probability flow ODE: Karras et al. 2022 (arXiv 2206.00364), Algorithm 1, lines 1 to 5."""
    return _first_order(denoiser, x, times, noise, eta=0)


def ddim(denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise, *, clip: Clip | None = None) -> Iterator[Step]:
    """DDIM with eta = 0: Song et al. 2020 (arXiv 2010.02502), eq. 12. Without `clip` the same algorithm as `euler`.

    With `clip` the estimate is clipped, but the noise of eq. 12 is still the one that the network predicts.
    """
    if clip is None:
        yield from _first_order(denoiser, x, times, noise, eta=0)
        return
    for interval in _intervals(denoiser.schedule, times):
        denoised = _estimate(denoiser, x, interval.t)
        eps = (x - interval.alpha * denoised) / interval.sigma
        denoised = clip(denoised)
        x = interval.alpha_next * denoised + interval.sigma_next * eps
        yield Step(interval.index, interval.t_next, x, denoised)


def ddpm(denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise) -> Iterator[Step]:
    """Ancestral sampling with the posterior variance: Ho et al. 2020 (arXiv 2006.11239), Algorithm 2 and eq. 7."""
    return _first_order(denoiser, x, times, noise, eta=1)


def euler_ancestral(denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise) -> Iterator[Step]:
    """An Euler step below the next noise level, then new noise up to it (k-diffusion). The same algorithm as `ddpm`."""
    return _first_order(denoiser, x, times, noise, eta=1)


def _first_order(denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise, eta: float) -> Iterator[Step]:
    for interval in _intervals(denoiser.schedule, times):
        denoised = _estimate(denoiser, x, interval.t)
        x = interval.update(x, denoised, eta, noise)
        yield Step(interval.index, interval.t_next, x, denoised)


def lcm(denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise) -> Iterator[Step]:
    """Multistep consistency sampling, all noise drawn anew in every step.

    Song et al. 2023 (arXiv 2303.01469), Algorithm 1; for latent consistency models Luo et al. 2023 (arXiv 2310.04378).
    """
    for interval in _intervals(denoiser.schedule, times):
        denoised = _estimate(denoiser, x, interval.t)
        x = interval.alpha_next * denoised
        if interval.sigma_next > 0:
            x = x + interval.sigma_next * noise(x)
        yield Step(interval.index, interval.t_next, x, denoised)


# ---- second order: two network calls per step ------------------------------------------------------------------------

HEUN_STEP_OF_CLEAN_PREDICTION = 4.0  # see longest_heun_step


def heun(denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise, *, longest: float | None = None) -> Iterator[Step]:
    """Heun's method: Karras et al. 2022 (arXiv 2206.00364), Algorithm 1. One call where an end has no slope.

    With s the scheduler sigma (sigma / alpha, or t of a flow) and z = s * x / sigma the ODE is dz/ds = (z - D) / s;
    each step averages the slopes at its two ends. That magnifies an error of the second estimate by s / s_next, so a
    step with a ratio above `longest` averages the estimates instead; by default above `longest_heun_step`.
    """
    if longest is None:
        longest = longest_heun_step(denoiser)
    for interval in _intervals(denoiser.schedule, times):
        denoised = denoised_start = _estimate(denoiser, x, interval.t)
        x_next = interval.update(x, denoised)
        if interval.has_second_slope:
            s, s_next = interval.scheduler_sigma, interval.scheduler_sigma_next
            z = x * (s / interval.sigma)
            slope = (z - denoised) / s
            denoised = _estimate(denoiser, x_next, interval.t_next)
            if s <= longest * s_next:
                slope_next = (x_next * (s_next / interval.sigma_next) - denoised) / s_next
                x_next = (z + (s_next - s) * (slope + slope_next) / 2) * (interval.sigma_next / s_next)
            else:
                x_next = interval.update(x, interval.second_order_estimate(denoised_start, denoised))
        x = x_next
        yield Step(interval.index, interval.t_next, x, denoised)


def longest_heun_step(denoiser: Denoiser) -> float:
    """The largest ratio s / s_next over which `heun` averages slopes, as the schedulers of diffusers do on any step.

    A network that predicts the velocity of a flow predicts the slope itself, at any time. One that predicts the clean
    image of a flow does not: 4 allows even steps, which end with 2. Elsewhere 64: few steps of Stable Diffusion reach
    60, and the first step of a cosine schedule 1,000, after which nothing of the image would be left.
    """
    if not isinstance(denoiser.schedule, RectifiedFlow):
        return 64.0
    return HEUN_STEP_OF_CLEAN_PREDICTION if isinstance(denoiser, CleanPrediction) else math.inf


def network_calls(sampler: str, schedule: NoiseSchedule, times: Tensor) -> int:
    """How often `sampler` calls the denoiser for these times [steps + 1]: its number of function evaluations (NFE)."""
    intervals = list(_intervals(schedule, times))
    second_calls = sum(interval.has_second_slope for interval in intervals) if sampler == "heun" else 0
    return len(intervals) + second_calls


# ---- multistep second order: one network call per step, with the estimate of the step before -------------------------


def dpmpp_2m(denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise) -> Iterator[Step]:
    """DPM-Solver++(2M): Lu et al. 2022 (arXiv 2211.01095), Algorithm 2."""
    return _multistep(denoiser, x, times, noise, eta=0)


def dpmpp_2m_sde(denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise) -> Iterator[Step]:
    """SDE-DPM-Solver++(2M), the midpoint form: Lu et al. 2022 (arXiv 2211.01095)."""
    return _multistep(denoiser, x, times, noise, eta=1)


def _multistep(denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise, eta: float) -> Iterator[Step]:
    history = None
    for interval in _intervals(denoiser.schedule, times):
        denoised = _estimate(denoiser, x, interval.t)
        history = _Differences.following(history, interval, denoised)
        x = interval.update(x, history.predictor(), eta, noise)
        yield Step(interval.index, interval.t_next, x, denoised)


def unipc(denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise) -> Iterator[Step]:
    """UniPC of order 2 with B_2(h) = e^h - 1 in data prediction: Zhao et al. 2023 (arXiv 2302.04867).

    The predictor is that of `dpmpp_2m`; the corrector uses the estimate at the step's end, which the next step needs
    anyway, so it costs no further network call.
    """
    previous, x_previous = None, x
    for interval in _intervals(denoiser.schedule, times):
        denoised = _estimate(denoiser, x, interval.t)
        if previous is not None:
            x = previous.interval.update(x_previous, previous.corrector(denoised))
        history = _Differences.following(previous, interval, denoised)
        previous, x_previous = history, x
        x = interval.update(x, history.predictor())
        yield Step(interval.index, interval.t_next, x, denoised)


@dataclass(frozen=True, slots=True)
class _Differences:
    """What a multistep sampler knows in one interval: the estimate at its start and a finite difference in lambda."""

    interval: _Interval
    denoised: Tensor  # D_0, at the interval's start
    d_1: Tensor | None = None  # (D_0 - D_previous) / r; None where there is no previous estimate or h is infinite
    r: float = 0.0  # h_previous / h

    @classmethod
    def following(cls, previous: _Differences | None, interval: _Interval, denoised: Tensor) -> _Differences:
        """With an infinite previous h (from alpha = 0), r is infinite and d_1 is zero."""
        if previous is None or not math.isfinite(interval.h):
            return cls(interval, denoised)
        r = previous.interval.h / interval.h
        return cls(interval, denoised, (denoised - previous.denoised) / r, r)

    def predictor(self) -> Tensor:
        """The estimate to use for the whole interval: D_i of Lu et al. 2022 (arXiv 2211.01095), Algorithm 2."""
        return self.denoised if self.d_1 is None else self.denoised + self.d_1 / 2

    def corrector(self, denoised_next: Tensor) -> Tensor:
        """The estimate to use once that at the interval's end is known: UniC-2, Zhao et al. 2023 (arXiv 2302.04867).

        The coefficients solve their 2 x 2 system R a = b for the nodes -r and 1, in data prediction with -h for h; an
        estimate that is quadratic in lambda is integrated exactly.
        """
        d_next = denoised_next - self.denoised
        if self.d_1 is None:  # UniC-1, the trapezoidal rule in alpha / sigma; finite where alpha = 0
            return self.denoised + d_next / 2
        h = -self.interval.h
        phi_1 = math.expm1(h)
        phi_2 = phi_1 / h - 1
        phi_3 = phi_2 / h - 1 / 2
        b_1, b_2 = phi_2 / phi_1, 2 * phi_3 / phi_1
        a_1 = (b_1 - b_2) / (1 + self.r)
        return self.denoised + a_1 * self.d_1 + (b_1 - a_1) * d_next


SAMPLERS: Mapping[str, Sampler] = MappingProxyType({
    "euler": euler,
    "heun": heun,
    "ddim": ddim,
    "ddpm": ddpm,
    "euler_ancestral": euler_ancestral,
    "dpmpp_2m": dpmpp_2m,
    "dpmpp_2m_sde": dpmpp_2m_sde,
    "unipc": unipc,
    "lcm": lcm,
})  # fmt: skip

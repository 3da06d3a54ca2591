"""The loop. Every sampler walks a state down a ladder of times and yields a Step at each.

A Sampler is a generator: whoever runs it looks at each step, waits as long as they like and leaves when they like. `x`
[B,C,H,W] is the state at times[0]; `times` [steps + 1] falls, usually to 0; `noise` is asked by the stochastic ones
alone. All of it is done in the dtype and on the device of `x`; the denoiser runs without gradients.

There is one move: the state is taken apart into image and noise, x = alpha * D + sigma * eps, and put together again at
the next level, with part of its noise replaced by new. Samplers differ in how they estimate D and in how much noise they
renew. Said so, in alpha and sigma alone, they serve every schedule, also one that starts with alpha = 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.diffusion.noise import Noise
from diffstudio.diffusion.schedule import NoiseSchedule, Schedule


@dataclass(frozen=True, slots=True)
class Step:
    index: int  # 1 .. steps
    t: float  # the time just reached
    x: Tensor  # the state at that time; the last Step's x is the sample
    denoised: Tensor  # the newest estimate of x_0 on the way there


Sampler = Callable[[Denoiser, Tensor, Tensor, Noise], Iterator[Step]]


# ---- down the ladder -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Leg:
    """One stretch of a ladder, from t down to t_next."""

    index: int  # 1 .. steps
    t: float
    alpha: float
    sigma: float
    coordinate: float
    t_next: float
    alpha_next: float
    sigma_next: float
    coordinate_next: float

    @property
    def width(self) -> float:
        """How far the leg goes in lambda = log(alpha / sigma): h of Lu et al. 2022."""
        if self.alpha == 0 or self.sigma_next == 0:
            return math.inf
        return math.log(self.alpha_next / self.sigma_next) - math.log(self.alpha / self.sigma)

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.width)

    def move(self, x: Tensor, denoised: Tensor, renewal: float = 0.0, noise: Noise | None = None) -> Tensor:
        """The state at t_next if the clean image is `denoised`: Song et al. 2021 (DDIM), eq. 12 and 16.

        `renewal` is their eta: 0 keeps the noise that is there, 1 replaces what the data's own reverse process would.
        """
        new = renewal * self.sigma_next * math.sqrt(-math.expm1(-2 * self.width))
        kept = math.sqrt(self.sigma_next**2 - new**2)
        share = kept / self.sigma
        x = share * x + (self.alpha_next - share * self.alpha) * denoised
        return x + new * noise(x) if noise is not None and new > 0 else x


def _legs(schedule: NoiseSchedule, times: Tensor) -> Iterator[_Leg]:
    """The legs of a ladder, their numbers computed at once in float64. ValueError unless the times fall."""
    times = times.to("cpu", torch.float64)
    if times.ndim != 1 or len(times) < 2 or not bool((times.diff() < 0).all()):
        raise ValueError("the times of a ladder are two or more, and each falls below the one before")
    if isinstance(schedule, Schedule):
        coordinate = schedule.heun_coordinate(times)
    else:
        coordinate = schedule.sigma(times) / schedule.alpha(times)
    rungs = torch.stack([times, schedule.alpha(times), schedule.sigma(times), coordinate], dim=1).tolist()
    return (_Leg(index, *rung, *rung_next) for index, (rung, rung_next) in enumerate(pairwise(rungs), start=1))


@torch.no_grad()  # here, for around a yield it would leak to the caller
def _estimate(denoiser: Denoiser, x: Tensor, t: float) -> Tensor:
    return denoiser(x, torch.full((len(x),), t, dtype=torch.float64))


# ---- one estimate a step ---------------------------------------------------------------------------------------------


def euler(denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise) -> Iterator[Step]:
    """Euler's method on the probability flow: Karras et al. 2022, Algorithm 1 without its correction."""
    return _first_order(denoiser, x, times, noise, renewal=0)


def ddim(denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise) -> Iterator[Step]:
    """Song et al. 2021 (DDIM) with eta = 0: Euler's method by its older name."""
    return _first_order(denoiser, x, times, noise, renewal=0)


def ddpm(denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise) -> Iterator[Step]:
    """Ancestral sampling with the posterior's own variance: Ho et al. 2020, Algorithm 2 and eq. 7."""
    return _first_order(denoiser, x, times, noise, renewal=1)


def euler_ancestral(denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise) -> Iterator[Step]:
    """An Euler step to below the next level and new noise up to it: `ddpm` by its newer name."""
    return _first_order(denoiser, x, times, noise, renewal=1)


def _first_order(denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise, renewal: float) -> Iterator[Step]:
    for leg in _legs(denoiser.schedule, times):
        denoised = _estimate(denoiser, x, leg.t)
        x = leg.move(x, denoised, renewal, noise)
        yield Step(leg.index, leg.t_next, x, denoised)


def lcm(denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise) -> Iterator[Step]:
    """Multistep consistency sampling, all noise new at every step: Song et al. 2023, Algorithm 1."""
    for leg in _legs(denoiser.schedule, times):
        denoised = _estimate(denoiser, x, leg.t)
        x = leg.alpha_next * denoised
        if leg.sigma_next > 0:
            x = x + leg.sigma_next * noise(x)
        yield Step(leg.index, leg.t_next, x, denoised)


# ---- two estimates a step --------------------------------------------------------------------------------------------


def heun(denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise) -> Iterator[Step]:
    """Heun's method: Karras et al. 2022, Algorithm 1. Two estimates a step, one where the other would be at an end.

    In the schedule's coordinate c (sigma / alpha, or t of a flow) the state z = c * x / sigma moves straight away from
    the estimate, dz/dc = (z - D) / c; the slopes at both ends of a step are averaged.
    """
    for leg in _legs(denoiser.schedule, times):
        denoised = _estimate(denoiser, x, leg.t)
        x_next = leg.move(x, denoised)
        if math.isfinite(leg.coordinate) and leg.sigma_next > 0:
            c, c_next = leg.coordinate, leg.coordinate_next
            z = x * (c / leg.sigma)
            slope = (z - denoised) / c
            denoised = _estimate(denoiser, x_next, leg.t_next)
            slope_next = (x_next * (c_next / leg.sigma_next) - denoised) / c_next
            x_next = (z + (c_next - c) * (slope + slope_next) / 2) * (leg.sigma_next / c_next)
        x = x_next
        yield Step(leg.index, leg.t_next, x, denoised)


# ---- one estimate a step, and memory of the last ---------------------------------------------------------------------


def dpmpp_2m(denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise) -> Iterator[Step]:
    """DPM-Solver++(2M): Lu et al. 2022b, Algorithm 2."""
    return _second_order(denoiser, x, times, noise, renewal=0)


def dpmpp_2m_sde(denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise) -> Iterator[Step]:
    """SDE-DPM-Solver++(2M): Lu et al. 2022b, section 6."""
    return _second_order(denoiser, x, times, noise, renewal=1)


def _second_order(denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise, renewal: float) -> Iterator[Step]:
    course = None
    for leg in _legs(denoiser.schedule, times):
        denoised = _estimate(denoiser, x, leg.t)
        course = _Course.after(course, leg, denoised)
        x = leg.move(x, course.predicted(), renewal, noise)
        yield Step(leg.index, leg.t_next, x, denoised)


def unipc(denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise) -> Iterator[Step]:
    """UniPC of order 2 with B_2(h), data prediction: Zhao et al. 2023.

    A leg is predicted as by `dpmpp_2m`; the estimate made at its end, which the next leg needs anyway, corrects it.
    """
    last, last_x = None, x
    for leg in _legs(denoiser.schedule, times):
        denoised = _estimate(denoiser, x, leg.t)
        if last is not None:
            x = last.leg.move(last_x, last.corrected(denoised))
        course = _Course.after(last, leg, denoised)
        last, last_x = course, x
        x = leg.move(x, course.predicted())
        yield Step(leg.index, leg.t_next, x, denoised)


@dataclass(frozen=True, slots=True)
class _Course:
    """How the estimate runs along a leg, as far as a multistep sampler knows: its start and its heading."""

    leg: _Leg
    denoised: Tensor
    change: Tensor | None = None  # over the leg, if it goes on in lambda as it did over the leg before
    ratio: float = 0.0  # the width of the leg before over that of this one

    @classmethod
    def after(cls, last: _Course | None, leg: _Leg, denoised: Tensor) -> _Course:
        """A leg to sigma = 0, which is endless, has no heading; the one before, if it is endless from alpha = 0, gives none: 0."""
        if last is None or not leg.is_finite:
            return cls(leg, denoised)
        ratio = last.leg.width / leg.width
        return cls(leg, denoised, (denoised - last.denoised) / ratio, ratio)

    def predicted(self) -> Tensor:
        """The estimate half way, which stands for all of the leg: Lu et al. 2022b, Algorithm 2."""
        return self.denoised if self.change is None else self.denoised + self.change / 2

    def corrected(self, denoised_next: Tensor) -> Tensor:
        """The estimate that stands for all of the leg once that at its end is known: Zhao et al. 2023, UniC-2.

        The weights solve R a = b for the nodes -ratio and 1, so that a quadratic course is integrated exactly.
        """
        change_next = denoised_next - self.denoised
        if self.change is None:
            return (
                self.denoised + change_next / 2
            )  # the trapezoid in alpha / sigma, which is 0 and finite where alpha is 0
        h = -self.leg.width
        phi_1 = math.expm1(h)
        phi_2 = phi_1 / h - 1
        phi_3 = phi_2 / h - 1 / 2
        b_1, b_2 = phi_2 / phi_1, 2 * phi_3 / phi_1
        a_before = (b_1 - b_2) / (1 + self.ratio)
        return self.denoised + a_before * self.change + (b_1 - a_before) * change_next


def network_calls(sampler: str, schedule: NoiseSchedule, times: Tensor) -> int:
    """How often `sampler` calls the denoiser on this ladder of times [steps + 1]: its number of function evaluations (NFE)."""
    legs = list(_legs(schedule, times))
    if sampler != "heun":
        return len(legs)
    return sum(2 if math.isfinite(leg.coordinate) and leg.sigma_next > 0 else 1 for leg in legs)


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

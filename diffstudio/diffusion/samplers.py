"""The loop. Every sampler walks a state down a ladder of times and yields a Step for each.

A Sampler is a generator: denoiser, x, times, noise -> Step, Step, ... Whoever runs it may look at each step, wait as long as
they like and leave when they like. `x` [B,C,H,W] is the state at times[0], `times` [steps + 1] falls to where it should
end, `noise` is asked only by the stochastic ones.

Read a step from (alpha, sigma) to (alpha_next, sigma_next) as: split the state into clean image and noise, x = alpha * D
+ sigma * eps, and put it together again at the next level, with part of the noise replaced by new noise. Written so, in
alpha and sigma alone, one function serves every schedule, also one that starts at alpha = 0 or ends at sigma = 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.diffusion.noise import Noise
from diffstudio.diffusion.schedule import NoiseSchedule, Schedule


@dataclass(frozen=True, slots=True)
class Step:
    index: int        # 1 .. steps
    t: float          # the time just reached
    x: Tensor         # the state at that time; the last Step's x is the sample
    denoised: Tensor  # the newest estimate of x_0 on the way there


Sampler = Callable[[Denoiser, Tensor, Tensor, Noise], Iterator[Step]]


# ---- one estimate a step, no memory ----------------------------------------------------------------------------------


def euler(denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise) -> Iterator[Step]:
    """Euler's method on the probability flow: Karras et al. 2022, Algorithm 1 without its second half."""
    return _first_order(denoiser, x, times, noise, renewal=0)


def ddim(denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise) -> Iterator[Step]:
    """Song et al. 2021 (DDIM), eq. 12 with its noise left out, which makes it Euler's method."""
    return _first_order(denoiser, x, times, noise, renewal=0)


def ddpm(denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise) -> Iterator[Step]:
    """Ancestral sampling, Ho et al. 2020, Algorithm 2, with the posterior's own variance."""
    return _first_order(denoiser, x, times, noise, renewal=1)


def euler_ancestral(denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise) -> Iterator[Step]:
    """An Euler step beyond the next level and fresh noise back up to it, which is `ddpm` on any ladder."""
    return _first_order(denoiser, x, times, noise, renewal=1)


def lcm(denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise) -> Iterator[Step]:
    """Multistep consistency sampling: Song et al. 2023, Algorithm 1. All the noise is new at every step."""
    for step in _Ladder(denoiser, times):
        denoised = step.estimate(x)
        x = step.alpha_next * denoised
        if step.sigma_next > 0:
            x = x + step.sigma_next * noise(x)
        yield step.reached(x, denoised)


def _first_order(denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise, renewal: float) -> Iterator[Step]:
    """Song et al. 2021 (DDIM), eq. 12 and 16 in alpha and sigma; `renewal` is their eta."""
    for step in _Ladder(denoiser, times):
        denoised = step.estimate(x)
        x = step.move(x, denoised, noise, renewal)
        yield step.reached(x, denoised)


def heun(denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise) -> Iterator[Step]:
    """Heun's method: Karras et al. 2022, Algorithm 1, two estimates a step.

    In the schedule's coordinate c (sigma / alpha, or t for flow) the state z = x * c / sigma heads straight for the
    estimate, dz/dc = (z - D) / c. Where c is infinite or 0 there is nothing to average, and the step is Euler's.
    """
    for step in _Ladder(denoiser, times):
        denoised = step.estimate(x)
        euler_x = step.move(x, denoised)
        c, c_next = step.coordinate, step.coordinate_next
        if math.isinf(c) or c_next == 0:
            x = euler_x
        else:
            z, z_next = x * (c / step.sigma), euler_x * (c_next / step.sigma_next)
            slope = (z - denoised) / c
            denoised = step.estimate_next(euler_x)
            slope_next = (z_next - denoised) / c_next
            x = (z + (c_next - c) * (slope + slope_next) / 2) * (step.sigma_next / c_next)
        yield step.reached(x, denoised)

"""Consistency distillation: a network that maps any point of a teacher's path to the path's end, in one call.

Consistency models, Song et al. 2023 (arXiv 2303.01469), in segments as in multistep consistency models, Heek et al. 2024
(arXiv 2403.06807): with one segment the paths end at the clean image, with n they end at n evenly spaced times, and n
steps of Euler's method go from one to the next. The ends come from the teacher's own sampler, not from the network that is
trained, as in knowledge distillation (Luhman & Luhman 2021, arXiv 2101.02388): they do not move while it learns, and each
solved path gives a pair for every time on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.diffusion.samplers import Sampler
from diffstudio.diffusion.schedule import NoiseSchedule


@dataclass(frozen=True, slots=True)
class SolvedPath:
    """States of one path of the probability flow, and where it ends."""

    times: Sequence[float]  # [N], falling
    states: Sequence[Tensor]  # [N] of [B,C,H,W]
    end_time: float
    end: Tensor  # [B,C,H,W]

    def targets(self, schedule: NoiseSchedule) -> list[Tensor]:
        """For each time the estimate of x_0 from which a step of Euler's method arrives at the end of the path."""
        return [
            landing_estimate(schedule, state, t, self.end, self.end_time)
            for t, state in zip(self.times, self.states, strict=True)
        ]


def solve_path(teacher: Denoiser, sampler: Sampler, x: Tensor, times: Tensor) -> SolvedPath:
    """Follow the teacher from x [B,C,H,W] at times[0] over `times` [N + 1], which fall, with a deterministic sampler."""
    states, reached = [x], [float(times[0])]
    for step in sampler(teacher, x, times, no_noise):
        states.append(step.x)
        reached.append(step.t)
    return SolvedPath(reached[:-1], states[:-1], reached[-1], states[-1])


def landing_estimate(schedule: NoiseSchedule, x_t: Tensor, t: float, x_end: Tensor, t_end: float) -> Tensor:
    """D in x_end = (sigma_end / sigma_t) x_t + (alpha_end - alpha_t sigma_end / sigma_t) D: x_end itself at t_end = 0.

    The update of DDIM, Song et al. 2020 (arXiv 2010.02502), eq. 12, solved for its estimate of x_0.
    """
    at = torch.tensor([t, t_end], dtype=torch.float64)
    (alpha, alpha_end), (sigma, sigma_end) = schedule.alpha(at).tolist(), schedule.sigma(at).tolist()
    ratio = sigma_end / sigma
    estimate: Tensor = (x_end - ratio * x_t) / (alpha_end - ratio * alpha)
    return estimate


def segment_ends(segments: int, t_max: float) -> list[tuple[float, float]]:
    """Start and end of each segment of [0, t_max], the noisiest first."""
    return [
        (t_max * (segments - index) / segments, t_max * (segments - index - 1) / segments) for index in range(segments)
    ]


def path_losses(estimate: Tensor, target: Tensor, pixel_weights: Tensor | None = None, c: float = 0.01) -> Tensor:
    """sqrt(mean squared error + c^2) - c of each image, [B]: the pseudo-Huber loss of Song & Dhariwal 2023 (arXiv
    2310.14189), eq. 7, which is less affected than a squared error by paths that the network cannot follow yet.

    `pixel_weights` [B,1,H,W] are those of masked training.
    """
    squared = (estimate.float() - target.float()).square()
    if pixel_weights is not None:
        squared = squared * pixel_weights.to(squared)
    distance: Tensor = (squared.flatten(1).mean(1) + c**2).sqrt() - c
    return distance


def no_noise(x: Tensor) -> Tensor:
    """For deterministic samplers. RuntimeError: another sampler was used."""
    raise RuntimeError("a path of the probability flow draws no noise")

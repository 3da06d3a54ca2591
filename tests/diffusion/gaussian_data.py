"""Images whose values are independent and normal, and the exact denoiser of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import alpha_sigma
from diffstudio.diffusion.schedule import RectifiedFlow, Schedule


@dataclass
class GaussianDenoiser:
    """E[x_0 | x_t] for x_0 ~ N(mean, diag(variance)), both [C,H,W]."""

    mean: Tensor
    variance: Tensor
    schedule: Schedule = field(default_factory=RectifiedFlow)
    calls: int = 0

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        alpha, sigma = alpha_sigma(self.schedule, t, x_t)
        gain = alpha * self.variance / (alpha**2 * self.variance + sigma**2)
        return self.mean + gain * (x_t - alpha * self.mean)

    def draw(self, count: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(count, *self.mean.shape, generator=generator, dtype=torch.float64)
        return self.mean + self.variance.sqrt() * noise


def uneven(side: int = 2) -> GaussianDenoiser:
    """Each value has a mean and a variance of its own."""
    generator = torch.Generator().manual_seed(3)
    shape = (1, side, side)
    mean = torch.rand(shape, generator=generator, dtype=torch.float64) - 0.5
    return GaussianDenoiser(mean, 0.02 + 0.3 * torch.rand(shape, generator=generator, dtype=torch.float64))


def white(side: int, variance: float = 0.25) -> GaussianDenoiser:
    mean = torch.full((1, side, side), 0.1, dtype=torch.float64)
    return GaussianDenoiser(mean, torch.full_like(mean, variance))

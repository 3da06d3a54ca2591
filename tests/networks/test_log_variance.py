from __future__ import annotations

import math

import torch

from diffstudio.networks.log_variance import LogVariance


def test_begins_at_zero_everywhere() -> None:
    torch.manual_seed(0)
    assert LogVariance()(torch.tensor([0.0, 0.3, 1.0])).tolist() == [0.0, 0.0, 0.0]


def test_learns_the_logarithm_of_the_mean_loss_at_each_noise_level() -> None:
    """The minimum of E[loss / e^u + u]; here the losses have the mean e^(2 - 4 t), scattered by a factor."""
    torch.manual_seed(0)
    u = LogVariance()
    optimiser = torch.optim.Adam(u.parameters(), lr=0.005)
    for _ in range(250):
        t = 0.05 + 0.9 * torch.rand(256)
        losses = (2 - 4 * t).exp() * -torch.rand(256).log()
        optimiser.zero_grad()
        torch.autograd.backward((losses * (-u(t)).exp() + u(t)).mean())
        optimiser.step()
    t = torch.linspace(0.1, 0.9, 9)
    with torch.no_grad():
        error, last = u(t) - (2 - 4 * t), float(u(torch.ones(1)))
    assert float(error.square().mean().sqrt()) < 0.25 and math.isfinite(last)

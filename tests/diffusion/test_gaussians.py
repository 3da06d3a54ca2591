"""Likelihoods with Gaussians, against torch's distributions and against sums that must be 1."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from diffstudio.diffusion.gaussians import (
    bits_of_density,
    bits_per_dimension,
    discretised_log_probability,
    importance_weighted_bound,
    kl_from_standard_normal,
    normal_log_density,
)


def test_kl_and_density_are_those_of_torch() -> None:
    mean, log_variance, x = torch.randn(3, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    normal = Normal(mean, (log_variance / 2).exp())
    expected = kl_divergence(normal, Normal(torch.zeros_like(mean), torch.ones_like(mean)))
    torch.testing.assert_close(kl_from_standard_normal(mean, log_variance), expected)
    torch.testing.assert_close(normal_log_density(x, mean, log_variance), normal.log_prob(x))


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("deviation", [0.002, 0.3, 5.0])
def test_the_probabilities_of_all_levels_add_up_to_1(levels: int, deviation: float) -> None:
    x = torch.linspace(-1, 1, levels, dtype=torch.float64)[:, None]
    mean = torch.tensor([-1.5, -0.3, 0.0, 0.99], dtype=torch.float64)
    logs = discretised_log_probability(x, mean, torch.tensor(deviation**2, dtype=torch.float64), levels)
    torch.testing.assert_close(logs.exp().sum(dim=0), torch.ones(4, dtype=torch.float64), rtol=1e-6, atol=1e-6)
    assert bool(torch.isfinite(logs).all())  # also far away, where the mass is 0 in float64


def test_fine_levels_have_the_density_times_their_distance() -> None:
    x, levels = torch.zeros(1, dtype=torch.float64), 65536
    log_probability = discretised_log_probability(x, x + 0.1, torch.tensor(0.04, dtype=torch.float64), levels)
    density = Normal(0.1, 0.2).log_prob(torch.tensor(0.0, dtype=torch.float64))
    assert float(log_probability) == pytest.approx(float(density) + math.log(2 / (levels - 1)), rel=1e-6)
    # the same in bits per dimension: of the probability, and of the density with the levels in a length of 1
    assert float(bits_per_dimension(log_probability, 1)) == pytest.approx(
        float(bits_of_density(density, 1, levels)), rel=1e-6
    )
    assert float(bits_per_dimension(torch.tensor(-3 * math.log(2)), 3)) == pytest.approx(1.0)


def test_the_importance_weighted_bound_is_the_log_of_the_mean_weight() -> None:
    weights = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    torch.testing.assert_close(importance_weighted_bound(weights.log()), torch.tensor([2.0, 4.0]).log())

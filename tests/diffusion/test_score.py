"""Noise and score of an estimate, on Gaussian data whose score is known."""

from __future__ import annotations

import torch

from diffstudio.diffusion.score import noise_estimate, score
from tests.diffusion.gaussian_data import uneven


def test_the_score_is_that_of_the_density_of_x_t() -> None:
    data = uneven(3)
    t = torch.tensor([0.4], dtype=torch.float64)
    alpha, sigma = 0.6, 0.4
    x_t = alpha * data.draw(1) + sigma * data.draw(1, 1)
    found = score(x_t, data(x_t, t), alpha, sigma)
    density = torch.distributions.Normal(alpha * data.mean, (alpha**2 * data.variance + sigma**2).sqrt())
    x = x_t.clone().requires_grad_()
    (expected,) = torch.autograd.grad(density.log_prob(x).sum(), x)
    assert torch.allclose(found, expected)


def test_estimate_and_noise_make_x_t_again() -> None:
    data = uneven(3)
    x_0, eps = data.draw(2), data.draw(2, 1)
    x_t = 0.8 * x_0 + 0.6 * eps
    found = noise_estimate(x_t, x_0, 0.8, 0.6)
    assert torch.allclose(found, eps) and torch.allclose(score(x_t, x_0, 0.8, 0.6), -eps / 0.6)

"""ELBO and importance-weighted bound, against the exact likelihood of a linear Gaussian model."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from diffstudio.networks.autoencoder import Autoencoder, AutoencoderConfig
from diffstudio.networks.transformer import Condition
from diffstudio.training.objectives.bounds import elbo, in_bits, iwae

LEVELS = 65536
VARIANCE = 0.02
W = torch.tensor([[0.3, 0.0], [0.2, 0.0], [0.0, 0.25], [0.0, -0.1]], dtype=torch.float64)  # columns are orthogonal


class Linear(Autoencoder):
    """x = W z + noise on images of 2 x 2 px, with the exact posterior, or one that is too wide."""

    widening = 0.0

    def encode(self, images: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        m = (W * W).sum(dim=0) + VARIANCE  # the diagonal of W^T W + variance
        mean = images.flatten(1).double() @ W / m
        log_variance = (VARIANCE / m).log().expand_as(mean) + self.widening
        return mean[..., None, None], log_variance[..., None, None]

    def decode(self, z: Tensor, c: Tensor) -> Tensor:
        return (z.flatten(1).double() @ W.T).reshape(-1, 1, 2, 2)


def linear(widening: float = 0.0) -> Linear:
    network = Linear(AutoencoderConfig(image_size=2, patch_size=2, in_channels=1, latent_channels=2, hidden_size=8))
    network.variance.fill_(VARIANCE)
    network.widening = widening
    return network


@pytest.fixture(scope="module")
def images() -> Tensor:
    z = torch.randn(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = torch.randn(200, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = (z @ W.T + VARIANCE**0.5 * noise).clamp(-0.999, 0.999)
    half = (LEVELS - 1) / 2
    return ((x * half).round() / half).reshape(-1, 1, 2, 2)


def exact(images: Tensor) -> Tensor:
    covariance = W @ W.T + VARIANCE * torch.eye(4, dtype=torch.float64)
    density = MultivariateNormal(torch.zeros(4, dtype=torch.float64), covariance).log_prob(images.flatten(1))
    return density + 4 * math.log(2 / (LEVELS - 1))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(2)


def test_with_the_exact_posterior_both_bounds_are_the_likelihood(images: Tensor) -> None:
    bound = elbo(linear(), images, Condition(), generator(), draws=64, levels=LEVELS)
    assert float(bound.mean()) == pytest.approx(float(exact(images).mean()), rel=0.01)
    # every importance weight is P(x), so one draw is enough, for each image
    weighted = iwae(linear(), images, Condition(), generator(), draws=1, levels=LEVELS)
    torch.testing.assert_close(weighted, exact(images), rtol=1e-3, atol=1e-3)
    bits = in_bits(exact(images), images)
    torch.testing.assert_close(bits, -exact(images) / (4 * math.log(2)))


def test_with_another_posterior_the_elbo_is_below_and_more_draws_close_the_gap(images: Tensor) -> None:
    wide = linear(widening=1.0)
    truth = float(exact(images).mean())
    bound = float(elbo(wide, images, Condition(), generator(), draws=64, levels=LEVELS).mean())
    few, many = (
        float(iwae(wide, images, Condition(), generator(), draws=draws, levels=LEVELS).mean()) for draws in (2, 200)
    )
    gap = 2 * 0.5 * (math.e - 1 - 1)  # KL of the posterior that is e times too wide, for two latents
    assert bound == pytest.approx(truth - gap, abs=0.05)
    assert bound < few < many and many == pytest.approx(truth, abs=0.05)

"""Lower bounds on the log-likelihood of images under a VAE: the ELBO and the importance-weighted bound."""

from __future__ import annotations

import torch
from torch import Tensor

from diffstudio.diffusion.gaussians import (
    bits_per_dimension,
    discretised_log_probability,
    importance_weighted_bound,
    kl_from_standard_normal,
    normal_log_density,
)
from diffstudio.networks.autoencoder import Autoencoder
from diffstudio.networks.transformer import Condition


@torch.no_grad()
def elbo(
    network: Autoencoder,
    images: Tensor,
    condition: Condition,
    generator: torch.Generator,
    *,
    draws: int = 4,
    levels: int = 256,
) -> Tensor:
    """E_q[log P(x | z)] - KL(q(z | x) || N(0, 1)) in nats [B]: Kingma & Welling 2013 (arXiv 1312.6114), eq. 3.

    P(x | z) is the probability of the discrete values of images [B,C,H,W] in [-1,1] with `levels` levels. The prior is
    the standard normal that the VAE was trained with, not the flow prior.
    """
    c = network.condition(condition, len(images))
    mean, log_variance = network.encode(images, c)
    reconstruction = torch.zeros(len(images), dtype=torch.float64, device=images.device)
    for _ in range(draws):
        z = mean + (log_variance / 2).exp() * _noise(mean, generator)
        reconstruction += log_probability(network, images, z, c, levels) / draws
    return reconstruction - kl_from_standard_normal(mean, log_variance).double().flatten(1).sum(dim=1)


@torch.no_grad()
def iwae(
    network: Autoencoder,
    images: Tensor,
    condition: Condition,
    generator: torch.Generator,
    *,
    draws: int = 64,
    levels: int = 256,
) -> Tensor:
    """log 1/K sum_k P(x | z_k) p(z_k) / q(z_k | x) in nats [B]: Burda et al. 2015 (arXiv 1509.00519), eq. 8.

    In expectation it is at least the ELBO and converges to log P(x) with K = `draws`. Otherwise like `elbo`.
    """
    c = network.condition(condition, len(images))
    mean, log_variance = network.encode(images, c)
    weights = []
    for _ in range(draws):
        noise = _noise(mean, generator)
        z = mean + (log_variance / 2).exp() * noise
        prior = normal_log_density(z, torch.zeros_like(z), torch.zeros_like(z))
        posterior = normal_log_density(z, mean, log_variance)
        log_ratio = (prior - posterior).double().flatten(1).sum(dim=1)
        weights.append(log_probability(network, images, z, c, levels) + log_ratio)
    return importance_weighted_bound(torch.stack(weights))


def log_probability(network: Autoencoder, images: Tensor, z: Tensor, c: Tensor, levels: int) -> Tensor:
    """log P(x | z) in nats [B]."""
    logs = discretised_log_probability(
        images.double(), network.decode(z, c).double(), network.variance.double(), levels
    )
    return logs.flatten(1).sum(dim=1)


def in_bits(nats: Tensor, images: Tensor) -> Tensor:
    """Bits per dimension [B] from log-probabilities in nats [B] of images [B,C,H,W]: -nats / (C H W ln 2)."""
    return bits_per_dimension(nats, images[0].numel())


def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator).to(like)

"""Gaussian likelihoods: KL divergences, discretised probabilities, importance-weighted bounds, bits per dimension."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_LEAST_PROBABILITY = 1e-12


def kl_from_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, 1)), element-wise: Kingma & Welling 2013 (arXiv 1312.6114), appendix B."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


def normal_log_density(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log N(x; mean, exp(log_variance)), element-wise."""
    return -0.5 * (math.log(2 * math.pi) + log_variance + (x - mean).square() * (-log_variance).exp())


def discretised_log_probability(x: Tensor, mean: Tensor, variance: Tensor, levels: int) -> Tensor:
    """log P of each value of an image in [-1,1] with `levels` levels: the mass of N(mean, variance) in the value's bin.

    The lowest and highest levels include the tails: Ho et al. 2020 (arXiv 2006.11239), eq. 13. The probabilities of all
    levels sum to 1, so a bound on them is a bound on lossless compression.
    """
    half = 1 / (levels - 1)  # half the spacing of the levels
    deviation = variance.sqrt()
    below = torch.special.ndtr((x - mean - half) / deviation)
    above = torch.special.ndtr((x - mean + half) / deviation)
    lowest, highest = x < -1 + half, x > 1 - half
    mass = torch.where(highest, 1 - below, above) - torch.where(lowest | highest, 0, below)
    tail = normal_log_density(x, mean, variance.log()) + math.log(2 * half)  # used where the mass is too small for ndtr
    return torch.where(mass > _LEAST_PROBABILITY, mass.clamp(min=_LEAST_PROBABILITY).log(), tail)


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    """log 1/K sum exp(log_weights), [K,B] -> [B]: Burda et al. 2015 (arXiv 1509.00519), eq. 8."""
    return torch.logsumexp(log_weights, dim=0) - math.log(len(log_weights))


def bits_per_dimension(nats: Tensor, values: int) -> Tensor:
    """-nats / (values ln 2): the log-probability of an image with `values` values, in bits per dimension."""
    return -nats / (values * math.log(2))


def bits_of_density(nats: Tensor, values: int, levels: int) -> Tensor:
    """`bits_per_dimension` for a log-density of images in [-1,1]: adds log2 of the number of levels per unit length."""
    return bits_per_dimension(nats, values) + math.log2((levels - 1) / 2)

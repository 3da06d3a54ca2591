"""Likelihoods against the densities of data that has a closed form: Gaussians, correlated ones too, and mixtures."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import Denoiser, alpha_sigma
from diffstudio.diffusion.likelihood import (
    bits_per_dimension,
    dequantised,
    log_likelihood,
    noise_log_density,
    rademacher,
    reconstruction_loss,
    smallest_noise_of,
    spacing,
    variational_bound,
)
from diffstudio.diffusion.schedule import NoiseSchedule, RectifiedFlow
from tests.diffusion.exact import SCHEDULES, Gaussian, Mixture

SHAPE = (1, 2, 2)
SIZE = math.prod(SHAPE)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images_of(data: Gaussian | Mixture, count: int) -> tuple[Tensor, Tensor]:
    """Images [N,...] of the data, and log p [N] of each."""
    noise = torch.randn(count, *SHAPE, generator=generator(), dtype=torch.float64)
    if isinstance(data, Gaussian):
        weights, means, deviations = torch.ones(1), torch.tensor([data.mean]), torch.tensor([data.deviation])
    else:
        weights, means, deviations = map(torch.tensor, (data.weights, data.means, data.deviations))
    which = torch.multinomial(weights, noise.numel(), replacement=True, generator=generator()).view(noise.shape)
    images = means[which] + deviations[which] * noise
    away = (images.unsqueeze(-1) - means) / deviations
    density = (weights * (-(away**2) / 2).exp() / (deviations * math.sqrt(2 * math.pi))).sum(-1)
    return images, density.log().flatten(1).sum(1)


@dataclass(frozen=True)
class Correlated:
    """Values with the covariance C [n,n] around 0: its Jacobian is not diagonal."""

    schedule: NoiseSchedule
    covariance: Tensor

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (float(level.flatten()[0]) for level in alpha_sigma(self.schedule, t, x_t))
        whole = alpha**2 * self.covariance + sigma**2 * torch.eye(len(self.covariance)).to(x_t)
        gain = alpha * self.covariance @ torch.linalg.inv(whole)
        return (x_t.flatten(1) @ gain.T).view(x_t.shape)


@pytest.mark.parametrize("data", [Gaussian, Mixture])
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_flow_gives_the_density_of_each_image(name: str, data: type[Gaussian | Mixture]) -> None:
    """Within 1% in bits of the 8-bit scale, and mostly far nearer: the prior and the first noise level remain."""
    schedule = SCHEDULES[name]
    images, truth = images_of(data(schedule), 16)
    found = log_likelihood(data(schedule), schedule, images)
    bits, true_bits = (bits_per_dimension(nats, SIZE, 8) for nats in (found.nats, truth))
    torch.testing.assert_close(bits, true_bits, rtol=0.01, atol=0)
    assert found.by_probe.shape == (16, 1) and found.noise.shape == images.shape
    if name == "rectified_flow":
        torch.testing.assert_close(found.nats, truth, atol=0.02, rtol=0)


def test_the_images_become_the_noise_that_the_flow_leads_to() -> None:
    """The flow of a Gaussian keeps a value as many deviations from the mean as it was."""
    schedule = RectifiedFlow()
    images, _ = images_of(Gaussian(schedule), 8)
    found = log_likelihood(Gaussian(schedule), schedule, images)
    torch.testing.assert_close(found.noise, (images - 0.7) / 0.4, atol=0.02, rtol=0)


def test_probes_estimate_the_divergence_without_bias() -> None:
    schedule = RectifiedFlow()
    mixing = torch.randn(SIZE, SIZE, generator=generator(), dtype=torch.float64)
    covariance = mixing @ mixing.T / SIZE + 0.05 * torch.eye(SIZE)
    normal = torch.distributions.MultivariateNormal(torch.zeros(SIZE, dtype=torch.float64), covariance)
    images = torch.randn(6, SIZE, generator=generator(1), dtype=torch.float64) @ torch.linalg.cholesky(covariance).T
    truth = normal.log_prob(images)
    images = images.view(6, *SHAPE)
    exact = log_likelihood(Correlated(schedule, covariance), schedule, images)
    torch.testing.assert_close(exact.nats, truth, atol=0.05, rtol=0)
    probes = rademacher(images, 64, generator(2))
    estimated = log_likelihood(Correlated(schedule, covariance), schedule, images, probes, tolerance=1e-3)
    assert estimated.by_probe.shape == (6, 64) and estimated.by_probe.std(dim=1).min() > 0.1
    error = estimated.by_probe.std(dim=1) / 8
    assert bool(((estimated.nats - truth).abs() < 4 * error + 0.05).all())


def test_the_bound_is_the_entropy_where_the_denoiser_is_exact() -> None:
    """With the exact estimate nothing is lost: its mean over images is their entropy."""
    schedule = RectifiedFlow()
    for data in (Gaussian(schedule), Mixture(schedule)):
        images, truth = images_of(data, 4000)
        found = variational_bound(data, schedule, images, generator(3), levels=24)
        assert found.by_level.shape == (4000, 24)
        torch.testing.assert_close(found.by_level.sum(1), found.diffusion)
        bits, true_bits = (float(bits_per_dimension(nats, SIZE, 8).mean()) for nats in (-found.nats, truth))
        assert bits == pytest.approx(true_bits, rel=0.01)


@pytest.mark.parametrize("bits", [8, 16])
def test_whole_values_have_the_bits_of_their_probability(bits: int) -> None:
    """A Gaussian in 256 or 65,536 steps, whose probabilities are differences of its distribution function."""
    data = Gaussian(RectifiedFlow(), mean=0.1, deviation=0.1)
    images, _ = images_of(data, 3000)
    images = ((images + 1) / spacing(bits)).round() * spacing(bits) - 1
    half = spacing(bits) / 2
    ends = [torch.special.ndtr((images + side - 0.1) / 0.1) for side in (half, -half)]
    truth = -(ends[0] - ends[1]).log2().flatten(1).mean(1)
    bound = variational_bound(data, data.schedule, images, generator(4), levels=24, bits=bits)
    assert float(bits_per_dimension(-bound.nats, SIZE).mean()) == pytest.approx(float(truth.mean()), rel=0.01)
    noisy = dequantised(images[:200], bits, generator(5))
    flow = log_likelihood(data, data.schedule, noisy)
    expected = pytest.approx(float(truth[:200].mean()), rel=0.01)
    assert float(bits_per_dimension(flow.nats, SIZE, bits).mean()) == expected
    for least in (spacing(8), 0.02):
        noise = torch.randn(images[:200].shape, generator=generator(6), dtype=torch.float64)
        flow = log_likelihood(data, data.schedule, images[:200] + least * noise, smallest_noise=least)
        lost = reconstruction_loss(noise, images[:200], least, bits) + noise_log_density(noise, least)
        assert float(bits_per_dimension(flow.nats - lost, SIZE).mean()) == expected


def test_black_and_white_have_the_probability_of_all_beyond_them() -> None:
    """The probabilities of all 256 values add up to 1, at whatever noisy value."""
    values = (torch.arange(256, dtype=torch.float64) * spacing(8) - 1).view(256, 1, 1, 1)
    noisy = 0.99  # near white, by noise of 10 steps
    least = 10 * spacing(8)
    losses = reconstruction_loss((noisy - values) / least, values, least, 8)
    assert float((-losses).exp().sum()) == pytest.approx(1.0, abs=1e-9)


def test_dequantised_values_fill_the_steps_between_whole_ones() -> None:
    images = torch.full((1, 1, 100, 100), 1.0)
    noisy = dequantised(images, 8, generator())
    away = (noisy - 1) / spacing(8)
    assert float(away.min()) > -0.5 and float(away.max()) < 0.5
    assert float(away.std()) == pytest.approx(math.sqrt(1 / 12), rel=0.03)
    assert noisy.dtype == images.dtype


def test_the_offsets_of_8_and_16_bits() -> None:
    zero = torch.zeros(1)
    assert float(bits_per_dimension(zero, 10, 8)) == pytest.approx(math.log2(127.5))
    assert float(bits_per_dimension(zero, 10, 16)) == pytest.approx(math.log2(32767.5))
    assert float(bits_per_dimension(torch.tensor([-10 * math.log(2)]), 10)) == pytest.approx(1.0)
    assert smallest_noise_of(RectifiedFlow(), 8) == spacing(8)
    assert smallest_noise_of(RectifiedFlow(), 16) == smallest_noise_of(RectifiedFlow()) == pytest.approx(1 / 999)


def test_an_exact_divergence_is_for_small_images() -> None:
    denoiser: Denoiser = Gaussian(RectifiedFlow())
    with pytest.raises(ValueError, match="an exact divergence of 65 values"):
        log_likelihood(denoiser, RectifiedFlow(), torch.zeros(1, 1, 5, 13))

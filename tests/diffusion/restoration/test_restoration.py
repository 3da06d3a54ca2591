"""Restored images of Gaussian data against the posterior, which is known: its mean is the Wiener estimate."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from diffstudio.diffusion.noise import SeededNoise
from diffstudio.diffusion.restoration.degradations import Blurred, Degradation, Masked, Reduced, gaussian_kernel
from diffstudio.diffusion.restoration.restoration import (
    ConditionedDenoiser,
    blended,
    conditioned_samples,
    denoised_samples,
    posterior_mean,
    restoration_times,
    time_of,
)
from diffstudio.diffusion.samplers import dpmpp_2m_sde
from diffstudio.diffusion.schedule import RectifiedFlow, Schedule, VarianceExploding, VariancePreserving
from tests.diffusion.gaussian_data import GaussianDenoiser, uneven, white

NOISE = 0.3
DRAWS = 4000
SCHEDULES = [RectifiedFlow(), VariancePreserving(), VarianceExploding()]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("probed", [False, True])
def test_one_call_is_the_wiener_estimate(schedule: Schedule, probed: bool) -> None:
    data = uneven(8)
    data.schedule = schedule
    y = data.draw(2) + NOISE * data.draw(2, 1)
    wiener = data.mean + data.variance / (data.variance + NOISE**2) * (y - data.mean)
    probe = (
        torch.randn(y.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64).sign() if probed else None
    )
    assert torch.allclose(posterior_mean(data, schedule, y, NOISE, probe), wiener, atol=1e-9)
    assert data.calls == 1 + probed


def test_samples_of_denoising_have_the_posterior_covariance() -> None:
    """The data's mean and variance differ from value to value; y is the same for all draws."""
    data = uneven(5)
    y = (data.draw(1) + 0.1).expand(DRAWS, -1, -1, -1)
    *_, last = denoised_samples(data, data.schedule, y, NOISE, 60, SeededNoise(range(DRAWS)))
    expected = data.mean + data.variance / (data.variance + NOISE**2) * (y[0] - data.mean)
    variance = data.variance * NOISE**2 / (data.variance + NOISE**2)
    assert torch.allclose(last.x.mean(0), expected, atol=0.02)
    assert torch.allclose(last.x.var(0) / variance, torch.ones_like(variance), atol=0.1)
    values = last.x.flatten(1)
    assert float((torch.corrcoef(values.T) - torch.eye(25)).abs().max()) < 0.08


@pytest.mark.parametrize("degradation", [
    Masked(torch.tensor([[1.0, 1, 0, 1], [0, 1, 1, 1], [1, 1, 1, 0], [1, 0, 1, 1]]).view(1, 1, 4, 4)),
    Blurred(gaussian_kernel(0.6)),
    Reduced(2),
], ids=lambda one: type(one).__name__)  # fmt: skip
def test_samples_given_degraded_images_have_the_posterior_of_white_data(degradation: Degradation) -> None:
    data = white(4)
    y = degradation.apply(data.draw(1, 7))
    y = y + NOISE * torch.randn(y.shape, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    if isinstance(degradation, Masked):
        y = degradation.apply(y)
    mean, covariance = posterior(degradation, data, y)
    start = SeededNoise(range(DRAWS)).start((1, 4, 4)).double()
    conditioned = ConditionedDenoiser(data, degradation, y.expand(DRAWS, -1, -1, -1), NOISE)
    *_, last = conditioned_samples(conditioned, data.schedule, start, 80, SeededNoise(range(DRAWS, 2 * DRAWS)))
    drawn = last.x.flatten(1)
    assert torch.allclose(drawn.mean(0), mean, atol=0.03)
    assert float((torch.cov(drawn.T) - covariance).abs().max()) < 0.02  # the variances are 0.06 to 0.25


def posterior(degradation: Degradation, data: GaussianDenoiser, y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [16] and covariance [16,16] of white Gaussian data given y, by the matrix of A."""
    matrix = degradation.apply(torch.eye(16, dtype=torch.float64).view(16, 1, 4, 4)).flatten(1).T  # [m,16]
    precision = torch.eye(16, dtype=torch.float64) / data.variance[0, 0, 0] + matrix.T @ matrix / NOISE**2
    covariance = torch.linalg.inv(precision)
    prior = data.mean.flatten()
    return prior + covariance @ matrix.T @ (y.flatten() - matrix @ prior) / NOISE**2, covariance


def test_an_estimate_that_contradicts_the_data_is_trusted_less() -> None:
    """With |A D - y|^2 = 1 in every value, r^2 is 1 less the noise; an estimate that fits leaves what t says."""
    data = white(8)
    data.variance = torch.zeros_like(data.variance)  # it always says 0.1
    y = data.mean.expand(1, -1, -1, -1)
    t = torch.full((1,), 0.2, dtype=torch.float64)
    expected = 0.2**2 * 0.25 / (0.2**2 + 0.8**2 * 0.25)
    near = ConditionedDenoiser(data, Reduced(2), Reduced(2).apply(y), NOISE)
    assert float(near.spread(near.denoiser(y, t), 0.2)) == pytest.approx(expected)
    far = ConditionedDenoiser(data, Reduced(2), Reduced(2).apply(y + 1), NOISE)
    assert float(far.spread(far.denoiser(y, t), 0.2)) == pytest.approx((1 - NOISE**2) * 4)
    assert float((far(y, t) - y).mean()) > 0.9 and far.schedule is data.schedule


def test_smooth_errors_of_a_network_are_corrected_inside_a_hole_too() -> None:
    """One that knows the image but for a ramp: what the ramp is beside the hole says what it is inside."""
    data = white(16)
    data.variance = torch.zeros_like(data.variance)
    image = data.mean.expand(2, 1, 16, 16)
    known = torch.ones(1, 1, 16, 16)
    known[..., 5:11, 6:12] = 0
    ramp = torch.linspace(-0.4, 0.4, 16, dtype=torch.float64).expand(1, 1, 16, 16)

    class Inexact(GaussianDenoiser):
        def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
            return super().__call__(x_t, t) + ramp

    conditioned = ConditionedDenoiser(Inexact(data.mean, data.variance), Masked(known), known * image, 0.002)
    start = SeededNoise(range(2)).start((1, 16, 16)).double()
    *_, last = conditioned_samples(conditioned, data.schedule, start, 10, SeededNoise(range(2)))
    assert torch.allclose(last.x, image, atol=0.01)


def test_a_network_whose_errors_add_up_is_held_near_the_image() -> None:
    """One that makes everything brighter ends far from y without the discrepancy, and near it with it."""
    data = white(8)
    y = (data.draw(200) + NOISE * data.draw(200, 1)).double()

    class Brighter(GaussianDenoiser):
        def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
            return super().__call__(x_t, t) + 0.3

    brighter = Brighter(data.mean, data.variance)
    *_, held = denoised_samples(brighter, data.schedule, y, NOISE, 20, SeededNoise(range(200)))
    times = restoration_times(data.schedule, 20, NOISE)
    alpha = float(data.schedule.alpha(times[0]))
    *_, free = dpmpp_2m_sde(brighter, alpha * y, times, SeededNoise(range(200)))
    clean = data.draw(200)
    assert float((held.x - clean).mean()) < 0.6 * float((free.x - clean).mean())


def test_the_slider_goes_from_the_mean_to_the_sample_and_costs_its_share_squared() -> None:
    data = uneven(5)
    y = (data.draw(1) + 0.1).expand(DRAWS, -1, -1, -1)
    mean = posterior_mean(data, data.schedule, y, NOISE)
    *_, last = denoised_samples(data, data.schedule, y, NOISE, 40, SeededNoise(range(DRAWS)))
    assert torch.equal(blended(mean, last.x, 0), mean) and torch.allclose(blended(mean, last.x, 1), last.x)
    variance = data.variance * NOISE**2 / (data.variance + NOISE**2)
    for share in (0.5, 1.0):
        drawn = blended(mean, last.x, share)
        assert float(drawn.var(0).mean()) == pytest.approx(share**2 * float(variance.mean()), rel=0.06)
        error = float((drawn - mean).square().mean() + variance.mean())  # of x | y, which is independent of the draw
        assert error == pytest.approx((1 + share**2) * float(variance.mean()), rel=0.06)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda one: type(one).__name__)
def test_times_fall_from_the_noise_or_from_the_top_to_zero(schedule: Schedule) -> None:
    for steps in (1, 2, 7):
        for noise in (None, 0.5):
            times = restoration_times(schedule, steps, noise)
            assert len(times) == steps + 1 and bool((times.diff() < 0).all()) and float(times[-1]) == 0
            assert float(times[0]) == pytest.approx(schedule.t_max if noise is None else time_of(schedule, 0.5))
    level = -0.5 * schedule.log_snr(torch.tensor([time_of(schedule, 0.5)], dtype=torch.float64))
    assert math.exp(float(level)) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="0 steps"):
        restoration_times(schedule, 0)

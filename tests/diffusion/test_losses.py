from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from diffstudio.diffusion.denoiser import (
    CleanPrediction,
    EDMPreconditioned,
    EpsPrediction,
    FlowPrediction,
    VPrediction,
    alpha_sigma,
)
from diffstudio.diffusion.losses import (
    CosineTimes,
    EDMWeighting,
    LikelihoodWeighting,
    LogitNormalTimes,
    LogNormalSigma,
    MinSNR,
    NoiseLevels,
    UniformTimes,
    UniformWeighting,
    VelocityWeighting,
    VWeighting,
    Weighting,
    training_loss,
)
from diffstudio.diffusion.schedule import NoiseSchedule, RectifiedFlow, Schedule, VarianceExploding, VariancePreserving
from tests.diffusion.exact import SCHEDULES, Gaussian

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
every_distribution = pytest.mark.parametrize(
    "distribution", [UniformTimes(), LogNormalSigma(), LogitNormalTimes(0.6, 0.9), CosineTimes()], ids=repr
)
every_weighting = pytest.mark.parametrize(
    "weighting", [UniformWeighting(), EDMWeighting(0.4), MinSNR(), MinSNR(math.inf), VelocityWeighting()], ids=repr
)


def drawn(distribution: NoiseLevels, schedule: Schedule, count: int = 20_000) -> Tensor:
    return distribution.sample(count, schedule, torch.Generator().manual_seed(0))


def test_defaults_are_those_of_the_papers() -> None:
    """Table 1 of arXiv 2206.00364, the rf/lognorm(0.00, 1.00) of arXiv 2403.03206, gamma of arXiv 2303.09556."""
    assert LogNormalSigma() == LogNormalSigma(-1.2, 1.2)
    assert LogitNormalTimes() == LogitNormalTimes(0.0, 1.0)
    assert MinSNR() == MinSNR(5.0)


# ---- noise levels ----------------------------------------------------------------------------------------------------


@every_schedule
@every_distribution
def test_noise_levels_are_times_of_the_schedule_and_repeat(distribution: NoiseLevels, schedule: Schedule) -> None:
    t = drawn(distribution, schedule, 1000)
    assert t.shape == (1000,) and t.dtype is torch.float32
    assert t.min() >= schedule.t_min * (1 - 1e-6) and t.max() <= schedule.t_max
    assert torch.equal(t, drawn(distribution, schedule, 1000))


@pytest.mark.parametrize(("distribution", "schedule", "standardised", "expected"), [
    (LogNormalSigma(-1.2, 1.2), VarianceExploding(), lambda t: (t.log() + 1.2) / 1.2, stats.norm),
    (LogNormalSigma(-1.0, 0.5), RectifiedFlow(), lambda t: (t.logit() + 1.0) / 0.5, stats.norm),
    (LogitNormalTimes(0.6, 0.9), RectifiedFlow(), lambda t: (t.logit() - 0.6) / 0.9, stats.norm),
    (LogitNormalTimes(-0.5, 0.7), VariancePreserving.linear(), lambda t: ((t / 1000).logit() + 0.5) / 0.7, stats.norm),
    (UniformTimes(), RectifiedFlow(), lambda t: t, stats.uniform),
    (CosineTimes(), RectifiedFlow(), lambda t: (t / (1 - t)).atan() * 2 / math.pi, stats.uniform),
])  # fmt: skip
def test_noise_levels_are_distributed_as_they_say(distribution, schedule, standardised, expected) -> None:  # type: ignore[no-untyped-def]
    sample = standardised(drawn(distribution, schedule).double()).numpy()
    assert stats.kstest(sample, expected.cdf).statistic < 1.63 / math.sqrt(len(sample))  # the 1% point


def test_uniform_times_of_a_model_with_training_steps_are_those_steps() -> None:
    t = drawn(UniformTimes(), VariancePreserving.linear(10))
    steps, counts = t.unique(return_counts=True)
    assert steps.tolist() == list(range(1, 11))
    assert stats.chisquare(counts.numpy()).pvalue > 0.01


# ---- weightings ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Off:
    """An estimate that is wrong by a known amount."""

    schedule: NoiseSchedule
    x_0: Tensor
    error: Tensor

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.x_0 + self.error


@pytest.mark.parametrize(("weighting", "wrapper", "schedule"), [
    (MinSNR(math.inf), EpsPrediction, VariancePreserving.linear()),
    (VelocityWeighting(0.0), FlowPrediction, RectifiedFlow()),
    (VelocityWeighting(0.0), FlowPrediction, VariancePreserving.linear()),
    (UniformWeighting(), CleanPrediction, RectifiedFlow()),
    (EDMWeighting(0.5), EDMPreconditioned, VarianceExploding()),
    (EDMWeighting(1.0), VPrediction, VariancePreserving.linear()),
])  # fmt: skip
def test_weighted_errors_of_the_estimate_are_errors_of_the_prediction(
    weighting: Weighting, wrapper: type, schedule: Schedule
) -> None:
    """The network is wrong by `wrong`; the estimate then is by so much that the weighted loss is mean(wrong^2)."""
    generator = torch.Generator().manual_seed(0)
    x_0, eps, prediction, wrong = torch.randn(4, 3, 2, 4, 4, generator=generator)
    t = schedule.t_max * torch.tensor([0.2, 0.5, 0.8])
    alpha, sigma = alpha_sigma(schedule, t, x_0)
    x_t = alpha * x_0 + sigma * eps
    right = wrapper(lambda *_: prediction, schedule)(x_t, t)
    error = wrapper(lambda *_: prediction + wrong, schedule)(x_t, t) - right
    loss = training_loss(Off(schedule, x_0, error), x_0, t, eps, weighting)
    torch.testing.assert_close(loss, wrong.square().mean(dim=(1, 2, 3)), rtol=1e-3, atol=0)


def test_min_snr_is_capped() -> None:
    schedule = VariancePreserving.linear()
    t = torch.tensor([1.0, 500.0, 900.0])
    snr = schedule.log_snr(t).exp()
    torch.testing.assert_close(MinSNR(5.0)(schedule, t), torch.minimum(snr, torch.tensor(5.0)))


def test_velocity_is_floored_near_the_clean_image() -> None:
    weights = VelocityWeighting(0.05)(RectifiedFlow(), torch.tensor([0.001, 0.05, 0.5, 1.0]))
    torch.testing.assert_close(weights, torch.tensor([400.0, 400.0, 4.0, 1.0]))


@every_weighting
def test_weights_are_finite_from_noise_alone(weighting: Weighting) -> None:
    assert weighting(RectifiedFlow(), torch.ones(2)).isfinite().all()


# ---- the loss --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["linear", "variance_exploding", "rectified_flow"])
@every_weighting
def test_the_floor_of_the_loss_is_what_noise_has_made_unknowable(name: str, weighting: Weighting) -> None:
    """For Gaussian data the best loss is w times the variance that is left, s^2 sigma^2 / (alpha^2 s^2 + sigma^2)."""
    schedule, generator = SCHEDULES[name], torch.Generator().manual_seed(0)
    data = Gaussian(schedule, mean=0.3, deviation=0.4)
    x_0 = 0.3 + 0.4 * torch.randn(4, 3, 128, 128, generator=generator)
    eps = torch.randn(4, 3, 128, 128, generator=generator)
    t = schedule.t_max * torch.tensor([0.01, 0.2, 0.6, 0.95])
    floor = weighting(schedule, t) * (0.4 * schedule.sigma(t) / data.deviation_at(t)) ** 2
    loss = training_loss(data, x_0, t, eps, weighting)
    torch.testing.assert_close(loss, floor, rtol=0.03, atol=0)
    for other in (Gaussian(schedule, 0.4, 0.4), Gaussian(schedule, 0.3, 0.6)):
        assert training_loss(other, x_0, t, eps, weighting).sum() > loss.sum()


def test_each_image_has_its_own_loss() -> None:
    x_0, eps = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    error = torch.stack([torch.full((3, 4, 4), 1.0), torch.full((3, 4, 4), 2.0)])
    loss = training_loss(Off(RectifiedFlow(), x_0, error), x_0, torch.tensor([0.5, 0.25]), eps, VelocityWeighting())
    assert loss.tolist() == [4.0, 64.0]


def test_learning_finds_the_data() -> None:
    """The gradient reaches the network: a line through the data becomes the expected clean image."""
    schedule, generator = RectifiedFlow(), torch.Generator().manual_seed(0)
    data = Gaussian(schedule, mean=0.3, deviation=0.5)
    line = nn.Linear(1, 1)
    denoiser = CleanPrediction(lambda x, t: line(x.flatten()[:, None]).view_as(x), schedule)
    optimiser = torch.optim.LBFGS(line.parameters(), max_iter=30)
    x_0 = 0.3 + 0.5 * torch.randn(64, 1, 16, 16, generator=generator)
    eps = torch.randn(64, 1, 16, 16, generator=generator)
    t = torch.full((64,), 0.5)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = training_loss(denoiser, x_0, t, eps, UniformWeighting()).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    x = torch.linspace(-1, 1, 9).view(1, 1, 3, 3)
    torch.testing.assert_close(denoiser(x, t[:1]).detach(), data(x, t[:1]), rtol=0, atol=0.02)


@every_weighting
def test_under_autocast_the_loss_is_still_float32(weighting: Weighting) -> None:
    torch.manual_seed(0)
    network = nn.Conv2d(3, 3, 3, padding=1)
    seen: list[torch.dtype] = []

    def in_half(x: Tensor, t: Tensor) -> Tensor:
        prediction = network(x)
        seen.append(prediction.dtype)
        return prediction

    schedule = RectifiedFlow()
    x_0, eps, t = torch.randn(4, 3, 8, 8), torch.randn(4, 3, 8, 8), torch.tensor([0.02, 0.3, 0.7, 1.0])
    exact = training_loss(CleanPrediction(lambda x, _: network(x), schedule), x_0, t, eps, weighting)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = training_loss(CleanPrediction(in_half, schedule), x_0, t, eps, weighting)
    assert seen == [torch.bfloat16] and loss.dtype is torch.float32
    torch.testing.assert_close(loss, exact, rtol=0.02, atol=0)
    loss.mean().backward()
    assert network.weight.grad is not None and network.weight.grad.dtype is torch.float32


def test_black_parts_of_a_mask_do_not_count_and_grey_ones_in_part() -> None:
    """The mean over all pixels of the weighted squares, as in kohya-ss and OneTrainer."""
    x_0, eps = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    error = torch.zeros(2, 3, 4, 4)
    error[:, :, :, 2:] = 2.0  # in the right half
    mask = torch.ones(2, 1, 4, 4)
    mask[0, :, :, 2:] = 0
    mask[1, :, :, 2:] = 0.25
    off = Off(RectifiedFlow(), x_0, error)
    loss = training_loss(off, x_0, torch.tensor([0.5, 0.5]), eps, UniformWeighting(), mask)
    assert loss.tolist() == [0.0, 0.5]


@every_schedule
def test_v_weighting_is_the_squared_error_of_v(schedule: Schedule) -> None:
    x_0 = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    eps = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    t = schedule.t_max * torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    alpha, sigma = alpha_sigma(schedule, t, x_0)
    denoiser = VPrediction(lambda x, _: torch.zeros_like(x), schedule)
    expected = (alpha * eps - sigma * x_0).square().flatten(1).mean(1)
    torch.testing.assert_close(
        training_loss(denoiser, x_0, t, eps, VWeighting(1e-9)).double(), expected, rtol=1e-5, atol=1e-6
    )


def test_v_weighting_has_a_floor() -> None:
    schedule, t = RectifiedFlow(), torch.tensor([0.01, 0.05])
    weights = VWeighting(0.05)(schedule, t)
    torch.testing.assert_close(weights, ((1 - t) ** 2 + t**2) ** 2 / 0.05**2)


def test_likelihood_weighting_is_half_the_slope_of_the_snr() -> None:
    t = torch.tensor([0.01, 0.05, 0.5, 0.9])
    at = t.clamp(min=0.05)
    weights = LikelihoodWeighting(0.05)(RectifiedFlow(), t)
    torch.testing.assert_close(weights, (1 - at) / at**3)
    assert not weights.requires_grad


@pytest.mark.parametrize("schedule", [RectifiedFlow(), VarianceExploding(sigma_max=40.0)], ids=["flow", "edm"])
def test_the_loss_weighted_by_likelihood_is_the_information_in_x_t(schedule: Schedule) -> None:
    """Of Gaussian data: the integral of -SNR'/2 times the error from t to t_max is log(1 + s^2 SNR(t)) / 2.

    I-MMSE: Guo, Shamai and Verdu 2005, eq. 1. It is what the bound of the likelihood adds up.
    """
    deviation = 0.7
    t = torch.linspace(0.1, schedule.t_max, 200_001, dtype=torch.float64)
    snr = (schedule.alpha(t) / schedule.sigma(t)) ** 2
    error = deviation**2 / (1 + deviation**2 * snr)
    integral = torch.trapezoid(LikelihoodWeighting(1e-3)(schedule, t) * error, t)
    exact = 0.5 * (torch.log1p(deviation**2 * snr[0]) - torch.log1p(deviation**2 * snr[-1]))
    torch.testing.assert_close(integral, exact, rtol=1e-4, atol=0.0)

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import (
    LARGEST_SIGMA,
    CleanPrediction,
    Clipped,
    EDMPreconditioned,
    EpsPrediction,
    FlowPrediction,
    MinTimestep,
    VPrediction,
    alpha_sigma,
    clipped_to,
    denoiser_for,
    dynamically_thresholded,
)
from diffstudio.diffusion.objectives.parameterisation import Parameterisation, Prediction
from diffstudio.diffusion.schedule import RectifiedFlow, Schedule, VarianceExploding, VariancePreserving
from tests.diffusion.exact import SCHEDULES, Gaussian

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())


def noised(schedule: Schedule, fractions: tuple[float, ...] = (0.1, 0.5, 0.9)) -> tuple[Tensor, ...]:
    """x_0, eps, t and x_t of three images at three noise levels."""
    generator = torch.Generator().manual_seed(0)
    x_0, eps = torch.randn(2, 3, 3, 4, 4, generator=generator, dtype=torch.float64)
    t = schedule.t_max * torch.tensor(fractions, dtype=torch.float64)
    alpha, sigma = alpha_sigma(schedule, t, x_0)
    return x_0, eps, t, alpha * x_0 + sigma * eps


@every_schedule
@pytest.mark.parametrize("wrapper", [EpsPrediction, VPrediction, CleanPrediction, FlowPrediction])
def test_a_network_that_is_right_gives_the_clean_image(schedule: Schedule, wrapper: type) -> None:
    x_0, eps, t, x_t = noised(schedule)
    alpha, sigma = alpha_sigma(schedule, t, x_0)
    target = {
        EpsPrediction: eps,
        VPrediction: alpha * eps - sigma * x_0,
        CleanPrediction: x_0,
        FlowPrediction: eps - x_0,
    }[wrapper]
    torch.testing.assert_close(wrapper(lambda x, time: target, schedule)(x_t, t), x_0)


@every_schedule
def test_edm_preconditioning_gives_the_network_unit_variance(schedule: Schedule) -> None:
    """Karras et al. 2022, appendix B.6: input and target of unit variance, and the best skip for Gaussian data."""
    x_0, eps, t, x_t = noised(schedule)
    alpha, sigma = alpha_sigma(schedule, t, x_0)
    seen: list[Tensor] = []
    silent = EDMPreconditioned(lambda x, time: seen.append(x) or torch.zeros_like(x), schedule, sigma_data=0.4)
    gaussian = Gaussian(schedule, mean=0.0, deviation=0.4)
    torch.testing.assert_close(silent(x_t, t), gaussian(x_t, t))
    torch.testing.assert_close(seen[0] * ((0.4 * alpha) ** 2 + sigma**2).sqrt(), x_t)
    # the target (x_0 - c_skip x_t) / c_out over all x_0 and eps: its coefficients' squares sum to one
    c_skip = 0.4**2 * alpha / ((0.4 * alpha) ** 2 + sigma**2)
    c_out = EDMPreconditioned(lambda x, time: torch.ones_like(x), schedule, 0.4)(torch.zeros_like(x_t), t)
    torch.testing.assert_close(((1 - c_skip * alpha) * 0.4 / c_out) ** 2 + (c_skip * sigma / c_out) ** 2,
                               torch.ones_like(x_t))  # fmt: skip


@pytest.mark.parametrize(("schedule", "t", "own_time"), [
    (VariancePreserving.linear(), [1.0, 500.0, 1000.0], [0.0, 499.0, 999.0]),
    (VarianceExploding(), [0.1, 2.0, 80.0], [0.1, 2.0, 80.0]),
    (RectifiedFlow(shift=3.0), [0.1, 0.5, 1.0], [0.1, 0.5, 1.0]),
])  # fmt: skip
def test_a_network_is_told_the_time_as_it_learnt_it(schedule: Schedule, t: list[float], own_time: list[float]) -> None:
    received: list[Tensor] = []
    denoiser = CleanPrediction(lambda x, time: received.append(time) or x, schedule)
    denoiser(torch.zeros(3, 1, 2, 2), torch.tensor(t, dtype=torch.float64))
    assert received[0].dtype is torch.float32
    assert received[0].tolist() == pytest.approx(own_time)


def test_edm_networks_are_told_a_quarter_of_the_log_of_sigma() -> None:
    received: list[Tensor] = []
    schedule = VariancePreserving.linear()
    denoiser = EDMPreconditioned(lambda x, time: received.append(time) or x, schedule)
    t = torch.tensor([10.0, 900.0], dtype=torch.float64)
    denoiser(torch.zeros(2, 1, 2, 2, dtype=torch.float64), t)
    torch.testing.assert_close(received[0], -schedule.log_snr(t) / 8)


@pytest.mark.parametrize("wrapper", [EpsPrediction, VPrediction, CleanPrediction, FlowPrediction, EDMPreconditioned])
def test_a_network_in_half_precision_gives_an_estimate_in_full(wrapper: type) -> None:
    denoiser = wrapper(lambda x, time: x.bfloat16(), RectifiedFlow())
    assert denoiser(torch.ones(2, 1, 2, 2), torch.tensor([0.5, 0.25])).dtype is torch.float32


def test_noise_alone_says_nothing_to_a_network_that_predicts_noise() -> None:
    x, start = torch.zeros(1, 1, 2, 2), torch.ones(1, dtype=torch.float64)
    with pytest.raises(ValueError, match="alpha = 0"):
        EpsPrediction(lambda x, time: x, RectifiedFlow())(x, start)
    for wrapper in (VPrediction, CleanPrediction, FlowPrediction):
        assert wrapper(lambda x, time: x, RectifiedFlow())(x, start).isfinite().all()


def least_squares(prediction: Prediction, t: float, x_0: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
    """x_t, and the estimate of x_0 by the best linear network at time t: its output is `a` times its input."""
    schedule, times = RectifiedFlow(), torch.full((len(x_0),), t, dtype=torch.float64)
    alpha, sigma = alpha_sigma(schedule, times, x_0)
    x_t = alpha * x_0 + sigma * eps
    at = [denoiser_for(Parameterisation(prediction), lambda x, _, a=a: a * x, schedule)(x_t, times) for a in (0.0, 1.0)]
    slope = at[1] - at[0]  # every estimate is affine in the output of its network
    return x_t, at[0] + (slope * (x_0 - at[0])).sum() / slope.square().sum() * slope


@pytest.mark.parametrize("prediction", Prediction)
@pytest.mark.parametrize("t", [0.02, 0.3, 0.8, 0.95])
def test_the_optimum_of_every_prediction_is_the_same_clean_image(prediction: Prediction, t: float) -> None:
    """On Gaussian data: E[x_0 | x_t] = alpha s^2 / (alpha^2 s^2 + sigma^2) x_t.

    The variances of the data and the noise are exact here, and their correlation 0, so this is too.
    """
    generator = torch.Generator().manual_seed(0)
    x_0, eps = torch.linalg.qr(torch.randn(100, 2, generator=generator, dtype=torch.float64)).Q.T[..., None] * 10
    x_t, estimate = least_squares(prediction, t, 0.3 * x_0, eps)
    exact = Gaussian(RectifiedFlow(), mean=0.0, deviation=0.3)(x_t, torch.full((len(x_t),), t, dtype=torch.float64))
    torch.testing.assert_close(estimate, exact)


@pytest.mark.parametrize("prediction", Prediction)
def test_every_prediction_has_an_estimate_at_pure_noise(prediction: Prediction) -> None:
    times: list[Tensor] = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        times.append(t)
        return torch.zeros_like(x)

    denoiser = denoiser_for(Parameterisation(prediction), network, RectifiedFlow())
    x_t = torch.randn(2, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    estimate = denoiser(x_t, torch.tensor([1.0, 0.5], dtype=torch.float64))
    assert denoiser.schedule == RectifiedFlow() and bool(torch.isfinite(estimate).all())
    if prediction in LARGEST_SIGMA:
        latest = torch.tensor([LARGEST_SIGMA[prediction], 1.0], dtype=torch.float64)
        expected = latest.log() / 4 if prediction is Prediction.EDM else latest / (1 + latest)
        torch.testing.assert_close(times[0], expected)
    else:
        assert times[0].tolist() == [1.0, 0.5]


def test_clipped_estimates() -> None:
    """Clipping at a limit, and dynamic thresholding: by the quantile of each image, of which at most `largest` is used."""
    estimates = torch.tensor([[-4.0, 0.5, 1.0, 2.0], [-0.5, 0.1, 0.2, 0.4]]).view(2, 1, 2, 2)
    network = CleanPrediction(lambda x_t, t: x_t, RectifiedFlow())
    clipped = Clipped(network, clipped_to(1.5))
    assert clipped.schedule is network.schedule
    assert clipped(estimates, torch.zeros(2)).flatten(1).tolist() == [
        [-1.5, 0.5, 1.0, 1.5],
        estimates[1].flatten().tolist(),
    ]
    by_median = dynamically_thresholded(0.5, 3.0)(estimates)  # 1.5 of the first image; at least 1 of the second
    torch.testing.assert_close(by_median[0].flatten(), torch.tensor([-1, 1 / 3, 2 / 3, 1]))
    assert torch.equal(by_median[1], estimates[1])
    torch.testing.assert_close(
        dynamically_thresholded(1.0, 3.0)(estimates)[0].flatten()[:2], torch.tensor([-1, 0.5 / 3])
    )


def test_a_state_with_more_noise_than_its_time_says_is_denoised_better_at_the_minimum_timestep() -> None:
    """By the conditional expectation, where the noise is that of the minimum timestep: nothing is better."""
    schedule, generator = RectifiedFlow(), torch.Generator().manual_seed(0)
    exact = Gaussian(schedule, mean=0.0, deviation=0.1)
    early, late = (torch.full((64,), t, dtype=torch.float64) for t in (0.05, 0.2))
    x_0, eps = torch.randn(2, 64, 3, 8, 8, generator=generator, dtype=torch.float64)
    x_0 *= 0.1
    state = 0.95 * (x_0 + 0.25 * eps)  # sigma / alpha of t = 0.2
    sampled = MinTimestep(exact, 0.2)(state, early)
    torch.testing.assert_close(sampled, exact(0.8 * x_0 + 0.2 * eps, late))
    errors = [float((estimate - x_0).square().mean()) for estimate in (sampled, exact(state, early))]
    least = 0.01 * 0.04 / (0.0064 + 0.04)  # the variance of x_0 given the state
    assert errors[0] == pytest.approx(least, rel=0.02) and errors[1] > 3 * least


def test_a_minimum_timestep_changes_nothing_later() -> None:
    exact = Gaussian(RectifiedFlow())
    _, _, t, x_t = noised(RectifiedFlow(), (0.1, 0.5, 1.0))
    limited = MinTimestep(exact, 0.3)
    assert limited.schedule is exact.schedule
    torch.testing.assert_close(limited(x_t, t)[1:], exact(x_t, t)[1:], rtol=0, atol=0)
    assert not torch.allclose(limited(x_t, t)[0], exact(x_t, t)[0])

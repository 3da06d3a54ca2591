from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import CleanPrediction, Denoiser, EDMPreconditioned, EpsPrediction, FlowPrediction
from diffstudio.diffusion.noise import Noise, SeededNoise
from diffstudio.diffusion.samplers import SAMPLERS, Step, network_calls
from diffstudio.diffusion.schedule import NoiseSchedule, RectifiedFlow, Schedule, VarianceExploding, VariancePreserving
from diffstudio.diffusion.spacing import sampling_times
from diffstudio.studio.requests import SamplerName
from tests.diffusion.exact import SCHEDULES, Gaussian, Mixture, Point, log_snr_ladder, no_noise

DETERMINISTIC = ("euler", "ddim", "heun", "dpmpp_2m", "unipc")
STOCHASTIC = ("ddpm", "euler_ancestral", "dpmpp_2m_sde", "lcm")

every_sampler = pytest.mark.parametrize("name", SAMPLERS)
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
three_schedules = pytest.mark.parametrize(
    "schedule",
    [VariancePreserving.scaled_linear(), VarianceExploding(), RectifiedFlow()],
    ids=lambda s: type(s).__name__,
)


def walk(name: str, denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise = no_noise) -> list[Step]:
    return list(SAMPLERS[name](denoiser, x, times, noise))


def spread(schedule: Schedule, t: Tensor) -> Tensor:
    """25 states that the noise level of t would make likely: [1,1,5,5] float64."""
    scale = (schedule.alpha(t) ** 2 / 2 + schedule.sigma(t) ** 2).sqrt()
    return scale * torch.linspace(-1.5, 1.5, 25, dtype=torch.float64).view(1, 1, 5, 5)


def order(error_of: Callable[[int], float], steps: int) -> float:
    """By what power of the number of steps the error falls."""
    return math.log2(error_of(steps) / error_of(2 * steps))


# ---- the probability flow --------------------------------------------------------------------------------------------


@three_schedules
@pytest.mark.parametrize("data", [Gaussian, Mixture])
@pytest.mark.parametrize(("name", "expected"), [("euler", 1), ("ddim", 1), ("heun", 2), ("dpmpp_2m", 2), ("unipc", 3)])
def test_orders_of_convergence_to_the_exact_flow(name: str, expected: int, data: type, schedule: Schedule) -> None:
    """UniPC of order 2 with its corrector is one order better than its predictor: Zhao et al. 2023, Theorem 3.1."""
    denoiser = data(schedule)

    def error(steps: int) -> float:
        times = log_snr_ladder(schedule, -3.0, 6.0, steps)
        x = spread(schedule, times[0])
        return (walk(name, denoiser, x, times)[-1].x - denoiser.flow(x, times[0], times[-1])).abs().max().item()

    assert error(160) < {1: 0.04, 2: 6e-4, 3: 2e-5}[expected]
    assert order(error, 160) == pytest.approx(expected, abs=0.15)


@pytest.mark.parametrize(("name", "expected"), [("euler", 1), ("heun", 2), ("dpmpp_2m", 2), ("unipc", 3)])
def test_orders_hold_from_noise_alone(name: str, expected: int) -> None:
    """A flow starts with alpha = 0, an endless leg in log-SNR."""
    schedule = RectifiedFlow()
    denoiser = Gaussian(schedule)

    def error(steps: int) -> float:
        times = torch.linspace(1.0, 0.1, steps + 1, dtype=torch.float64)
        x = spread(schedule, times[0])
        return (walk(name, denoiser, x, times)[-1].x - denoiser.flow(x, times[0], times[-1])).abs().max().item()

    assert order(error, 80) == pytest.approx(expected, abs=0.15)


@every_schedule
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_a_single_image_is_reached_along_the_exact_flow(name: str, schedule: Schedule) -> None:
    """Where the estimate never changes, every deterministic sampler is exact on every ladder."""
    times = sampling_times(schedule, 5, "uniform")
    eps = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    x = schedule.alpha(times[0]) * 0.7 + schedule.sigma(times[0]) * eps
    for step, t in zip(walk(name, Point(schedule), x, times), times[1:], strict=True):
        torch.testing.assert_close(step.x, schedule.alpha(t) * 0.7 + schedule.sigma(t) * eps)


# ---- the stochastic ones ---------------------------------------------------------------------------------------------


@every_schedule
@pytest.mark.parametrize("name", STOCHASTIC)
def test_the_variance_of_the_noise_is_kept_at_every_step(name: str, schedule: Schedule) -> None:
    times = sampling_times(schedule, 6, "uniform")
    noise = SeededNoise([1, 2, 3])
    x = schedule.alpha(times[0]) * 0.7 + schedule.sigma(times[0]) * noise.start((3, 64, 64))
    for step, t in zip(walk(name, Point(schedule), x.float(), times, noise), times[1:], strict=True):
        alpha, sigma = schedule.alpha(t).item(), schedule.sigma(t).item()
        assert step.x.mean().item() == pytest.approx(alpha * 0.7, abs=0.03 * sigma + 1e-6)
        assert step.x.std().item() == pytest.approx(sigma, rel=0.02, abs=1e-6)


def exact_deviation(name: str, data: Gaussian, times: Tensor) -> float:
    """Of the last state. For centred Gaussian data it is linear in the start and in every draw: one pixel follows each."""
    draws = len(times)
    x = torch.zeros(1, 1, 1, draws, dtype=torch.float64)
    x[..., 0] = data.deviation_at(times[0])
    drawn = 0

    def impulse(like: Tensor) -> Tensor:
        nonlocal drawn
        drawn += 1
        return torch.nn.functional.one_hot(torch.tensor(drawn), draws).to(like).view(1, 1, 1, draws)

    return walk(name, data, x, times, impulse)[-1].x.square().sum().sqrt().item()


@three_schedules
@pytest.mark.parametrize(("name", "expected"), [("ddpm", 1), ("dpmpp_2m_sde", 2)])
def test_orders_of_convergence_of_the_spread(name: str, expected: int, schedule: Schedule) -> None:
    data = Gaussian(schedule, mean=0.0)

    def error(steps: int) -> float:
        times = log_snr_ladder(schedule, -5.0, 6.0, steps)
        return abs(exact_deviation(name, data, times) / data.deviation_at(times[-1]).item() - 1)

    assert error(160) < {1: 0.03, 2: 1e-3}[expected]
    assert order(error, 160) == pytest.approx(expected, abs=0.15)


def test_consistency_sampling_is_a_denoised_image_noised_anew() -> None:
    schedule = RectifiedFlow()
    noise, same = SeededNoise([4]), SeededNoise([4])
    x, times, data = torch.randn(1, 1, 4, 4), sampling_times(schedule, 3, "uniform"), Gaussian(schedule)
    for step in walk("lcm", data, x, times, noise):
        torch.testing.assert_close(step.denoised, data(x, times[step.index - 1]))
        x = (1 - step.t) * step.denoised + (step.t * same(x) if step.t > 0 else 0)
        torch.testing.assert_close(step.x, x)


# ---- identities ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("one", "other"), [("euler", "ddim"), ("ddpm", "euler_ancestral")])
def test_two_names_of_one_algorithm(one: str, other: str) -> None:
    schedule = VariancePreserving.scaled_linear()
    x, times = torch.randn(1, 3, 8, 8), sampling_times(schedule, 7, "karras")
    for a, b in zip(*(walk(name, Mixture(schedule), x, times, SeededNoise([1])) for name in (one, other)), strict=True):
        assert torch.equal(a.x, b.x)


@pytest.mark.parametrize(("second_order", "first_order"), [
    ("dpmpp_2m", "euler"), ("unipc", "euler"), ("dpmpp_2m_sde", "ddpm"),
])  # fmt: skip
def test_a_multistep_sampler_begins_as_its_first_order(second_order: str, first_order: str) -> None:
    schedule = VarianceExploding()
    x, times = 80 * torch.randn(1, 3, 8, 8), sampling_times(schedule, 5, "karras")
    one, other = (walk(name, Mixture(schedule), x, times, SeededNoise([1])) for name in (second_order, first_order))
    torch.testing.assert_close(one[0].x, other[0].x)
    assert not torch.allclose(one[1].x, other[1].x, rtol=1e-3)


def test_unipc_predicts_as_dpmpp_2m() -> None:
    """Both steps that no estimate has corrected yet: the first, and the second once its start is replaced."""
    schedule = VariancePreserving.scaled_linear()
    x, times = torch.randn(1, 1, 4, 4), sampling_times(schedule, 1, "karras")
    for a, b in zip(
        walk("unipc", Mixture(schedule), x, times), walk("dpmpp_2m", Mixture(schedule), x, times), strict=True
    ):
        assert torch.equal(a.x, b.x)


def test_no_history_is_kept_over_an_endless_leg() -> None:
    """From alpha = 0 log-SNR has come infinitely far: the second step knows no heading either."""
    schedule = RectifiedFlow()
    x, times = torch.randn(1, 1, 4, 4), sampling_times(schedule, 6, "uniform")
    euler, multistep = walk("euler", Mixture(schedule), x, times), walk("dpmpp_2m", Mixture(schedule), x, times)
    for index in (0, 1):
        torch.testing.assert_close(multistep[index].x, euler[index].x)
    assert not torch.allclose(multistep[2].x, euler[2].x, rtol=1e-3)


def test_unipc_corrects_an_endless_leg_as_well() -> None:
    """By the mean of the estimates at its ends: the trapezoid rule in alpha / sigma, in which the leg is finite."""
    schedule = RectifiedFlow()
    denoiser, x, times = Mixture(schedule), torch.randn(1, 1, 4, 4), sampling_times(schedule, 6, "uniform")
    first, second, *_ = walk("unipc", denoiser, x, times)
    assert times[0] == 1
    alpha, sigma = float(1 - times[1]), float(times[1])
    torch.testing.assert_close(first.x, alpha * first.denoised + sigma * x)
    corrected = alpha * (first.denoised + second.denoised) / 2 + sigma * x
    kept = float(times[2] / times[1])
    expected = kept * corrected + (float(1 - times[2]) - kept * alpha) * second.denoised
    torch.testing.assert_close(second.x, expected)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "heun"])
def test_a_schedule_is_only_a_change_of_coordinates(name: str) -> None:
    """With the same log-SNRs x / alpha is the same; Heun's coordinate is the schedule's own, hence not its steps."""
    exploding, others = VarianceExploding(), (VariancePreserving.cosine(), RectifiedFlow())
    reference = log_snr_ladder(exploding, -4.0, 5.0, 8)
    start = 4 * torch.randn(1, 1, 6, 6, dtype=torch.float64)
    expected = walk(name, Mixture(exploding), start, reference, SeededNoise([1]))
    for schedule in others:
        times = schedule.t_from_log_snr(exploding.log_snr(reference))
        steps = walk(name, Mixture(schedule), schedule.alpha(times[0]) * start, times, SeededNoise([1]))
        for step, like in zip(steps, expected, strict=True):
            t = torch.tensor(step.t, dtype=torch.float64)
            torch.testing.assert_close(step.x / schedule.alpha(t), like.x, rtol=1e-6, atol=1e-6)


def test_heun_averages_noise_in_sigma_over_alpha_and_velocity_in_time() -> None:
    x, times = torch.randn(1, 1, 4, 4, dtype=torch.float64), torch.tensor([0.8, 0.5], dtype=torch.float64)
    flow = RectifiedFlow()
    velocity = lambda x, t: (x - Gaussian(flow)(x, t)) / t  # noqa: E731
    slope = velocity(x, times[0])
    slope_next = velocity(x - 0.3 * slope, times[1])
    torch.testing.assert_close(walk("heun", Gaussian(flow), x, times)[0].x, x - 0.3 * (slope + slope_next) / 2)

    preserving = VariancePreserving.linear()
    alpha, alpha_next = preserving.alpha(1000 * times)
    sigma, sigma_next = preserving.sigma(1000 * times)
    eps = lambda x, t, alpha, sigma: (x - alpha * Gaussian(preserving)(x, t)) / sigma  # noqa: E731
    slope, distance = eps(x, 1000 * times[0], alpha, sigma), sigma_next / alpha_next - sigma / alpha
    slope_next = eps(alpha_next * (x / alpha + distance * slope), 1000 * times[1], alpha_next, sigma_next)
    torch.testing.assert_close(walk("heun", Gaussian(preserving), x, 1000 * times)[0].x,
                               alpha_next * (x / alpha + distance * (slope + slope_next) / 2))  # fmt: skip


# ---- any schedule ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trigonometric:
    """Nothing but alpha and sigma, which is all that a sampler may need; alpha = 0 at the start."""

    def alpha(self, t: Tensor) -> Tensor:
        return torch.where(t == 1, 0.0, torch.cos(t * math.pi / 2))

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sin(t * math.pi / 2)


@every_sampler
@pytest.mark.parametrize("schedule", [*SCHEDULES.values(), Trigonometric()], ids=[*SCHEDULES, "trigonometric"])
def test_every_sampler_on_every_schedule_makes_pictures(name: str, schedule: NoiseSchedule) -> None:
    if isinstance(schedule, Schedule):
        times = sampling_times(
            schedule, 40, "log_snr" if schedule.alpha(torch.tensor(schedule.t_max)) > 0 else "uniform"
        )
    else:
        times = torch.linspace(1, 0, 41, dtype=torch.float64)
    noise = SeededNoise([1, 2])
    x = noise.start((3, 32, 32)) * schedule.sigma(times[0]).float()
    data = Gaussian(schedule)
    steps = walk(name, data, x, times, noise)
    assert len(steps) == 40 and all(step.x.isfinite().all() for step in steps)
    assert steps[-1].x.dtype is torch.float32
    torch.testing.assert_close(steps[-1].x, steps[-1].denoised)  # at t = 0 the state is the estimate
    assert steps[-1].x.mean().item() == pytest.approx(0.7, abs=0.03)
    if name != "lcm":  # made for networks that jump to an image, not to the mean of all
        assert steps[-1].x.std().item() == pytest.approx(0.4, rel=0.25)


@every_sampler
def test_networks_that_predict_noise_cannot_start_from_it(name: str) -> None:
    schedule = RectifiedFlow()
    with pytest.raises(ValueError, match="alpha = 0"):
        walk(
            name,
            EpsPrediction(lambda x, t: x, schedule),
            torch.randn(1, 1, 2, 2),
            sampling_times(schedule, 3, "uniform"),
        )


# ---- the loop --------------------------------------------------------------------------------------------------------


@every_sampler
def test_steps_say_where_they_are(name: str) -> None:
    schedule = VariancePreserving.scaled_linear()
    times = sampling_times(schedule, 4, "trailing")
    steps = walk(name, Gaussian(schedule), torch.randn(1, 1, 2, 2), times, SeededNoise([0]))
    assert [(step.index, step.t) for step in steps] == [(1, 750), (2, 500), (3, 250), (4, 0)]


@every_sampler
@every_schedule
@pytest.mark.parametrize("end", [None, -1], ids=["to the clean image", "to some noise"])
def test_network_calls_counts_the_calls(name: str, schedule: Schedule, end: int | None) -> None:
    """Heun saves its second call at sigma = 0 and at an infinite scheduler sigma; all others make one call per step."""
    times = sampling_times(schedule, 4, "uniform")[:end]
    calls = []

    @dataclass(frozen=True)
    class Counted(Gaussian):
        def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
            calls.append(t)
            return super().__call__(x_t, t)

    walk(name, Counted(schedule), torch.randn(1, 1, 2, 2), times, SeededNoise([0]))
    assert len(calls) == network_calls(name, schedule, times)
    steps = len(times) - 1
    assert len(calls) == (2 * steps - (end is None) if name == "heun" else steps)


@every_sampler
def test_the_network_is_asked_as_late_and_as_seldom_as_can_be(name: str) -> None:
    schedule, asked = RectifiedFlow(), []

    @dataclass(frozen=True)
    class Counted(Gaussian):
        def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
            assert t.shape == (2,) and t.dtype is torch.float64
            assert not torch.is_grad_enabled()
            asked.append(t[0].item())
            return super().__call__(x_t, t)

    steps = SAMPLERS[name](
        Counted(schedule), torch.randn(2, 1, 2, 2), sampling_times(schedule, 4, "uniform"), SeededNoise([0, 1])
    )
    assert asked == []
    next(steps)
    assert asked == ([1.0, 0.75] if name == "heun" else [1.0])
    assert torch.is_grad_enabled()  # the caller's, while the sampler waits
    list(steps)
    assert len(asked) == (7 if name == "heun" else 4)


@every_sampler
def test_an_image_is_the_same_in_any_batch_and_every_time(name: str) -> None:
    schedule = VariancePreserving.scaled_linear()
    times, data = sampling_times(schedule, 6, "karras"), Mixture(schedule)

    def sample(seeds: list[int]) -> Tensor:
        noise = SeededNoise(seeds)
        return walk(name, data, noise.start((3, 8, 8)), times, noise)[-1].x

    assert torch.equal(sample([7, 8]), sample([7, 8]))
    torch.testing.assert_close(sample([7, 8])[1], sample([8])[0], rtol=0, atol=1e-5)


@every_sampler
@pytest.mark.parametrize("wrapper", [EpsPrediction, FlowPrediction, EDMPreconditioned])
def test_the_state_stays_where_it_is(name: str, wrapper: type) -> None:
    """The device without memory stands for an accelerator: mixing it with the CPU's float64 times would fail."""

    def network(x: Tensor, time: Tensor) -> Tensor:
        assert x.device.type == time.device.type == "meta" and time.dtype is torch.float32
        return x.bfloat16()

    schedule = VariancePreserving.scaled_linear()
    x = torch.randn(2, 3, 4, 4, device="meta")
    for step in walk(name, wrapper(network, schedule), x, sampling_times(schedule, 3, "karras"), SeededNoise([0, 1])):
        assert step.x.device.type == step.denoised.device.type == "meta" and step.x.dtype is torch.float32


@every_sampler
@pytest.mark.parametrize("times", [[1.0], [0.5, 1.0], [1.0, 0.5, 0.5], [[1.0, 0.0]]])
def test_times_that_do_not_decrease_are_refused(name: str, times: list[float]) -> None:
    with pytest.raises(ValueError, match="strictly decreasing"):
        walk(name, Gaussian(RectifiedFlow()), torch.zeros(1, 1, 2, 2), torch.tensor(times))


def test_a_person_can_ask_for_exactly_these_samplers() -> None:
    assert sorted(name.value for name in SamplerName) == sorted(SAMPLERS)


def test_ddim_with_clipped_estimates_keeps_the_noise_that_is_predicted() -> None:
    """Eq. 12 by hand for one step: only the first term is clipped."""
    schedule = VariancePreserving.linear()
    x, times = torch.full((1, 1, 2, 2), 1.5, dtype=torch.float64), torch.tensor([800.0, 400.0])
    denoiser = CleanPrediction(lambda x_t, t: 3 * x_t, schedule)
    (step,) = SAMPLERS["ddim"](denoiser, x, times, torch.zeros_like)
    (clipped,) = partial(SAMPLERS["ddim"], clip=lambda estimate: estimate.clamp(-1, 1))(
        denoiser, x, times, torch.zeros_like
    )
    alpha = schedule.alpha(torch.tensor(400.0, dtype=torch.float64))
    assert clipped.denoised.eq(1).all() and step.denoised.eq(4.5).all()
    torch.testing.assert_close(clipped.x, step.x - alpha * 3.5)

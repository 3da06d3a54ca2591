"""Paths of the probability flow and what a network learns from them, against closed forms for Gaussian data."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import CleanPrediction
from diffstudio.diffusion.distillation.consistency import landing_estimate, path_losses, segment_ends, solve_path
from diffstudio.diffusion.samplers import SAMPLERS, ddpm, dpmpp_2m, euler
from diffstudio.diffusion.schedule import RectifiedFlow

SCHEDULE = RectifiedFlow()
MEAN, DEVIATION = 0.4, 0.5


def expected(x_t: Tensor, t: Tensor) -> Tensor:
    """E[x_0 | x_t] where x_0 ~ N(MEAN, DEVIATION^2)."""
    t = t.to(x_t).view(-1, 1, 1, 1)
    variance = ((1 - t) * DEVIATION) ** 2 + t**2
    return MEAN + (1 - t) * DEVIATION**2 / variance * (x_t - (1 - t) * MEAN)


def flow(x: Tensor, t: float, t_end: float) -> Tensor:
    """Where the probability flow of that Gaussian takes x: it keeps the standardised value."""

    def deviation(at: float) -> float:
        return math.sqrt(((1 - at) * DEVIATION) ** 2 + at**2)

    return (1 - t_end) * MEAN + deviation(t_end) / deviation(t) * (x - (1 - t) * MEAN)


def path_of(start: float, end: float, calls: int = 64):
    x = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    teacher = CleanPrediction(expected, SCHEDULE)
    return solve_path(teacher, dpmpp_2m, x, torch.linspace(start, end, calls + 1, dtype=torch.float64))


@pytest.mark.parametrize(("start", "end"), [(1.0, 0.0), (1.0, 0.5), (0.5, 0.0)])
def test_every_state_of_a_path_flows_to_its_end(start: float, end: float) -> None:
    path = path_of(start, end)
    assert len(path.times) == len(path.states) == 64 and path.times[0] == start and path.end_time == end
    for t, state in zip(path.times, path.states, strict=True):
        torch.testing.assert_close(path.end, flow(state, t, end), atol=4e-3, rtol=0)


@pytest.mark.parametrize("end", [0.0, 0.5])
def test_one_step_of_euler_with_the_target_arrives_at_the_end(end: float) -> None:
    """A network that predicts the targets needs one call for what takes the teacher many."""
    path = path_of(1.0, end, calls=7)
    for t, state, target in zip(path.times, path.states, path.targets(SCHEDULE), strict=True):
        learnt = CleanPrediction(lambda x_t, t, target=target: target, SCHEDULE)
        *_, last = euler(learnt, state, torch.tensor([t, end]), lambda x: x)
        torch.testing.assert_close(last.x, path.end)
        if end == 0:
            assert torch.equal(target, path.end)


def test_the_consistency_function_of_a_gaussian_draws_it_in_one_two_and_four_steps() -> None:
    """It is the flow to t = 0: with it multistep consistency sampling gives the right mean and deviation at once."""
    function = CleanPrediction(lambda x_t, t: flow(x_t, float(t[0]), 0.0), SCHEDULE)
    generator = torch.Generator().manual_seed(0)

    def noise(x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=generator, dtype=x.dtype)

    for steps in (1, 2, 4):
        start = torch.randn(1, 1, 200, 200, generator=generator, dtype=torch.float64)
        *_, last = SAMPLERS["lcm"](function, start, torch.linspace(1, 0, steps + 1, dtype=torch.float64), noise)
        assert float(last.x.mean()) == pytest.approx(MEAN, abs=0.01)
        assert float(last.x.std()) == pytest.approx(DEVIATION, abs=0.01)
    *_, blurred = SAMPLERS["lcm"](CleanPrediction(expected, SCHEDULE), start, torch.tensor([1.0, 0.5, 0.0]), noise)
    assert float(blurred.x.std()) < 0.8 * DEVIATION  # the expected image is not such a function


def test_segments_cover_all_noise_levels_from_the_noisiest() -> None:
    assert segment_ends(1, 1.0) == [(1.0, 0.0)]
    assert segment_ends(4, 2.0) == [(2.0, 1.5), (1.5, 1.0), (1.0, 0.5), (0.5, 0.0)]


def test_the_loss_is_a_distance_far_away_and_squared_nearby() -> None:
    target = torch.zeros(2, 1, 4, 4)
    far, near = path_losses(target + 1, target), path_losses(target + 1e-4, target)
    torch.testing.assert_close(far, torch.full((2,), 1.0), atol=0.011, rtol=0)
    torch.testing.assert_close(near, torch.full((2,), 1e-8 / 0.02), atol=1e-8, rtol=1e-2)
    assert not path_losses(target, target).any()
    masked = path_losses(target + 1, target, torch.zeros(2, 1, 4, 4))
    assert not masked.any()


def test_an_estimate_of_the_whole_way_is_the_end_itself() -> None:
    x = torch.ones(1, 1, 2, 2)
    assert torch.equal(landing_estimate(SCHEDULE, 3 * x, 0.7, 2 * x, 0.0), 2 * x)


def test_a_sampler_that_draws_noise_follows_no_path() -> None:
    with pytest.raises(RuntimeError, match="draws no noise"):
        solve_path(CleanPrediction(expected, SCHEDULE), ddpm, torch.ones(1, 1, 2, 2), torch.tensor([1.0, 0.5, 0.0]))

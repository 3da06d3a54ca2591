"""Fitted spacings against brute force on small grids, and against the closed-form flow of Gaussian data."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.diffusion.samplers import SAMPLERS
from diffstudio.diffusion.schedule import NoiseSchedule, RectifiedFlow, Schedule
from diffstudio.diffusion.spacing import sampling_times
from diffstudio.diffusion.step_fitting import (
    Ladder,
    Runs,
    difference,
    fit_by_dynamic_programming,
    grid_of,
    record_path,
    refine,
    with_midpoints,
)
from diffstudio.errors import BadRequest
from tests.diffusion.exact import SCHEDULES, Gaussian

GRID = (1.0, 0.9, 0.75, 0.6, 0.45, 0.3, 0.15, 0.05)


def noise(schedule: Schedule, count: int = 3) -> Tensor:
    x = torch.randn(count, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x * schedule.sigma(torch.tensor(schedule.t_max, dtype=torch.float64))


class Counted:
    """A denoiser that counts its calls."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser, self.times = denoiser, list[float]()

    @property
    def schedule(self) -> NoiseSchedule:
        return self.denoiser.schedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.times.append(t[0].item())
        return self.denoiser(x_t, t)


def runs_of(
    sampler: str, schedule: Schedule | None = None, denoiser: Denoiser | None = None, **options: Denoiser
) -> Runs:
    schedule = schedule or RectifiedFlow()
    data = denoiser or Gaussian(schedule)
    return Runs(sampler, SAMPLERS[sampler], data, noise(schedule), **options)


def exact_path(schedule: Schedule, x: Tensor, times: list[float]) -> dict[float, Tensor]:
    """The states of the probability flow of Gaussian data in closed form."""
    start = torch.tensor(schedule.t_max, dtype=torch.float64)
    return {t: Gaussian(schedule).flow(x, start, torch.tensor(t, dtype=torch.float64)) for t in times}


# ---- running a sampler again -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["euler", "ddim", "heun", "dpmpp_2m", "unipc"])
@pytest.mark.parametrize("schedule", ["scaled_linear", "variance_exploding", "rectified_flow"])
def test_a_run_with_kept_estimates_is_the_sampler_to_the_bit(sampler: str, schedule: str) -> None:
    this = SCHEDULES[schedule]
    runs = runs_of(sampler, this)
    ladders = [sampling_times(this, steps, spacing) for steps in (3, 5) for spacing in ("uniform", "karras", "log_snr")]
    for times in ladders * 2:
        *_, last = SAMPLERS[sampler](Gaussian(this), runs.x, times, _no_noise)
        assert torch.equal(runs.image(tuple(times[:-1].tolist())), last.x)


def test_ladders_share_the_calls_of_their_common_beginning() -> None:
    counted = Counted(Gaussian(RectifiedFlow()))
    runs = runs_of("dpmpp_2m", denoiser=counted)
    runs.image((1.0, 0.6, 0.3, 0.1))
    runs.image((1.0, 0.6, 0.3, 0.2))
    assert counted.times == [1.0, 0.6, 0.3, 0.1, 0.2] and runs.calls == 5
    runs.image((1.0, 0.6, 0.3, 0.1))
    assert runs.calls == 5
    runs.forget(but=[(1.0, 0.6, 0.2)])
    runs.image((1.0, 0.6, 0.2))
    assert counted.times[5:] == [0.2]  # 1.0 and 0.6 were kept
    runs.forget()
    runs.image((1.0,))
    assert runs.calls == 7


def test_the_last_of_three_calls_may_go_to_another_denoiser() -> None:
    schedule = RectifiedFlow()
    whole, last = Counted(Gaussian(schedule)), Counted(Gaussian(schedule, mean=0.0))
    runs = runs_of("euler", denoiser=whole, last=last)
    runs.image((1.0, 0.5))
    assert last.times == []  # with two calls, none is different
    runs.state((1.0, 0.5, 0.25, 0.1))
    assert last.times == []  # not at the end
    image = runs.image((1.0, 0.5, 0.25))
    assert last.times == [0.25]
    assert not torch.equal(image, runs_of("euler").image((1.0, 0.5, 0.25)))
    runs = runs_of("heun", denoiser=whole, last=last)
    runs.image((1.0, 0.25))
    assert last.times == [0.25, 0.25]  # of its three calls the third, at the same time as the second


def test_distances_are_measured_on_what_the_last_state_is_finished_to() -> None:
    runs = Runs("euler", SAMPLERS["euler"], Gaussian(RectifiedFlow()), noise(RectifiedFlow()), finish=torch.sign)
    assert set(runs.image((1.0, 0.5)).unique().tolist()) <= {-1.0, 1.0}


def test_a_sampler_with_noise_of_its_own_is_refused() -> None:
    with pytest.raises(ValueError, match="deterministic sampler"):
        runs_of("euler_ancestral").image((1.0, 0.5))


# ---- the recorded path -----------------------------------------------------------------------------------------------


def test_a_fine_path_is_that_of_the_flow() -> None:
    schedule = RectifiedFlow()
    runs, times = runs_of("dpmpp_2m"), with_midpoints(with_midpoints(grid_of(schedule, 60))[:-1])
    path, exact = record_path(runs, times), exact_path(schedule, runs.x, times)
    assert list(path) == times and times[0] == 1.0 and times[-1] == 0.0
    assert max(difference(path[t], exact[t]) for t in times) < 1e-5


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_a_grid_falls_from_the_noise_to_the_smallest_times(schedule: Schedule) -> None:
    grid = grid_of(schedule, 30)
    assert grid[0] == pytest.approx(schedule.t_max) and grid[-1] == pytest.approx(schedule.t_min, rel=0.2)
    assert grid == sorted(set(grid), reverse=True) and 20 <= len(grid) <= 30


# ---- dynamic programming ---------------------------------------------------------------------------------------------


def by_brute_force(runs: Runs, target: Tensor, steps: int) -> tuple[Ladder, float]:
    """The best of all ladders over the grid that begin at the noise."""
    ladders = [(GRID[0], *others) for others in combinations(GRID[1:], steps - 1)]
    return min(((one, difference(runs.image(one), target)) for one in ladders), key=lambda found: found[1])


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "unipc"])
def test_it_finds_what_brute_force_finds_or_nearly(sampler: str, steps: int) -> None:
    """On one Gaussian a state closer to the path leads to an image that is closer, so Euler's ladders are the best there are.

    With the others errors of two steps may cancel, and multistep samplers bring a history of their own: within a factor of
    four, and no worse than the best ladder of the grid once it is refined.
    """
    runs = runs_of(sampler)
    path = exact_path(RectifiedFlow(), runs.x, [*GRID, 0.0])
    found = fit_by_dynamic_programming(runs, path, [steps])[steps]
    best, away = by_brute_force(runs, path[0.0], steps)
    assert len(found) == steps and found[0] == 1.0 and set(found) <= set(GRID)
    if sampler == "euler":
        assert found == best
    assert difference(runs.image(found), path[0.0]) <= 4 * away + 1e-12
    assert refine(runs, RectifiedFlow(), found, path[0.0], 1000)[1] <= away + 1e-12


def test_one_search_gives_the_ladders_of_all_numbers_of_steps() -> None:
    runs = runs_of("euler")
    path = exact_path(RectifiedFlow(), runs.x, [*GRID, 0.0])
    layers: list[int] = []
    found = fit_by_dynamic_programming(runs, path, [2, 4], on_layer=lambda: layers.append(1))
    assert found == {steps: fit_by_dynamic_programming(runs, path, [steps])[steps] for steps in (2, 4)}
    assert len(layers) == 4


def test_the_search_is_better_than_any_spacing_of_the_sampler() -> None:
    schedule = RectifiedFlow()
    grid = grid_of(schedule, 40)
    for sampler in ("euler", "dpmpp_2m"):
        runs = runs_of(sampler)
        path = exact_path(schedule, runs.x, [*grid, 0.0])
        found = fit_by_dynamic_programming(runs, path, [4])[4]
        offered = [sampling_times(schedule, 4, name)[:-1].tolist() for name in ("uniform", "karras", "log_snr")]
        usual = min(difference(runs.image(tuple(one)), path[0.0]) for one in offered)
        assert difference(runs.image(found), path[0.0]) < 0.7 * usual


@pytest.mark.parametrize("steps", [[], [0], [9], [3, 20]])
def test_more_steps_than_times_are_refused(steps: list[int]) -> None:
    runs = runs_of("euler")
    with pytest.raises(BadRequest, match="8 times"):
        fit_by_dynamic_programming(runs, exact_path(RectifiedFlow(), runs.x, [*GRID, 0.0]), steps)


# ---- coordinate descent ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "unipc"])
def test_refining_comes_closer_and_never_worse(sampler: str) -> None:
    schedule = RectifiedFlow()
    runs = runs_of(sampler)
    target = exact_path(schedule, runs.x, [0.0])[0.0]
    start = tuple(sampling_times(schedule, 4, "uniform")[:-1].tolist())
    before = difference(runs.image(start), target)
    ladder, away = refine(runs, schedule, start, target, 400)
    assert away < 0.7 * before and away == difference(runs.image(ladder), target)
    assert ladder[0] == start[0] and all(low < high for high, low in zip(ladder, ladder[1:], strict=False))


def test_two_steps_of_euler_end_at_the_best_second_time() -> None:
    """The only free time, against a fine search over it."""
    schedule = RectifiedFlow()
    runs = runs_of("euler")
    target = exact_path(schedule, runs.x, [0.0])[0.0]
    (_, second), away = refine(runs, schedule, (1.0, 0.5), target, 100)
    best = min((t / 1000 for t in range(1, 1000)), key=lambda t: difference(runs.image((1.0, t)), target))
    assert second == pytest.approx(best, abs=0.01)
    assert away <= difference(runs.image((1.0, best)), target) * 1.05


def test_it_ends_before_its_calls_are_used_up_and_with_nothing_to_move() -> None:
    runs = runs_of("euler")
    target = exact_path(RectifiedFlow(), runs.x, [0.0])[0.0]
    refine(runs, RectifiedFlow(), (1.0, 0.7, 0.4), target, 20)
    assert runs.calls <= 20
    assert refine(runs, RectifiedFlow(), (1.0,), target, 20)[0] == (1.0,)


def test_no_time_passes_its_neighbours() -> None:
    runs = runs_of("euler")
    target = exact_path(RectifiedFlow(), runs.x, [0.0])[0.0]
    ladder, _ = refine(runs, RectifiedFlow(), (1.0, 0.501, 0.5, 0.499), target, 200)
    assert all(low < high for high, low in zip(ladder, ladder[1:], strict=False))


def _no_noise(x: Tensor) -> Tensor:
    raise AssertionError("a deterministic sampler asked for noise")

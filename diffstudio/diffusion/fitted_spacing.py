"""Fitted spacings: the times of few steps that bring one sampler closest to the path of one model.

A fine path x(t) of the probability flow is recorded once, from many noises. Then the times of K steps are searched with
the sampler itself in the loop, in two stages:

1. Dynamic programming over a grid of times, for all K at once (`fit_by_dynamic_programming`): the state of k steps that
   comes closest to the path at t_j is reached through one of those of k - 1 steps. OSS, Pei et al. 2025 (arXiv
   2503.21774), section 3; GITS, Chen et al. 2024 (arXiv 2405.11326), section 3.3.
2. Coordinate descent on the distance of the images themselves (`refine`). A multistep sampler carries estimates from
   step to step, so that the best way to t_j is not always part of the best way through it; and an error at the
   beginning, which changes what is in an image, weighs more than its size in x(t) says.

Ladders of one sampler do not suit another: each is searched for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.diffusion.samplers import Sampler, network_calls
from diffstudio.diffusion.schedule import NoiseSchedule, Schedule
from diffstudio.diffusion.spacing import sampling_times
from diffstudio.errors import BadRequest

Ladder = tuple[float, ...]  # times in units of t, falling, without the final 0
_Key = tuple[Ladder, int, bool]


class Runs:
    """One deterministic sampler along many ladders from the same noise [B,C,h,w].

    Ladders with a common beginning share its network calls: estimates are kept, and the sampler is run again with them.
    `last`, if given, makes the last of three or more calls in place of `denoiser`; `finish` turns the last state into
    what distances are measured on.
    """

    def __init__(
        self,
        name: str,
        sampler: Sampler,
        denoiser: Denoiser,
        x: Tensor,
        *,
        last: Denoiser | None = None,
        finish: Callable[[Tensor], Tensor] = lambda x: x,
    ) -> None:
        self.name, self.x, self.schedule = name, x, denoiser.schedule
        self._sampler, self._denoiser, self._last, self._finish = sampler, denoiser, last, finish
        self._kept: dict[_Key, Tensor] = {}
        self.calls = 0  # of the network, so far

    def state(self, times: Sequence[float]) -> Tensor:
        """The state at the last of these times, which may be 0."""
        ladder = torch.tensor(times, dtype=torch.float64)
        replay = _Replay(self, tuple(times), network_calls(self.name, self.schedule, ladder))
        x = self.x
        for step in self._sampler(replay, self.x, ladder, _no_noise):
            x = step.x
        return x

    def finished(self, state: Tensor) -> Tensor:
        """What distances are measured on, of the last state."""
        return self._finish(state)

    def image(self, ladder: Ladder) -> Tensor:
        """What the sampler makes with these steps."""
        return self.finished(self.state((*ladder, 0.0)))

    def forget(self, but: Iterable[Ladder] = ()) -> None:
        """Free the estimates, but for those on the way along some ladders."""
        kept = {ladder[:length] for ladder in but for length in range(1, len(ladder) + 1)}
        self._kept = {key: estimate for key, estimate in self._kept.items() if key[0] in kept}

    def estimate(self, key: _Key, x_t: Tensor, t: Tensor) -> Tensor:
        """The estimate that is kept for this call, or a new one."""
        if key not in self._kept:
            self.calls += 1
            denoiser = self._last if key[2] and self._last is not None else self._denoiser
            self._kept[key] = denoiser(x_t, t)
        return self._kept[key]


FEWEST_CALLS_WITH_OTHER_LAST = 3


@dataclass(slots=True)
class _Replay:
    """The denoiser of one run: every call is known by the times up to it, and by how often its time was asked for."""

    runs: Runs
    times: Ladder
    calls_left: int
    may_end: bool = field(init=False)
    asked: dict[float, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.may_end = self.times[-1] == 0 and self.calls_left >= FEWEST_CALLS_WITH_OTHER_LAST

    @property
    def schedule(self) -> NoiseSchedule:
        return self.runs.schedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        time = t[0].item()
        self.calls_left -= 1
        self.asked[time] = self.asked.get(time, 0) + 1
        is_last = self.may_end and self.calls_left == 0
        return self.runs.estimate((self.times[: self.times.index(time) + 1], self.asked[time], is_last), x_t, t)


def fit_by_dynamic_programming(
    runs: Runs, path: Mapping[float, Tensor], step_counts: Iterable[int], *, on_layer: Callable[[], None] = lambda: None
) -> dict[int, Ladder]:
    """A ladder for each number of steps, over the times of `path`: its states [B,C,h,w], with those at t_max and 0.

    For k = 1, 2, … and each time t_j the ladder of k steps to t_j is kept whose state comes closest to path[t_j], in mean
    squared distance, among those that extend a ladder of k - 1 steps; the last step is chosen by the images. For a
    sampler of one step the estimates depend on the state alone; a multistep sampler brings those of its own way.
    `on_layer` is called after each k. BadRequest for more steps than there are times.
    """
    wanted = set(step_counts)
    grid = sorted((t for t in path if t > 0), reverse=True)
    if not wanted or min(wanted) < 1 or len(grid) < max(wanted):
        raise BadRequest(f"Steps cannot be fitted for {sorted(wanted)} steps", f"the path has {len(grid)} times")
    target, found = runs.finished(path[0.0]), dict[int, Ladder]()
    reached: dict[float, Ladder] = {grid[0]: (grid[0],)}
    for steps in range(1, max(wanted) + 1):
        if steps in wanted:
            found[steps] = min(reached.values(), key=lambda ladder: difference(runs.image(ladder), target))
        if steps < max(wanted):
            reached = _one_step_further(runs, path, grid, reached)
            runs.forget(but=reached.values())
        on_layer()
    return found


def _one_step_further(
    runs: Runs, path: Mapping[float, Tensor], grid: Sequence[float], reached: Mapping[float, Ladder]
) -> dict[float, Ladder]:
    """For each time the best ladder of one more step that leads to it."""
    best: dict[float, tuple[float, Ladder]] = {}
    for start, ladder in reached.items():
        for t in grid:
            if t < start:
                away = difference(runs.state((*ladder, t)), path[t])
                if t not in best or away < best[t][0]:
                    best[t] = away, (*ladder, t)
    return {t: ladder for t, (_, ladder) in best.items()}


FIRST_MOVE, SMALLEST_MOVE = 0.5, 0.04  # in lambda, half the log-SNR


def refine(runs: Runs, schedule: Schedule, ladder: Ladder, target: Tensor, most_calls: int) -> tuple[Ladder, float]:
    """The ladder after coordinate descent, and its mean squared distance to `target`, what `finish` made of [B,C,h,w].

    One time after another, but for the first, is moved up and down in lambda = log(alpha / sigma). A move is kept if the
    images come closer; then the next one of that time is larger, otherwise half as large, until all are small. It ends
    before more than `most_calls` calls of the network.
    """
    ends, best = runs.calls + most_calls, difference(runs.image(ladder), target)
    moves = dict.fromkeys(range(1, len(ladder)), FIRST_MOVE)
    while moves and max(moves.values()) > SMALLEST_MOVE:
        for index in moves:
            kept = False
            for move in (moves[index], -moves[index]):
                tried = _moved(schedule, ladder, index, move)
                if tried is None or kept:
                    continue
                if runs.calls + len(ladder) > ends:
                    return ladder, best
                away = difference(runs.image(tried), target)
                if away < best:
                    ladder, best, kept = tried, away, True
            moves[index] *= 1.3 if kept else 0.5
            runs.forget(but=[ladder])
    return ladder, best


def _moved(schedule: Schedule, ladder: Ladder, index: int, move: float) -> Ladder | None:
    """The ladder with one time moved; None where it would reach a neighbour."""
    log_snr = schedule.log_snr(torch.tensor(ladder[index], dtype=torch.float64))
    t = schedule.t_from_log_snr(log_snr - 2 * move).item()
    above, below = ladder[index - 1], ladder[index + 1] if index + 1 < len(ladder) else 0.0
    return (*ladder[:index], t, *ladder[index + 1 :]) if below < t < above else None


def grid_of(schedule: Schedule, size: int) -> list[float]:
    """About `size` times between which steps are searched: two thirds even in t, a third even in the log-SNR."""
    even = sampling_times(schedule, max(2, 2 * size // 3), "uniform")[:-1].tolist()
    by_noise = sampling_times(schedule, max(2, size // 3), "log_snr")[:-1].tolist()
    return sorted({*even, *by_noise}, reverse=True)


def with_midpoints(grid: Sequence[float]) -> list[float]:
    """The times of a grid, those half-way between them, and 0: where the fine path is recorded."""
    ends = [*grid, 0.0]
    return sorted({*ends, *((high + low) / 2 for high, low in pairwise(ends))}, reverse=True)


def record_path(runs: Runs, times: Sequence[float]) -> dict[float, Tensor]:
    """The states [B,C,h,w] of a sampler at these times, which fall to 0."""
    return {t: runs.state(times[: index + 1]) if index else runs.x for index, t in enumerate(times)}


def difference(images: Tensor, target: Tensor) -> float:
    """The mean squared difference of two tensors of the same shape."""
    return (images - target).square().mean().item()


def _no_noise(x: Tensor) -> Tensor:
    raise ValueError("steps can only be fitted to a sampler without noise of its own")

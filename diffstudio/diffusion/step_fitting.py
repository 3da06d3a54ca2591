"""Fitted spacings: the times of a few steps that bring one sampler closest to the probability flow of one model.

A fine path x(t) of the probability flow is recorded once from several noise samples. The times of K steps are then
searched with the sampler itself in the loop, in two stages:

1. Dynamic programming over a grid of times, for all K at once (`fit_by_dynamic_programming`): the k-step state that is
   closest to the path at t_j extends one of the (k - 1)-step states. OSS, Pei et al. 2025 (arXiv 2503.21774), section 3;
   GITS, Chen et al. 2024 (arXiv 2405.11326), section 3.3.
2. Coordinate descent on the distance between the final images (`refine`). A multistep sampler carries estimates from
   step to step, so the best path to t_j is not always part of the best path through it; and early errors, which change
   the content of an image, matter more than their size in x(t).

A ladder is the list of times of one sampler's steps; each sampler needs its own.
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

Ladder = tuple[float, ...]  # times in units of t, decreasing, without the final 0
_Key = tuple[Ladder, int, bool]


class Runs:
    """Runs one deterministic sampler along many ladders from the same noise [B,C,h,w].

    Ladders with a common prefix share its network calls: estimates are cached, and the sampler is replayed with them.
    `last`, if given, replaces `denoiser` for the last of three or more calls; `finish` converts the last state to the
    values that distances are measured on.
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
        self.calls = 0  # network calls so far

    def state(self, times: Sequence[float]) -> Tensor:
        """The state at the last of these times, which may be 0."""
        ladder = torch.tensor(times, dtype=torch.float64)
        replay = _Replay(self, tuple(times), network_calls(self.name, self.schedule, ladder))
        x = self.x
        for step in self._sampler(replay, self.x, ladder, _no_noise):
            x = step.x
        return x

    def finished(self, state: Tensor) -> Tensor:
        """The last state converted by `finish`."""
        return self._finish(state)

    def image(self, ladder: Ladder) -> Tensor:
        """The image that the sampler generates with these steps."""
        return self.finished(self.state((*ladder, 0.0)))

    def forget(self, but: Iterable[Ladder] = ()) -> None:
        """Free the cached estimates except those of some ladders."""
        kept = {ladder[:length] for ladder in but for length in range(1, len(ladder) + 1)}
        self._kept = {key: estimate for key, estimate in self._kept.items() if key[0] in kept}

    def estimate(self, key: _Key, x_t: Tensor, t: Tensor) -> Tensor:
        """The cached estimate for this call, or a new one."""
        if key not in self._kept:
            self.calls += 1
            denoiser = self._last if key[2] and self._last is not None else self._denoiser
            self._kept[key] = denoiser(x_t, t)
        return self._kept[key]


FEWEST_CALLS_WITH_OTHER_LAST = 3


@dataclass(slots=True)
class _Replay:
    """The caching denoiser of one run: the times so far, and repeats of the current one, identify a call."""

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
    """A ladder for each number of steps, over the times of `path` (states [B,C,h,w], including those at t_max and 0).

    For k = 1, 2, … and each time t_j it keeps the k-step ladder to t_j whose state has the smallest mean squared distance
    to path[t_j], among those that extend a (k - 1)-step ladder; the last step is chosen by the final images. The estimates
    of a single-step sampler depend only on the state; a multistep sampler carries its own history along.
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
    """The best ladder with one more step to each time."""
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
    """The ladder after coordinate descent, and its mean squared distance to `target` (converted by `finish`).

    Each time except the first is moved up and down in turn, in lambda = log(alpha / sigma). A move is kept if the images
    come closer; the next move of that time is then larger, otherwise half as large, until all moves are small. At most
    `most_calls` network calls are made.
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
    """The ladder with one time moved; None if it would reach a neighbour."""
    log_snr = schedule.log_snr(torch.tensor(ladder[index], dtype=torch.float64))
    t = schedule.t_from_log_snr(log_snr - 2 * move).item()
    above, below = ladder[index - 1], ladder[index + 1] if index + 1 < len(ladder) else 0.0
    return (*ladder[:index], t, *ladder[index + 1 :]) if below < t < above else None


def grid_of(schedule: Schedule, size: int) -> list[float]:
    """About `size` candidate times for the steps: two thirds evenly spaced in t, a third in log-SNR."""
    even = sampling_times(schedule, max(2, 2 * size // 3), "uniform")[:-1].tolist()
    by_noise = sampling_times(schedule, max(2, size // 3), "log_snr")[:-1].tolist()
    return sorted({*even, *by_noise}, reverse=True)


def with_midpoints(grid: Sequence[float]) -> list[float]:
    """The times of a grid, their midpoints and 0, at which the fine path is recorded."""
    ends = [*grid, 0.0]
    return sorted({*ends, *((high + low) / 2 for high, low in pairwise(ends))}, reverse=True)


def record_path(runs: Runs, times: Sequence[float]) -> dict[float, Tensor]:
    """The states [B,C,h,w] of a sampler at these times, which decrease to 0."""
    return {t: runs.state(times[: index + 1]) if index else runs.x for index, t in enumerate(times)}


def difference(images: Tensor, target: Tensor) -> float:
    """The mean squared difference between two tensors of the same shape."""
    return (images - target).square().mean().item()


def _no_noise(x: Tensor) -> Tensor:
    raise ValueError("steps can only be fitted to a deterministic sampler")

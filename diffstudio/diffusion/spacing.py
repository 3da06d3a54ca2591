"""Spacings: how the sampling times (timesteps) are distributed from noise to image. Other programs say *scheduler*."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor

from diffstudio.diffusion.schedule import RectifiedFlow, Schedule, VarianceExploding, VariancePreserving
from diffstudio.diffusion.spacing_problems import check_steps, not_aligned, too_few_times, unknown_spacing
from diffstudio.diffusion.tables import ALIGNED_SD15, ALIGNED_SVD, SMALLEST_FLOW_TIME
from diffstudio.errors import BadRequest

Spacing = Callable[[Schedule, int], Tensor]  # schedule, steps -> [steps] float64, decreasing, without the final 0


def sampling_times(schedule: Schedule, steps: int, spacing: str | Spacing, *, strength: float = 1.0) -> Tensor:
    """The times that a sampler steps through: float64 [steps + 1], decreasing to 0.

    `spacing` is a key of `SPACINGS` or a function like its values. With a denoising `strength` below 1 (img2img) only
    the last round(strength * steps) steps are kept, at least one. BadRequest for an unknown spacing, fewer than one
    step, a strength outside [0, 1], or more steps than the schedule has distinct times.
    """
    if isinstance(spacing, str) and spacing not in SPACINGS:
        raise unknown_spacing(spacing, SPACINGS)
    check_steps(steps)
    if not 0 <= strength <= 1:
        raise BadRequest(f"The denoising strength cannot be {strength}", "0 keeps the given image, 1 replaces it",
                         "Choose a strength from 0 to 1")  # fmt: skip
    space = SPACINGS[spacing] if isinstance(spacing, str) else spacing
    times = torch.cat([space(schedule, steps), torch.zeros(1, dtype=torch.float64)])
    if not bool((times.diff() < 0).all()):
        raise too_few_times(steps)
    return times[-1 - max(1, round(strength * steps)) :]


def times_from_noise_level(
    schedule: RectifiedFlow, steps: int, spacing: str, strength: float, guided_from: float = 1.0
) -> Tensor:
    """As `sampling_times` of a flow, but a `strength` means the same noise level with every spacing.

    `log_snr` has its second time at `guided_from`, where guidance begins: the composition is decided there, and steps at
    higher noise would be wasted.

    `karras`, `exponential` and `log_snr` crowd their steps at low noise, where the last half of them would hardly
    change an image. With a strength below 1 they start where `uniform` starts, with as many steps as it keeps.
    """
    space = partial(log_snr, second=guided_from) if spacing == "log_snr" and guided_from < 1 else spacing
    times = sampling_times(schedule, steps, space, strength=strength)
    kept = len(times) - 1
    if kept == steps or spacing in _EVEN:
        return times
    start = schedule.shifted(torch.tensor(kept / steps, dtype=torch.float64))
    return sampling_times(_FlowFrom(schedule.shift, start.item()), kept, spacing)


def carried_times(schedule: Schedule, fractions: Sequence[float], steps: int, start: float | None = None) -> Tensor:
    """Times that were chosen beforehand: float64 [n + 1], decreasing to 0.

    `fractions` are those of t_max where the steps start, falling, without the final 0. For another number of `steps`
    than there are fractions, they are interpolated linearly in their index. `start`, in units of t, is where img2img
    begins: the nearest of the times is moved there, and those before it are left out. BadRequest for fewer than one
    step, ValueError unless the fractions fall from at most 1 to above 0.
    """
    check_steps(steps)
    given = torch.tensor([*fractions, 0.0], dtype=torch.float64)
    if len(given) < 2 or not bool((given.diff() < 0).all()) or given[0] > 1:
        raise ValueError(f"times must fall from at most 1 to above 0: {list(fractions)}")
    if steps != len(fractions):
        position = _linspace(0, len(fractions), steps + 1)
        below = position.floor().long().clamp(max=len(fractions) - 1)
        given = torch.lerp(given[below], given[below + 1], position - below)
    times = given * schedule.t_max
    if start is None:
        return times
    nearest = int((times[:-1] - start).abs().argmin())
    return torch.cat([times.new_tensor([start]), times[nearest + 1 :]])


@dataclass(frozen=True)
class _FlowFrom(RectifiedFlow):
    """A flow that is sampled from a lower noise level."""

    start: float = 1.0

    @property
    def t_max(self) -> float:
        return self.start


_EVEN = ("uniform", "trailing", "leading")  # in t before the shift, so that strength is a noise level already


def uniform(schedule: Schedule, steps: int) -> Tensor:
    """Even in t from t_max to t_min (diffusers' linspace); for a flow from t_max to 0, so that all steps are equal."""
    if isinstance(schedule, RectifiedFlow):
        return trailing(schedule, steps)
    return _linspace(schedule.t_max, schedule.t_min, steps)


def trailing(schedule: Schedule, steps: int) -> Tensor:
    """Even in t from t_max to 0: Lin et al. 2023 (arXiv 2305.08891), Table 2."""
    times = _linspace(schedule.t_max, 0, steps + 1)[:-1]
    match schedule:
        case VariancePreserving():
            return times.round()
        case RectifiedFlow():
            return schedule.shifted(times)
    return times


def leading(schedule: Schedule, steps: int, offset: int = 0) -> Tensor:
    """Even in t from t_min upwards, without t_max: Lin et al. 2023 (arXiv 2305.08891), Table 2.

    `offset` is diffusers' `steps_offset`, in training steps; less where the first time would be above t_max, as with
    all 1,000 steps.
    """
    countdown = torch.arange(steps - 1, -1, -1, dtype=torch.float64)
    match schedule:
        case VariancePreserving(steps=trained):
            times = 1 + countdown * (trained // steps)
            return times + max(0, min(offset, trained - int(times[0])))
        case RectifiedFlow():
            return schedule.shifted(SMALLEST_FLOW_TIME + countdown * (1 - SMALLEST_FLOW_TIME) / steps)
    return schedule.t_min + countdown * (schedule.t_max - schedule.t_min) / steps


def karras(schedule: Schedule, steps: int, rho: float = 7.0) -> Tensor:
    """Even in scheduler_sigma ** (1 / rho): Karras et al. 2022 (arXiv 2206.00364), eq. 5."""
    first, last = schedule.scheduler_sigma(_ends(schedule)).tolist()
    return schedule.t_from_scheduler_sigma(_linspace(first ** (1 / rho), last ** (1 / rho), steps) ** rho)


def exponential(schedule: Schedule, steps: int) -> Tensor:
    """Even in log(scheduler_sigma), as in k-diffusion."""
    first, last = schedule.scheduler_sigma(_ends(schedule)).log().tolist()
    return schedule.t_from_scheduler_sigma(_linspace(first, last, steps).exp())


def log_snr(schedule: Schedule, steps: int, second: float | None = None) -> Tensor:
    """Even in the log-SNR: Lu et al. 2022 (arXiv 2206.00927), section 3.4.

    Where the log-SNR at t_max is -inf, the first time is t_max and the others are even from the time `second`, or from
    -log_snr(t_min), upwards.
    """
    first, last = schedule.log_snr(_ends(schedule)).tolist()
    if math.isfinite(first):
        return schedule.t_from_log_snr(_linspace(first, last, steps))
    start = torch.tensor([schedule.t_max], dtype=torch.float64)
    lowest = -last if second is None else schedule.log_snr(torch.tensor(second, dtype=torch.float64)).item()
    return torch.cat([start, schedule.t_from_log_snr(_linspace(lowest, last, steps - 1))])


def align_your_steps(schedule: Schedule, steps: int, table: Sequence[float] | None = None) -> Tensor:
    """Align Your Steps, Sabour et al. 2024 (arXiv 2404.14507): optimised tables, interpolated log-linearly.

    The default `table` is that of Stable Diffusion 1.5 for variance-preserving and of Stable Video Diffusion for
    variance-exploding schedules. Its first value is replaced by the schedule's own at t_max, and larger ones are left
    out, so that sampling starts from noise on every model. BadRequest for a flow, for which no table is published.
    """
    if table is None:
        match schedule:
            case VariancePreserving():
                table = ALIGNED_SD15
            case VarianceExploding():
                table = ALIGNED_SVD
            case _:
                raise not_aligned()
    log_first = -schedule.log_snr(_ends(schedule))[0].item() / 2
    log_others = [log for sigma in table[1:] if (log := math.log(sigma)) < log_first]
    log_sigma = torch.tensor([log_first, *log_others], dtype=torch.float64)
    position = _linspace(0, len(log_sigma) - 1, steps + 1)[:-1]
    below = position.floor().long()
    return schedule.t_from_log_snr(-2 * torch.lerp(log_sigma[below], log_sigma[below + 1], position - below))


SPACINGS: Mapping[str, Spacing] = MappingProxyType({
    "uniform": uniform,
    "trailing": trailing,
    "leading": leading,
    "karras": karras,
    "exponential": exponential,
    "log_snr": log_snr,
    "align_your_steps": align_your_steps,
})  # fmt: skip


def _linspace(first: float, last: float, count: int) -> Tensor:
    return torch.linspace(first, last, count, dtype=torch.float64)


def _ends(schedule: Schedule) -> Tensor:
    return torch.tensor([schedule.t_max, schedule.t_min], dtype=torch.float64)

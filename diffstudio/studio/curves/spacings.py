"""The spacings of `diffusion.spacing` in NumPy: the step times of a sampler, for interactive plots.

A test checks that both agree to 1e-6. `diffusion.spacing` has the sources of the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from diffstudio.diffusion.curve_points import NoiseCurve
from diffstudio.diffusion.spacing_problems import (
    check_steps,
    not_aligned,
    outside_the_model,
    too_few_times,
    unknown_spacing,
)
from diffstudio.diffusion.tables import ALIGNED_SD15, ALIGNED_SVD, SMALLEST_FLOW_TIME
from diffstudio.studio.curves.curve import curve_log_snr
from diffstudio.studio.curves.schedules import (
    Array,
    RectifiedFlow,
    ScheduleArrays,
    VarianceExploding,
    VariancePreserving,
)

SpacingArrays = Callable[[ScheduleArrays, int], Array]
_RHO = 7.0


def sampling_times(schedule: ScheduleArrays, steps: int, spacing: str | NoiseCurve | SpacingArrays) -> Array:
    """The step times [steps + 1] of a sampler, decreasing to 0. BadRequest as from `diffusion.spacing`."""
    check_steps(steps)
    if isinstance(spacing, NoiseCurve):
        times = _of_curve(schedule, steps, spacing)
    elif callable(spacing):
        times = spacing(schedule, steps)
    elif spacing in SPACINGS:
        times = SPACINGS[spacing](schedule, steps)
    else:
        raise unknown_spacing(spacing, SPACINGS)
    times = np.append(times, 0.0)
    if not (np.diff(times) < 0).all():
        raise too_few_times(steps)
    return times


def _of_curve(schedule: ScheduleArrays, steps: int, curve: NoiseCurve) -> Array:
    lowest, highest = schedule.log_snr_range
    clean, noise = curve.points[0][1], curve.points[-1][1]
    if clean <= lowest or noise >= highest:
        raise outside_the_model(clean, noise, lowest, highest)
    u = np.linspace(curve.time(lowest), curve.time(highest), steps)
    times = schedule.t_from_log_snr(curve_log_snr(curve, u))
    times[0] = schedule.t_max
    return times


def _uniform(schedule: ScheduleArrays, steps: int) -> Array:
    if isinstance(schedule, RectifiedFlow):
        return _trailing(schedule, steps)
    return np.linspace(schedule.t_max, schedule.t_min, steps)


def _trailing(schedule: ScheduleArrays, steps: int) -> Array:
    times = np.linspace(schedule.t_max, 0, steps + 1)[:-1]
    if isinstance(schedule, VariancePreserving):
        return np.round(times)
    return schedule.shifted(times) if isinstance(schedule, RectifiedFlow) else times


def leading(schedule: ScheduleArrays, steps: int, offset: int = 0) -> Array:
    """Evenly spaced in t, starting at t_min; `offset` is diffusers' `steps_offset`."""
    countdown = np.arange(steps - 1, -1, -1.0)
    if isinstance(schedule, VariancePreserving):
        times = 1 + countdown * (schedule.steps // steps)
        return times + max(0, min(offset, schedule.steps - int(times[0])))
    if isinstance(schedule, RectifiedFlow):
        return schedule.shifted(SMALLEST_FLOW_TIME + countdown * (1 - SMALLEST_FLOW_TIME) / steps)
    return schedule.t_min + countdown * (schedule.t_max - schedule.t_min) / steps


def _karras(schedule: ScheduleArrays, steps: int) -> Array:
    first, last = schedule.scheduler_sigma(_ends(schedule)) ** (1 / _RHO)
    return schedule.t_from_scheduler_sigma(np.linspace(first, last, steps) ** _RHO)


def _exponential(schedule: ScheduleArrays, steps: int) -> Array:
    first, last = np.log(schedule.scheduler_sigma(_ends(schedule)))
    return schedule.t_from_scheduler_sigma(np.exp(np.linspace(first, last, steps)))


def log_snr(schedule: ScheduleArrays, steps: int, second: float | None = None) -> Array:
    """Evenly spaced in log-SNR; if it is -inf at t_max, the other times are evenly spaced from the time `second`."""
    first, last = schedule.log_snr_range
    if math.isfinite(first):
        return schedule.t_from_log_snr(np.linspace(first, last, steps))
    lowest = -last if second is None else float(schedule.log_snr(np.array(second)))
    return np.concatenate([[schedule.t_max], schedule.t_from_log_snr(np.linspace(lowest, last, steps - 1))])


def align_your_steps(schedule: ScheduleArrays, steps: int, table: Sequence[float] | None = None) -> Array:
    """The published table, by default that of Stable Diffusion 1.5, interpolated. BadRequest for a flow."""
    if isinstance(schedule, RectifiedFlow):
        raise not_aligned()
    if table is None:
        table = ALIGNED_SVD if isinstance(schedule, VarianceExploding) else ALIGNED_SD15
    first = -schedule.log_snr_range[0] / 2
    logs = np.array([first, *(log for sigma in table[1:] if (log := math.log(sigma)) < first)])
    position = np.linspace(0, len(logs) - 1, steps + 1)[:-1]
    return schedule.t_from_log_snr(-2 * np.interp(position, np.arange(len(logs)), logs))


SPACINGS: Mapping[str, SpacingArrays] = MappingProxyType(
    {
        "uniform": _uniform,
        "trailing": _trailing,
        "leading": leading,
        "karras": _karras,
        "exponential": _exponential,
        "log_snr": log_snr,
        "align_your_steps": align_your_steps,
    }
)


def _ends(schedule: ScheduleArrays) -> Array:
    return np.array([schedule.t_max, schedule.t_min])

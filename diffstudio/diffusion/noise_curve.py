"""Uses of a drawn noise schedule: as the spacing of a sampler's steps, and as the noise levels of training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffstudio.diffusion.curve_points import NoiseCurve, hermite
from diffstudio.diffusion.schedule import Schedule
from diffstudio.diffusion.spacing import sampling_times
from diffstudio.diffusion.spacing_problems import outside_the_model


def curve_log_snr(curve: NoiseCurve, u: Tensor) -> Tensor:
    """The log-SNR of a curve at times u in [0, 1], with u's shape, dtype and device."""
    times, values = (torch.tensor(column, dtype=u.dtype, device=u.device) for column in zip(*curve.points, strict=True))
    slopes = torch.tensor(curve.slopes, dtype=u.dtype, device=u.device)
    index = (torch.searchsorted(times, u.contiguous(), right=True) - 1).clamp(0, len(times) - 2)
    length = times[index + 1] - times[index]
    ends = values[index], values[index + 1], slopes[index], slopes[index + 1]
    return hermite((u - times[index]) / length, length, *ends)


@dataclass(frozen=True, slots=True)
class CurveSpacing:
    """A `Spacing` like those in `diffusion.spacing.SPACINGS`: steps at evenly spaced times of a curve.

    Only the part of the curve within the schedule's noise levels is used. The first step is at the schedule's own t_max,
    as with Align Your Steps, so that sampling starts from noise for every model.
    """

    curve: NoiseCurve

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        """[steps] float64, decreasing. BadRequest for a curve outside the schedule's noise levels."""
        ends = torch.tensor([schedule.t_max, schedule.t_min], dtype=torch.float64)
        lowest, highest = schedule.log_snr(ends).tolist()
        clean, noise = self.curve.points[0][1], self.curve.points[-1][1]
        if clean <= lowest or noise >= highest:
            raise outside_the_model(clean, noise, lowest, highest)
        first, last = self.curve.time(lowest), self.curve.time(highest)
        times = schedule.t_from_log_snr(
            curve_log_snr(self.curve, torch.linspace(first, last, steps, dtype=torch.float64))
        )
        times[0] = schedule.t_max
        return times


def curve_fractions(curve: NoiseCurve, schedule: Schedule, steps: int) -> tuple[float, ...]:
    """The start times of a curve's steps as decreasing fractions of t_max. BadRequest as for `sampling_times`."""
    times = sampling_times(schedule, steps, CurveSpacing(curve))
    return tuple((times[:-1] / schedule.t_max).tolist())


@dataclass(frozen=True, slots=True)
class CurveLevels:
    """A distribution of noise levels like those in `diffusion.losses`: the noise levels of a curve at uniform times.

    Kingma & Gao 2023 (arXiv 2303.00848), section 2.1: the density of the log-SNR is -du / dlog-SNR.
    """

    curve: NoiseCurve

    def sample(self, count: int, schedule: Schedule, generator: torch.Generator) -> Tensor:
        """t [count], float32 on the generator's device, from t_min to t_max of the schedule."""
        u = torch.rand(count, generator=generator, device=generator.device)
        return schedule.t_from_log_snr(curve_log_snr(self.curve, u)).clamp(schedule.t_min, schedule.t_max)

"""Spacings: how the sampling times are distributed between noise and image, by the names other programs use."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from diffstudio.diffusion.schedule import (
    SMALLEST_FLOW_TIME,
    RectifiedFlow,
    Schedule,
    VarianceExploding,
    VariancePreserving,
)
from diffstudio.errors import BadRequest

# ---- ladders ---------------------------------------------------------------------------------------------------------

Spacing = Callable[[Schedule, int], Tensor]  # schedule, steps -> the times of the steps, falling, without the final 0


def ladder(schedule: Schedule, steps: int, spacing: str | Spacing, *, strength: float = 1.0) -> Tensor:
    """The times a sampler walks down: float64 [steps + 1], falling, the last is 0.

    `spacing` is a name in `SPACINGS`, or such a function. With `strength` below 1 only the last round(strength * steps)
    steps are kept, at least one: the sampler then starts from a given picture with so much noise. BadRequest for what
    cannot be laid.
    """
    if isinstance(spacing, str) and spacing not in SPACINGS:
        raise BadRequest(f"There is no spacing called {spacing!r}", "", f"Choose one of {', '.join(SPACINGS)}")
    if steps < 1:
        raise BadRequest(f"A picture cannot be made in {steps} steps", "", "Ask for one or more")
    if not 0 <= strength <= 1:
        raise BadRequest(f"A strength of {strength} means nothing", "0 nearly keeps the given picture, 1 replaces it",
                         "Choose one between them")  # fmt: skip
    lay = SPACINGS[spacing] if isinstance(spacing, str) else spacing
    times = torch.cat([lay(schedule, steps), torch.zeros(1, dtype=torch.float64)])
    if not bool((times.diff() < 0).all()):
        raise BadRequest(f"This model has no {steps} different times of that spacing", "", "Ask for fewer steps")
    return times[-1 - max(1, round(strength * steps)) :]


def uniform(schedule: Schedule, steps: int) -> Tensor:
    """Even in t from t_max to t_min; a flow has no smallest time, and all its steps are alike."""
    if isinstance(schedule, RectifiedFlow):
        return trailing(schedule, steps)
    return _evenly(schedule.t_max, schedule.t_min, steps)


def trailing(schedule: Schedule, steps: int) -> Tensor:
    """Even in t from t_max to 0: Lin et al. 2023, Table 2."""
    times = _evenly(schedule.t_max, 0, steps + 1)[:-1]
    match schedule:
        case VariancePreserving():
            return times.round()
        case RectifiedFlow():
            return schedule.shifted(times)
    return times


def leading(schedule: Schedule, steps: int, offset: int = 0) -> Tensor:
    """Even in t from t_min up, never reaching t_max: Lin et al. 2023, Table 2. `offset` is in training steps."""
    countdown = torch.arange(steps - 1, -1, -1, dtype=torch.float64)
    match schedule:
        case VariancePreserving(steps=trained):
            return 1 + offset + countdown * (trained // steps)
        case RectifiedFlow():
            return schedule.shifted(SMALLEST_FLOW_TIME + countdown * (1 - SMALLEST_FLOW_TIME) / steps)
    return schedule.t_min + countdown * (schedule.t_max - schedule.t_min) / steps


def karras(schedule: Schedule, steps: int, rho: float = 7.0) -> Tensor:
    """Even in the rho-th root of the schedule's coordinate: Karras et al. 2022, eq. 5."""
    first, last = schedule.heun_coordinate(_ends(schedule)).tolist()
    return schedule.t_from_heun_coordinate(_evenly(first ** (1 / rho), last ** (1 / rho), steps) ** rho)


def exponential(schedule: Schedule, steps: int) -> Tensor:
    """Even in the logarithm of the schedule's coordinate."""
    first, last = schedule.heun_coordinate(_ends(schedule)).log().tolist()
    return schedule.t_from_heun_coordinate(_evenly(first, last, steps).exp())


def log_snr(schedule: Schedule, steps: int) -> Tensor:
    """Even in log SNR: Lu et al. 2022. Where it starts from minus infinity, even but for that first step."""
    first, last = schedule.log_snr(_ends(schedule)).tolist()
    if math.isfinite(first):
        return schedule.t_from_log_snr(_evenly(first, last, steps))
    start = torch.tensor([schedule.t_max], dtype=torch.float64)
    return torch.cat([start, schedule.t_from_log_snr(_evenly(-last, last, steps - 1))])


# Sabour et al. 2024, appendix, as published for ten steps: sigma / alpha, the last one standing for the clean image.
ALIGNED_SD15 = (14.6146412293, 6.4745760956, 3.8636745985, 2.6946151520, 1.8841921177, 1.3943805092, 0.9642583904,
                0.6523686016, 0.3977456272, 0.1515232662, 0.0291671582)  # fmt: skip
ALIGNED_SDXL = (14.6146412293, 6.3184485287, 3.7681790315, 2.1811480769, 1.3405244945, 0.8620721141, 0.5550693289,
                0.3798540708, 0.2332364134, 0.1114188177, 0.0291671582)  # fmt: skip
ALIGNED_SVD = (700.00, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002)


def align_your_steps(schedule: Schedule, steps: int, table: Sequence[float] | None = None) -> Tensor:
    """Align Your Steps, Sabour et al. 2024: tables found by optimisation, log-linear between their entries.

    Without a `table`, that of Stable Diffusion 1.5 for variance-preserving models and that of Stable Video Diffusion
    for variance-exploding ones. Its noisy end becomes the schedule's own, so that other models too start from noise.
    """
    if table is None:
        match schedule:
            case VariancePreserving():
                table = ALIGNED_SD15
            case VarianceExploding():
                table = ALIGNED_SVD
            case _:
                raise BadRequest("Align Your Steps has no times for this model", "none are published for flow models",
                                 "Choose another spacing")  # fmt: skip
    log_first = -schedule.log_snr(_ends(schedule))[0].item() / 2
    log_rest = [math.log(sigma) for sigma in table[1:]]
    log_sigma = torch.tensor([log_first, *(rung for rung in log_rest if rung < log_first)], dtype=torch.float64)
    place = _evenly(0, len(log_sigma) - 1, steps + 1)[:-1]
    below = place.floor().long()
    return schedule.t_from_log_snr(-2 * torch.lerp(log_sigma[below], log_sigma[below + 1], place - below))


SPACINGS: Mapping[str, Spacing] = MappingProxyType({
    "uniform": uniform,
    "trailing": trailing,
    "leading": leading,
    "karras": karras,
    "exponential": exponential,
    "log_snr": log_snr,
    "align_your_steps": align_your_steps,
})  # fmt: skip


def _evenly(first: float, last: float, count: int) -> Tensor:
    return torch.linspace(first, last, count, dtype=torch.float64)


def _ends(schedule: Schedule) -> Tensor:
    return torch.tensor([schedule.t_max, schedule.t_min], dtype=torch.float64)

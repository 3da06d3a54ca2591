"""The curves of a noise schedule with a dot at the time that is chosen, as the Lab shows them. No torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diffstudio.studio.curves.forward import NoiseLevel, time_at
from diffstudio.studio.curves.schedules import ScheduleArrays
from diffstudio.studio.evaluations.plots.figure import Figure, Series

_POINTS = 200  # of a curve


def curves(schedule: ScheduleArrays, level: NoiseLevel) -> tuple[Figure, ...]:
    """alpha and sigma, and the log-SNR, over time, with a dot at the level."""
    times = np.array([time_at(schedule, share) for share in np.linspace(0, 1, _POINTS).tolist()])
    x = tuple(times.tolist())

    def line(name: str, y: NDArray[np.float64], colour: int) -> Series:
        return Series(name, x, tuple(y.tolist()), colour=colour)

    def dot(name: str, y: float, colour: int) -> Series:
        return Series(name, (level.t,), (y,), points=True, colour=colour)

    alpha, sigma = line("alpha", schedule.alpha(times), 0), line("sigma", schedule.sigma(times), 1)
    dots = dot("alpha now", level.alpha, 0), dot("sigma now", level.sigma, 1)
    return (
        Figure("forward-levels", "alpha and sigma over time", "t", "", (alpha, sigma, *dots)),
        Figure("forward-log-snr", "Log-SNR over time", "t", "log(alpha² / sigma²)",
               (line("log-SNR", schedule.log_snr(times), 2), dot("now", level.log_snr, 2))),
    )  # fmt: skip

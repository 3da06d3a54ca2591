"""ScheduleView: everything that the page Noise schedule plots, over the time of the drawn curve. No torch.

The time u of the curve is the common axis: 0 is the clean image, 1 is noise. Steps, training and losses are placed where
the curve has their log-SNR.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffstudio.diffusion.curve_points import NoiseCurve
from diffstudio.errors import BadRequest
from diffstudio.studio.curves.curve import Array, curve_log_snr, curve_time
from diffstudio.studio.curves.models import ModelNoise
from diffstudio.studio.curves.noise_levels import TrainingLevels, density_over_time, described
from diffstudio.studio.evaluations.noise_schedule.losses import LevelLosses
from diffstudio.studio.evaluations.plots.figure import Figure, Series
from diffstudio.studio.number_text import formatted

CELLS = 80  # of the distribution
_POINTS = 240  # of the curve
_TOLERANCE = 0.5  # of log-SNR, by which a curve may reach beyond a model's noise before that is said
TIME, LOG_SNR = "time u (0: clean image, 1: noise)", "log-SNR"

HOW_TO_READ = (
    "The curve shows how noise grows: log-SNR is the logarithm of the signal-to-noise ratio, and falls with time. A sampler "
    "takes steps at even times, so most of its steps are where the curve is flat. The filled area shows how often training "
    "saw each time: it is level if the model was trained with this curve. Expect poor results from steps where training "
    "was rare, or where the loss is high."
)


@dataclass(frozen=True, slots=True)
class StepMarks:
    """Where the steps of one spacing lie on the curve, from noise to image."""

    name: str
    u: tuple[float, ...]
    log_snr: tuple[float, ...]  # of the step itself, which may lie beyond the curve


@dataclass(frozen=True, slots=True)
class LossMarks:
    losses: LevelLosses
    u: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ScheduleView:
    curve: NoiseCurve
    u: Array
    log_snr: Array
    edges: Array  # of the cells of the distribution, in u
    density: Array  # empty where the distribution is unknown
    trained: str  # that distribution in words
    steps: tuple[StepMarks, ...]  # of the curve first, then of what it is compared with
    losses: LossMarks | None = None
    warnings: tuple[str, ...] = ()  # sentences

    def figures(self) -> tuple[Figure, ...]:
        """The plots, to be saved."""
        line = Series("curve", tuple(self.u.tolist()), tuple(self.log_snr.tolist()))
        points = Series("points", *_columns(self.curve.points), points=True)
        marks = tuple(
            Series(f"steps: {one.name}", one.u, one.log_snr, points=True, colour=number)
            for number, one in enumerate(self.steps, start=1)
        )
        found = [Figure("noise-schedule", "Noise schedule", TIME, LOG_SNR, (line, points, *marks))]
        if len(self.density):
            middle = (self.edges[1:] + self.edges[:-1]) / 2
            area = Series(self.trained, tuple(middle.tolist()), tuple(self.density.tolist()))
            found.append(Figure("training-distribution", "Distribution of noise in training", TIME, "density", (area,)))
        if self.losses is not None:
            name = f"Loss by noise level of {self.losses.losses.run}, step {self.losses.losses.step:,}"
            found.append(Figure("loss-by-noise-level", name, TIME, "loss", _loss_series(self.losses)))
        return tuple(found)


def schedule_view(
    curve: NoiseCurve,
    model: ModelNoise | None,
    steps: int,
    compared: Sequence[tuple[str, str | tuple[float, ...]]] = (),
    losses: LevelLosses | None = None,
    levels: TrainingLevels | None = None,
) -> ScheduleView:
    """Fast enough for each move of the mouse. Never raises: what cannot be shown is a warning.

    `compared` are names with a spacing, or with fractions of t_max where steps start. `levels`, by default those of the
    model, is the distribution of training.
    """
    u, edges = np.linspace(0, 1, _POINTS), np.linspace(0, 1, CELLS + 1)
    warnings: list[str] = []
    marks = []
    levels = levels or (model.levels if model is not None else None)
    density = np.zeros(0)
    if model is not None:
        warnings += _about(curve, model)
        for name, spacing in (("this curve", curve), *compared):
            try:
                marks.append(_marks(curve, model, steps, name, spacing))
            except BadRequest as problem:
                warnings.append(str(problem) if spacing is curve else f"{name}: {problem}")
        if levels is not None:
            density = density_over_time(levels, model.schedule, curve, edges)
    where = None
    if losses is not None:
        where = LossMarks(losses, tuple(curve_time(curve, np.array(losses.log_snr)).tolist()))
    return ScheduleView(
        curve,
        u,
        curve_log_snr(curve, u),
        edges,
        density,
        described(levels) if levels is not None else "",
        tuple(marks),
        where,
        tuple(warnings),
    )


def _marks(
    curve: NoiseCurve, model: ModelNoise, steps: int, name: str, spacing: str | NoiseCurve | tuple[float, ...]
) -> StepMarks:
    if isinstance(spacing, tuple):
        times = np.array(spacing) * model.schedule.t_max
    else:
        times = model.times(steps, spacing)[:-1]
    log_snr = np.maximum(model.schedule.log_snr(times), -99.0)  # -inf at t_max of a flow
    return StepMarks(name, tuple(curve_time(curve, log_snr).tolist()), tuple(log_snr.tolist()))


def _about(curve: NoiseCurve, model: ModelNoise) -> list[str]:
    lowest, highest = model.schedule.log_snr_range
    found = [model.note] if model.note else []
    if curve.starts_without_image and model.prediction == "eps":
        found.append(
            "This curve begins with alpha = 0, where a model that predicts noise (eps) says nothing about the image: its "
            f"steps begin at its own noisiest time instead, log-SNR {formatted(lowest, '.3g')}."
        )
    elif math.isfinite(lowest) and curve.points[-1][1] < lowest - _TOLERANCE:
        found.append(f"The model knows no more noise than log-SNR {formatted(lowest, '.3g')}: its steps begin there.")
    if curve.points[0][1] > highest + _TOLERANCE:
        found.append(f"The model knows no less noise than log-SNR {formatted(highest, '.3g')}: its steps end there.")
    return found


def _loss_series(marks: LossMarks) -> tuple[Series, ...]:
    losses = marks.losses
    found = (Series("held-out images", marks.u, losses.held_out),)
    return (*found, Series("training images", marks.u, losses.training, colour=1)) if losses.training else found


def _columns(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(point[0] for point in points), tuple(point[1] for point in points)


def readout(curve: NoiseCurve, model: ModelNoise | None, u: float) -> str:
    """`Time 0.42 · log-SNR 1.30 · sigma / alpha 0.52 · model time 0.343`"""
    log_snr = curve.log_snr(u)
    text = f"Time {u:.3f} · log-SNR {formatted(log_snr, '.2f')} · sigma / alpha {math.exp(-log_snr / 2):.3g}"
    if model is not None:
        text += f" · model time {float(model.schedule.t_from_log_snr(np.array(log_snr))):.4g}"
    return text

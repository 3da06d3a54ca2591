"""RunHistory: the curves and sample sheets of one run, gathered from its events as they come. No torch, no Qt.

A run of a week says half a million things; the history keeps at most `MOST_POINTS` of its losses, each the mean of its
neighbours, so that drawing it costs the same on every day.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from diffstudio.training.run.run_folder import RunEvent, RunHeldOut, RunSamples, RunStarted, RunStep

MOST_POINTS = 8_000
FEWEST_FOR_A_TREND = 4  # held-out measurements
CLEARLY = 0.005  # a change of the held-out loss smaller than this share of it is none
RISEN = 0.03  # so much above its best, and it is getting worse

Curve = NDArray[np.float64]


class Trend(StrEnum):
    UNKNOWN = "unknown"
    FALLING = "falling"
    LEVEL = "level"
    RISING = "rising"


@dataclass(frozen=True, slots=True)
class HistoryView:
    """What there is to draw, as it was at one moment: safe to hand to another thread."""

    steps: Curve  # [N] of the training loss
    losses: Curve  # [N]
    smoothed: Curve  # [N]
    held_out_steps: Curve  # [M]
    held_out_losses: Curve  # [M]
    samples: tuple[RunSamples, ...] = ()  # oldest first
    started: RunStarted | None = None  # of the newest process
    last: RunStep | None = None

    def trend(self) -> tuple[Trend, str]:
        return held_out_trend(self.held_out_steps, self.held_out_losses)


class RunHistory:
    """Takes events in the order they were written; not for use by two threads at once."""

    def __init__(self) -> None:
        self._steps: list[float] = []
        self._losses: list[float] = []
        self._held_out: list[tuple[int, float]] = []
        self._samples: list[RunSamples] = []
        self._started: RunStarted | None = None
        self._last: RunStep | None = None
        self._stride = 1  # how many events one kept point stands for
        self._gathered: list[tuple[float, float]] = []

    def take(self, events: Iterable[RunEvent]) -> None:
        for event in events:
            match event:
                case RunStarted():
                    self._started = event
                    self._forget_after(event.step)
                case RunStep() if math.isfinite(event.loss):
                    self._last = event
                    self._gather(event.step, event.loss)
                case RunHeldOut() if math.isfinite(event.loss):
                    self._held_out.append((event.step, event.loss))
                case RunSamples():
                    self._samples = [sheet for sheet in self._samples if sheet.step != event.step] + [event]

    def view(self) -> HistoryView:
        losses = np.asarray(self._losses, dtype=np.float64)
        held_out = np.asarray(self._held_out, dtype=np.float64).reshape(-1, 2)
        steps = np.asarray(self._steps, dtype=np.float64)
        return HistoryView(
            steps,
            losses,
            smoothed(steps, losses),
            held_out[:, 0],
            held_out[:, 1],
            tuple(self._samples),
            self._started,
            self._last,
        )

    def _forget_after(self, step: int) -> None:
        """A run that was killed resumes from its last checkpoint: what it did after that is done again."""
        while self._steps and self._steps[-1] > step:
            self._steps.pop()
            self._losses.pop()
        self._gathered = [point for point in self._gathered if point[0] <= step]
        self._held_out = [point for point in self._held_out if point[0] <= step]
        self._samples = [sheet for sheet in self._samples if sheet.step <= step]

    def _gather(self, step: float, loss: float) -> None:
        self._gathered.append((step, loss))
        if len(self._gathered) < self._stride:
            return
        self._steps.append(float(np.mean([point[0] for point in self._gathered])))
        self._losses.append(float(np.mean([point[1] for point in self._gathered])))
        self._gathered = []
        if len(self._steps) >= MOST_POINTS:
            self._stride *= 2
            for points in (self._steps, self._losses):
                points[:] = np.asarray(points[: len(points) // 2 * 2]).reshape(-1, 2).mean(axis=1).tolist()


def smoothed(steps: Curve, losses: Curve) -> Curve:
    """A moving geometric mean [N] of losses [N] measured at rising steps [N], over a thirtieth of the run, taken twice.

    It goes by steps, since how many of them one measurement stands for changes with the machine. Its window shrinks to
    nothing at the beginning, where the curve is steep, and stays whole on its left at the end, where one number should
    not bend the line.
    """
    if len(steps) == 0:
        return np.empty(0)
    half = np.minimum(steps - steps[0], (steps[-1] - steps[0]) / 60)
    first, after = np.searchsorted(steps, steps - half, "left"), np.searchsorted(steps, steps + half, "right")
    logarithms = np.log(np.maximum(losses, 1e-12))
    for _ in range(2):
        sums = np.concatenate(([0.0], np.cumsum(logarithms)))
        logarithms = (sums[after] - sums[first]) / (after - first)
    return np.asarray(np.exp(logarithms), dtype=np.float64)


def held_out_trend(steps: Curve, losses: Curve) -> tuple[Trend, str]:
    """Whether the loss on the pictures kept apart still falls, as a word and a sentence.

    The newest quarter of the measurements is held against the best of those before it.
    """
    if len(losses) < FEWEST_FOR_A_TREND:
        return Trend.UNKNOWN, "Too early to tell: the held-out loss has been measured too few times"
    newest = max(2, len(losses) // 4)
    before, recent = losses[:-newest], losses[-newest:]
    best_step = int(steps[int(np.argmin(losses))])
    if recent.min() < before.min() * (1 - CLEARLY):
        return Trend.FALLING, "The loss on pictures it has never seen still falls"
    if recent.mean() > losses.min() * (1 + RISEN):
        percent = round(100 * (recent.mean() / losses.min() - 1))
        return Trend.RISING, (
            f"The loss on pictures it has never seen has risen by {percent} % since step {best_step:,}: "
            f"it begins to learn its own pictures by heart"
        )
    return Trend.LEVEL, f"The loss on pictures it has never seen has been level since about step {best_step:,}"

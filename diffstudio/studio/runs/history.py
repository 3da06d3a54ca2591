"""RunHistory: the curves, sample sheets, verdicts and decisions of one run, from its events. No torch is imported here.

A week-long run writes half a million events. The history keeps at most `MOST_POINTS` losses, each the mean of several
successive ones, so that the cost of drawing does not grow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from diffstudio.training.run.events import (
    RunCheckpoint,
    RunCheckpointChosen,
    RunCrossValidated,
    RunDiversity,
    RunEarlyDecay,
    RunEarlyStop,
    RunEvent,
    RunFinished,
    RunHeldOut,
    RunRolledBack,
    RunSamples,
    RunStarted,
    RunStep,
    RunVerdict,
)

MOST_POINTS = 8_000
FEWEST_FOR_A_TREND = 4  # held-out measurements
CLEARLY = 0.005  # relative: a smaller change of the held-out loss does not count
RISEN = 0.03  # relative: this far above its minimum, the held-out loss is rising

Curve = NDArray[np.float64]
Decision: TypeAlias = RunRolledBack | RunEarlyDecay | RunEarlyStop | RunCheckpointChosen


class Trend(StrEnum):
    UNKNOWN = "unknown"
    FALLING = "falling"
    LEVEL = "level"
    RISING = "rising"


def _empty() -> Curve:
    return np.empty(0)


@dataclass(frozen=True, slots=True)
class HistoryView:
    """A snapshot of a history, safe to pass to another thread."""

    steps: Curve  # [N] of the training loss
    losses: Curve  # [N]
    smoothed: Curve  # [N]
    held_out_steps: Curve  # [M]
    held_out_losses: Curve  # [M]
    samples: tuple[RunSamples, ...] = ()  # oldest first
    started: RunStarted | None = None  # of the newest process
    last: RunStep | None = None
    gradient_norms: Curve = field(default_factory=_empty)  # [N], these three at the steps of the training loss
    learning_rates: Curve = field(default_factory=_empty)  # [N]
    images_per_second: Curve = field(default_factory=_empty)  # [N]
    held_out: tuple[RunHeldOut, ...] = ()  # all measurements, with their losses by noise level
    verdicts: tuple[RunVerdict, ...] = ()  # oldest first
    checkpoints: tuple[RunCheckpoint, ...] = ()
    decisions: tuple[Decision, ...] = ()
    finished: RunFinished | None = None  # until it is resumed
    diversity: tuple[RunDiversity, ...] = ()  # of the samples, oldest first
    chosen: RunCrossValidated | None = None  # the choice of a cross-validation; `held_out` is what it measured

    def trend(self) -> tuple[Trend, str]:
        return held_out_trend(self.held_out_steps, self.held_out_losses)


class RunHistory:
    """Collects events in the order they were written. Not thread-safe."""

    def __init__(self) -> None:
        self._points: list[tuple[float, ...]] = []  # step, loss, gradient norm, learning rate, images per second
        self._held_out: list[RunHeldOut] = []
        self._samples: list[RunSamples] = []
        self._verdicts: list[RunVerdict] = []
        self._diversity: list[RunDiversity] = []
        self._checkpoints: list[RunCheckpoint] = []
        self._decisions: list[Decision] = []
        self._pooled: list[RunHeldOut] = []  # of a cross-validation
        self._chosen: RunCrossValidated | None = None
        self._started: RunStarted | None = None
        self._finished: RunFinished | None = None
        self._last: RunStep | None = None
        self._stride = 1  # the number of events averaged into one point
        self._pending: list[tuple[float, ...]] = []

    def take(self, events: Iterable[RunEvent]) -> None:
        for event in events:
            match event:
                case RunStarted():
                    self._started, self._finished = event, None
                    self._drop_after(event.step)
                    if self._chosen is None:
                        self._pooled = [point for point in self._pooled if point.step <= event.step]
                case RunStep() if math.isfinite(event.loss) and math.isfinite(event.gradient_norm):
                    self._last = event
                    self._add(
                        (event.step, event.loss, event.gradient_norm, event.learning_rate, event.images_per_second)
                    )
                case RunHeldOut() if math.isfinite(event.loss):
                    (self._pooled if event.splits else self._held_out).append(event)
                case RunCrossValidated():
                    self._chosen = event
                    self._drop_after(event.step)  # those were the steps of its networks
                case RunSamples():
                    self._samples = [sheet for sheet in self._samples if sheet.step != event.step] + [event]
                case RunDiversity():
                    self._diversity.append(event)
                case RunVerdict():
                    self._verdicts.append(event)
                case RunCheckpoint():
                    self._checkpoints.append(event)
                    if event.best:  # what was chosen before is not the one to generate with any more
                        self._decisions = [one for one in self._decisions if not isinstance(one, RunCheckpointChosen)]
                case RunRolledBack():
                    self._drop_after(event.step)
                    self._decisions.append(event)
                case RunEarlyDecay() | RunEarlyStop() | RunCheckpointChosen():
                    self._decisions.append(event)
                case RunFinished():
                    self._finished = event

    def view(self) -> HistoryView:
        points = np.asarray(self._points, dtype=np.float64).reshape(-1, 5).T
        measured = self._held_out or self._pooled
        held_out = np.asarray([(point.step, point.loss) for point in measured], dtype=np.float64).reshape(-1, 2)
        steps, losses, gradient_norms, learning_rates, images_per_second = points
        return HistoryView(
            steps,
            losses,
            smoothed(steps, losses),
            held_out[:, 0],
            held_out[:, 1],
            tuple(self._samples),
            self._started,
            self._last,
            gradient_norms,
            learning_rates,
            images_per_second,
            tuple(measured),
            tuple(self._verdicts),
            tuple(self._checkpoints),
            tuple(self._decisions),
            self._finished,
            tuple(self._diversity),
            self._chosen,
        )

    def _drop_after(self, step: int) -> None:
        """Drop what comes after `step`: a killed run resumes from its last checkpoint and repeats the steps after it."""
        while self._points and self._points[-1][0] > step:
            self._points.pop()
        self._pending = [point for point in self._pending if point[0] <= step]
        self._held_out = [point for point in self._held_out if point.step <= step]
        self._samples = [sheet for sheet in self._samples if sheet.step <= step]
        self._diversity = [measured for measured in self._diversity if measured.step <= step]
        self._verdicts = [verdict for verdict in self._verdicts if verdict.step <= step]
        self._checkpoints = [checkpoint for checkpoint in self._checkpoints if checkpoint.step <= step]

    def _add(self, point: tuple[float, ...]) -> None:
        self._pending.append(point)
        if len(self._pending) < self._stride:
            return
        self._points.append(_mean(self._pending))
        self._pending = []
        if len(self._points) >= MOST_POINTS:
            self._stride *= 2
            self._points = [_mean(self._points[first : first + 2]) for first in range(0, len(self._points) // 2 * 2, 2)]


def _mean(points: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(np.mean(points, axis=0).tolist())


def smoothed(steps: Curve, losses: Curve) -> Curve:
    """A moving geometric mean [N] of losses [N] at increasing steps [N], over a thirtieth of the run, applied twice.

    Its range is counted in steps, because the spacing of the measurements varies between machines. It shrinks towards
    the beginning, where the curve is steep. At the end only its right half is cut off, so that the newest value does
    not bend the curve.
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
    """The trend of the held-out loss, and a sentence about it.

    The newest quarter of the measurements is compared with the best of those before it.
    """
    if len(losses) < FEWEST_FOR_A_TREND:
        return Trend.UNKNOWN, "Too early to tell: there are too few measurements of the held-out loss"
    newest = max(2, len(losses) // 4)
    before, recent = losses[:-newest], losses[-newest:]
    best_step = int(steps[int(np.argmin(losses))])
    if recent.min() < before.min() * (1 - CLEARLY):
        return Trend.FALLING, "The held-out loss is still falling"
    if recent.mean() > losses.min() * (1 + RISEN):
        percent = round(100 * (recent.mean() / losses.min() - 1))
        return Trend.RISING, (
            f"The held-out loss has risen by {percent}% since step {best_step:,}: "
            "the model is beginning to overfit its training images"
        )
    return Trend.LEVEL, f"The held-out loss has been level since about step {best_step:,}"

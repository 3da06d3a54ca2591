"""How much of a run is done: by its steps, or by its time without pauses; and when it measures, samples and saves."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from diffstudio.training.recipe import RunRecipe

FIRST_STATE_SECONDS = 20.0  # after the start, the first state is saved
STATE_SECONDS = 45.0  # between two, so that a kill costs less than a minute
HELD_OUT_SHARES, SAMPLE_SHARES = 24, 12  # how often these happen in a run whose length is a time
_MOST_MEASURING, _MOST_SAMPLING = 0.05, 0.15  # of the time is spent on held-out losses, and on samples
_MEASUREMENTS, _MOST_FOR_THEM = 8, 0.15  # as many held-out losses, which a verdict needs, may take this share of it
_STEPS_OF_THE_END = 5.0  # estimated time for final samples, losses and checkpoint until it is measured, in steps
_SLOW_START = (
    0.1  # of the time: a first step that takes longer says nothing about the others (torch.compile, a busy disk)
)
_RESERVE_BEYOND = 1.2  # of what the last sheets and checkpoint took is reserved for the final ones


class RunClock:
    """Counts the seconds of training, which survive a kill in the state, and says how much of the run is done."""

    def __init__(
        self, recipe: RunRecipe, elapsed_seconds: float, progress: float, ends_after: float = math.inf
    ) -> None:
        self._recipe = recipe
        self.ends_after = ends_after  # seconds of training, once `begin_decay` shortened the run
        self.comparison_seconds = 0.0  # to compare checkpoints at the end, reserved like the files written there
        self._before = elapsed_seconds
        self._since = time.monotonic()
        self._stopped = False
        self._progress = progress
        self._reserve: float | None = None  # seconds for the files written at the end; None: not measured yet
        self._first_step = 0.0  # seconds until the second step began, if they were seen
        self._last_state = self._since - (STATE_SECONDS - FIRST_STATE_SECONDS)

    @property
    def elapsed_seconds(self) -> float:
        return self._before + (0.0 if self._stopped else time.monotonic() - self._since)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Around a pause: its time does not count."""
        self._before, self._stopped = self.elapsed_seconds, True
        try:
            yield
        finally:
            self._since, self._stopped = time.monotonic(), False

    @contextmanager
    def final_work(self) -> Iterator[None]:
        """Around the sheets and checkpoints: as much time is reserved for the final ones."""
        started = self.elapsed_seconds
        yield
        self._reserve = _RESERVE_BEYOND * (self.elapsed_seconds - started)

    @property
    def timed(self) -> bool:
        return self._recipe.schedule == "time"

    @property
    def _last_step(self) -> int:
        """Of a run whose length is a number of steps."""
        return self._recipe.end_step or self._recipe.steps

    def progress(self, step: int) -> float:
        """The completed share of the run after `step` steps, 0 to 1. It never decreases during a run.

        A run of any length has at least one step.
        """
        run = self._recipe
        done = step - run.first_step
        if not self.timed:
            return min(1.0, done / max(1, self._last_step - run.first_step))
        if done <= 0:
            return 0.0
        budget, spent = 60 * run.minutes, self._spent
        training = min(self.ends_after, max(budget / 2, budget - self._reserved(done, spent)))
        self._progress = max(self._progress, min(1.0, spent / training))
        return self._progress

    def begin_decay(self, decay_share: float) -> None:
        """Shorten a run whose length is a time, so that its learning rate, which falls in its last `decay_share`, falls
        from now on.
        """
        self.ends_after = min(self.ends_after, self._spent / (1 - decay_share))

    @property
    def seconds(self) -> float:
        """What the run takes of its time, with what comes after the last step."""
        return min(60 * self._recipe.minutes, self.ends_after + (self._reserve or 0.0) + self.comparison_seconds)

    @property
    def _spent(self) -> float:
        """Seconds since the run started or was last continued."""
        return self.elapsed_seconds - self._recipe.first_seconds

    def _reserved(self, done: int, spent: float) -> float:
        """Seconds for what comes after the last step."""
        files = self._reserve if self._reserve is not None else _STEPS_OF_THE_END * self._step_seconds(done, spent)
        return files + self.comparison_seconds

    def _step_seconds(self, done: int, spent: float) -> float:
        """The mean time of a step; without what came before the second one, if that took much of the time."""
        if done == 1:
            self._first_step = spent
        if self._first_step <= _SLOW_START * 60 * self._recipe.minutes:
            return spent / done
        return (spent - self._first_step) / (done - 1) if done > 1 else 0.0

    def left_seconds(self, step: int, seconds_per_step: float) -> float:
        if not self.timed:
            return max(0, self._last_step - step) * seconds_per_step
        return max(0.0, self.seconds - self._spent)

    def steps(self, step: int) -> int:
        """Of the whole run; an estimate where its length is a time, and 0 before the first one."""
        if not self.timed:
            return self._last_step
        done = step - self._recipe.first_step
        if done <= 0 or not self._progress:
            return 0
        return self._recipe.first_step + max(done, round(done / self._progress))

    def state_due(self) -> bool:
        return time.monotonic() - self._last_state >= STATE_SECONDS

    def state_saved(self) -> None:
        self._last_state = time.monotonic()


class Cadence:
    """What is due after a step: every so many steps, or at even shares of the time of a run."""

    def __init__(self, recipe: RunRecipe, progress: float) -> None:
        self._recipe = recipe
        self._progress = self._before = progress
        self._measure_after = self._sample_after = 0.0  # seconds of training

    def advance(self, progress: float) -> None:
        self._before, self._progress = self._progress, progress

    def held_out_due(self, step: int, elapsed_seconds: float) -> bool:
        if self._recipe.schedule == "time":
            return self._crossed(HELD_OUT_SHARES) and elapsed_seconds >= self._measure_after
        return step % self._recipe.held_out_every == 0

    def measured(self, seconds: float, elapsed_seconds: float) -> None:
        """A held-out loss took so long: the next one is due after a time of which this is a small part."""
        enough = 60 * self._recipe.minutes / _MEASUREMENTS
        self._measure_after = elapsed_seconds + min(seconds / _MOST_MEASURING, max(enough, seconds / _MOST_FOR_THEM))

    def samples_due(self, step: int, elapsed_seconds: float) -> bool:
        due = self._due(step, self._recipe.sample_every)
        return due and (self._recipe.schedule != "time" or elapsed_seconds >= self._sample_after)

    def sampled(self, seconds: float, elapsed_seconds: float) -> None:
        """The same for a sheet of samples."""
        self._sample_after = elapsed_seconds + seconds / _MOST_SAMPLING

    def checkpoint_due(self, step: int) -> bool:
        return self._due(step, self._recipe.checkpoint_every)

    def ema_snapshot_due(self) -> bool:
        return self._crossed(self._recipe.ema_snapshots)

    def _due(self, step: int, every: int) -> bool:
        if self._recipe.schedule != "time":
            return step % every == 0
        early = (
            self._progress * 60 * self._recipe.minutes < FIRST_STATE_SECONDS
        )  # a run of a few seconds writes no early state
        return self._crossed(SAMPLE_SHARES) and not early

    def _crossed(self, shares: int) -> bool:
        return int(self._progress * shares) > int(self._before * shares)

"""Progress, pause and stop of a run's setup: the minutes between its start and its first training step."""

from __future__ import annotations

import time
from collections.abc import Callable

from diffstudio.errors import Interrupted
from diffstudio.training.run.events import RunEvent, RunPaused, RunPreparing, RunResumed
from diffstudio.training.run.run_folder import Command, RunFolder

SECONDS_BETWEEN_EVENTS = 0.5
POLL_SECONDS = 0.05


class SetupProgress:
    """Records the setup's events, and ends it when `cancelled` returns True or the control file says stop.

    The run folder need not exist yet. `step` is the step at which the training will start.
    """

    def __init__(
        self, run: RunFolder, record: Callable[[RunEvent], None], cancelled: Callable[[], bool], step: int = 0
    ) -> None:
        self._run, self._record, self._cancelled, self._step = run, record, cancelled, step
        self._last_event = self._last_poll = -float("inf")  # seconds

    def decoded(self, done: int, images: int) -> None:
        """Called after each decoded image; records an event now and then, and after the last image."""
        now = time.monotonic()
        if now - self._last_event >= SECONDS_BETWEEN_EVENTS or done == images:
            self._last_event = now
            self._record(RunPreparing(self._step, done, images))

    def stop_requested(self) -> bool:
        """Whether the setup should end now; blocks while the run is paused."""
        if self._cancelled():
            return True
        now = time.monotonic()
        if now - self._last_poll < POLL_SECONDS:
            return False
        self._last_poll = now
        command = self._run.command()
        if command is Command.PAUSE:
            self._record(RunPaused(self._step))
            while command is Command.PAUSE and not self._cancelled():
                time.sleep(POLL_SECONDS)
                command = self._run.command()
            if command is Command.RUN and not self._cancelled():
                self._record(RunResumed(self._step))
        return command is Command.STOP or self._cancelled()

    def raise_if_stopped(self) -> None:
        if self.stop_requested():
            raise Interrupted("Stopped before the training started")

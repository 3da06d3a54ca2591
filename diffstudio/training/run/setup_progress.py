"""SetupProgress: what a run says and listens to between its start and its first step, which can take minutes."""

from __future__ import annotations

import time
from collections.abc import Callable

from diffstudio.errors import Interrupted
from diffstudio.training.run.run_folder import Command, RunEvent, RunFolder, RunPaused, RunPreparing, RunResumed

SECONDS_BETWEEN_EVENTS = 0.5
POLL_SECONDS = 0.05


class SetupProgress:
    """Of the run in `run`, which need not be made yet; `step` is where it will begin.

    `cancelled` ends it, as the control file does.
    """

    def __init__(
        self, run: RunFolder, say: Callable[[RunEvent], None], cancelled: Callable[[], bool], step: int = 0
    ) -> None:
        self._run, self._say, self._cancelled, self._step = run, say, cancelled, step
        self._told = self._looked = -float("inf")  # seconds

    def decoded(self, done: int, images: int) -> None:
        """So many of the pictures are in the prepared set: said now and then, and at the end."""
        now = time.monotonic()
        if now - self._told >= SECONDS_BETWEEN_EVENTS or done == images:
            self._told = now
            self._say(RunPreparing(self._step, done, images))

    def stop_asked(self) -> bool:
        """Whether it is to end here; waits for as long as a pause is asked for."""
        if self._cancelled():
            return True
        now = time.monotonic()
        if now - self._looked < POLL_SECONDS:
            return False
        self._looked = now
        command = self._run.command()
        if command is Command.PAUSE:
            self._say(RunPaused(self._step))
            while command is Command.PAUSE and not self._cancelled():
                time.sleep(POLL_SECONDS)
                command = self._run.command()
            if command is Command.RUN and not self._cancelled():
                self._say(RunResumed(self._step))
        return command is Command.STOP or self._cancelled()

    def check(self) -> None:
        """Raise Interrupted when it is to end here."""
        if self.stop_asked():
            raise Interrupted("Stopped before the training began")

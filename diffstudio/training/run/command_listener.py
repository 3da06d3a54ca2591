"""CommandListener: pauses, stops and asks a run between two steps, as its control file and the accelerator want it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from diffstudio import paths
from diffstudio.errors import Interrupted
from diffstudio.models.memory.lease import Lease
from diffstudio.training.run.events import RunEvent, RunPaused, RunResumed, RunWaiting
from diffstudio.training.run.run_folder import Command, RunFolder, RunRequest
from diffstudio.training.run.turn import Turn

_POLL_SECONDS = 0.1


def training_turn() -> Turn:
    """What one training run has at a time, also while it lends the accelerator: others wait until it ends or pauses."""
    return Turn(paths.data() / "training")


class CommandListener:
    """Pauses or stops a run between two steps: on a command in its control file, or to release the accelerator."""

    def __init__(
        self, run: RunFolder, lease: Lease, turn: Turn, asked_to_stop: Callable[[], bool] = lambda: False
    ) -> None:
        """`asked_to_stop`: by another way than the control file."""
        self._run, self._lease, self._turn, self._asked_to_stop = run, lease, turn, asked_to_stop
        self._last_poll = 0.0
        self._command = Command.RUN
        self._asked = run.asked()
        self.stopped = False

    def start(self, step: int) -> Iterator[RunEvent]:
        """Wait for the turn and the accelerator, and yield the events; `stopped` is True if it has to end instead."""
        holder = self._turn.holder() or self._lease.waits_for()
        if holder is not None:
            yield RunWaiting(step, holder)
        self.stopped = not self._acquire()
        if holder is not None and not self.stopped:
            yield RunResumed(step)

    def release(self) -> None:
        self._lease.release()
        self._turn.release()

    def wait_while_paused(self, step: int, save_state: Callable[[], None]) -> Iterator[RunEvent]:
        """Wait until the run may continue, and yield the events; afterwards `stopped` is True if it has to end."""
        while not self.stopped:
            match self._poll():
                case Command.STOP:
                    self.stopped = True
                    save_state()
                case Command.PAUSE:
                    save_state()
                    self.release()
                    yield RunPaused(step)
                    while self._poll() is Command.PAUSE:
                        time.sleep(_POLL_SECONDS)
                    if self.stop_requested():
                        continue
                    holder = self._turn.holder() or self._lease.waits_for()
                    if holder is not None:
                        yield RunWaiting(step, holder)
                    if not self._acquire():
                        continue
                    yield RunResumed(step)
                case Command.RUN if self._lease.wanted_by_other():
                    yield RunWaiting(step, self._lease.waits_for() or "")
                    self._lease.release()
                    if not self._acquire():
                        continue
                    yield RunResumed(step)
                case Command.RUN:
                    return

    def check_between_calls(self) -> None:
        """During sampling: release the accelerator if it is wanted. Interrupted on a pause or stop command."""
        if self._poll() is not Command.RUN:
            raise Interrupted("The samples were not finished")
        self._lease.yield_if_wanted(cancelled=self.stop_requested)

    def lend_between_calls(self) -> None:
        """The same where there is nothing left to stop: only the accelerator is released."""
        self._lease.yield_if_wanted()

    def stop_requested(self) -> bool:
        return self._poll() is Command.STOP

    def take(self, what: RunRequest) -> bool:
        """Whether the run was asked for this since the last call."""
        count = self._run.asked()[what]
        new, self._asked[what] = count > self._asked[what], count
        return new

    def _acquire(self) -> bool:
        """Wait for the turn and the lease; False when the run is asked to stop meanwhile."""
        by = f"training {self._run.name}"
        try:
            if not self._turn.is_held:
                self._turn.acquire(by, cancelled=self.stop_requested)
            self._lease.acquire(by, cancelled=self.stop_requested)
        except Interrupted:
            return False
        return True

    def _poll(self) -> Command:
        now = time.monotonic()
        if now - self._last_poll >= _POLL_SECONDS / 2:
            self._last_poll = now
            self._command = Command.STOP if self._asked_to_stop() else self._run.command()
        return self._command

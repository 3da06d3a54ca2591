"""Stops and pauses an evaluation, and lets image jobs use the accelerator first. No torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from diffstudio.errors import Interrupted
from diffstudio.models.memory.lease import Lease
from diffstudio.studio.evaluations.job_folder import JobEvent, JobFolder, JobPaused, JobResumed, JobWaiting
from diffstudio.training.run.command_listener import training_turn
from diffstudio.training.run.run_folder import Command, RunFolder

_POLL_SECONDS = 0.1


class EvaluationJobControl:
    """Pause, stop and accelerator of a job; call `check()` between network calls.

    Image generation takes priority: the accelerator is released while an image job waits. A training run and an evaluation
    take turns: each holds the accelerator until it ends or is paused.
    """

    def __init__(
        self,
        lease: Lease,
        cancelled: Callable[[], bool] = lambda: False,
        control: Path | None = None,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        """`control` is the job's folder, with the control file (`stop`, `pause`) and the events that say why it waits."""
        self._lease, self._turn, self._cancelled, self._on_wait = lease, training_turn(), cancelled, on_wait
        self._control = RunFolder(control) if control is not None else None
        self._events = JobFolder(control) if control is not None else None
        self._command, self._last_poll = Command.RUN, -float("inf")
        self._by, self._waiting = "", False

    @contextmanager
    def taken(self, by: str) -> Iterator[None]:
        """Hold the accelerator inside the `with`. Interrupted if the evaluation is stopped while it waits.

        Do not start a training run inside the `with`: it would wait forever for its own turn.
        """
        self._by = by
        with ExitStack() as release:
            release.callback(self._turn.release)
            release.callback(self._lease.release)
            self._acquire()
            yield

    def check(self) -> None:
        """Interrupted when the evaluation is to end; waits while it is paused or an image job has the accelerator."""
        held = self._lease.is_held
        if not self._is_stopped() and self._command is Command.PAUSE:
            self._lease.release()
            self._turn.release()
            self._write(JobPaused())
            self._waiting = True
            while not self._is_stopped() and self._command is Command.PAUSE:
                time.sleep(_POLL_SECONDS)
        if self._is_stopped():
            raise Interrupted("The evaluation was stopped")
        if held and not self._lease.is_held:
            self._acquire()
        elif held:
            self._lease.yield_if_wanted(on_wait=self._report_waiting, cancelled=self._is_stopped)
        self._report_resumed()

    def _acquire(self) -> None:
        if not self._turn.is_held:
            self._turn.acquire(self._by, self._is_stopped, on_wait=self._report_waiting)
        self._lease.acquire(self._by, self._is_stopped, on_wait=self._report_waiting)
        self._report_resumed()

    def _report_waiting(self) -> None:
        self._on_wait()
        before = None if self._turn.is_held else self._turn.holder()
        self._write(JobWaiting(self._lease.waits_for() or before or ""))
        self._waiting = True

    def _report_resumed(self) -> None:
        if self._waiting:
            self._waiting = False
            self._write(JobResumed())

    def _write(self, event: JobEvent) -> None:
        if self._events is not None:
            self._events.append(event)

    def _is_stopped(self) -> bool:
        now = time.monotonic()
        if self._control is not None and now - self._last_poll >= _POLL_SECONDS / 2:
            self._last_poll, self._command = now, self._control.command()
        return self._cancelled() or self._command is Command.STOP

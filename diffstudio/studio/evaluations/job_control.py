"""Stops and pauses an evaluation, and lets image jobs use the accelerator first. No torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from diffstudio.errors import Interrupted
from diffstudio.models.memory.lease import Lease
from diffstudio.training.run.run_folder import Command, RunFolder

_POLL_SECONDS = 0.1


class EvaluationJobControl:
    """`check()` between two calls of a network. Image jobs go first: the accelerator is released while one waits."""

    def __init__(
        self,
        lease: Lease,
        cancelled: Callable[[], bool] = lambda: False,
        control: Path | None = None,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        """`control` is a folder whose `control.json` may say `stop` or `pause`, as in a run's folder."""
        self._lease, self._cancelled, self._on_wait = lease, cancelled, on_wait
        self._control = RunFolder(control) if control is not None else None
        self._command, self._last_poll = Command.RUN, -float("inf")

    @contextmanager
    def taken(self, by: str) -> Iterator[None]:
        """Hold the accelerator inside the `with`. Interrupted when the evaluation is ended while it waits."""
        with self._lease.held(by, self._is_stopped, on_wait=self._on_wait):
            yield

    def check(self) -> None:
        """Interrupted when the evaluation is to end; waits while it is paused or an image job has the accelerator."""
        while not self._is_stopped() and self._command is Command.PAUSE:
            self._lend()
            time.sleep(_POLL_SECONDS)
        if self._is_stopped():
            raise Interrupted("The evaluation was stopped")
        self._lend()

    def _lend(self) -> None:
        if self._lease.is_held:
            self._lease.yield_if_wanted(on_wait=self._on_wait, cancelled=self._is_stopped)

    def _is_stopped(self) -> bool:
        now = time.monotonic()
        if self._control is not None and now - self._last_poll >= _POLL_SECONDS / 2:
            self._last_poll, self._command = now, self._control.command()
        return self._cancelled() or self._command is Command.STOP

"""Live tasks: what a page of the Lab shows at once, and again with each move of a slider. The worker computes them between
its jobs, with the models that it has in memory. No torch.

    answer = worker.live.submit(task)           # a Future; from any thread
    answer = await asyncio.wrap_future(answer)  # in the window

The newest task wins. One that is replaced while it waits is cancelled; one that runs is interrupted at its next check,
unless it began only just now: otherwise nothing would be shown while a slider moves. Jobs of the queue go first: a task
is put off while one runs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from diffstudio.errors import Interrupted

if TYPE_CHECKING:
    from diffstudio.models.model import Model

LEAST_SECONDS = 0.5  # that a task may take before a newer one interrupts it
_REPLACED = "Replaced by a newer task"

Check = Callable[[], None]


class LiveTask(Protocol):
    """A frozen dataclass that says what is computed."""

    @property
    def checkpoint(self) -> str:
        """The name or the path of the checkpoint, as `Library.find` takes it."""

    def run(self, model: Model, check: Check) -> Any:
        """Compute the answer in the worker's thread, which may load torch. `check()` between two calls of a network."""


@dataclass(eq=False)
class _Submitted:
    task: LiveTask
    answer: Future[Any] = field(default_factory=Future)
    begun: float | None = None  # when it first ran, by time.monotonic


class LiveTasks:
    """The newest task that waits, and the one that runs. Thread-safe; `changed` is notified of a new one."""

    def __init__(self, changed: threading.Condition) -> None:
        self._changed = changed
        self._waiting: _Submitted | None = None
        self._running: _Submitted | None = None
        self._put_off = self._closed = False

    def submit(self, task: LiveTask) -> Future[Any]:
        """Compute a task soon, instead of earlier ones. Its Future is cancelled, or raises Interrupted, when it is replaced."""
        submitted = _Submitted(task)
        with self._changed:
            if self._closed:
                submitted.answer.cancel()
            else:
                self._replace(submitted)
            self._changed.notify_all()
        return submitted.answer

    def cancel(self) -> None:
        """Compute nothing more of what was submitted."""
        with self._changed:
            self._replace(None)
            if self._running is not None:
                self._running.begun = float("-inf")

    def close(self) -> None:
        """Cancel all tasks, and every later one."""
        self._closed = True
        self.cancel()

    # Called by the worker

    def put_off(self) -> None:
        """A job was added to the queue: the task that runs waits until it has ended."""
        self._put_off = True

    def may_run(self) -> bool:
        """Whether a task waits; asked when no job of the queue does."""
        self._put_off = False
        return self._waiting is not None

    def run(self, load: Callable[[str, Callable[[], bool]], Model]) -> None:
        """Run the task that waits. `load(checkpoint, cancelled)` gives its model, ready to be used."""
        with self._changed:
            self._running = submitted = self._waiting
            self._waiting = None
        if submitted is None:
            return
        if submitted.begun is None:
            if not submitted.answer.set_running_or_notify_cancel():  # nobody waits for it any more
                self._running = None
                return
            submitted.begun = time.monotonic()
        try:
            model = load(submitted.task.checkpoint, lambda: self._is_over(submitted))
            answer = submitted.task.run(model, lambda: self._check(submitted))
        except Interrupted as interruption:
            self._interrupted(submitted, interruption)
        except Exception as error:  # noqa: BLE001 - whoever waits for the answer gets it
            submitted.answer.set_exception(error)
        else:
            submitted.answer.set_result(answer)
        finally:
            self._running = None

    def _replace(self, submitted: _Submitted | None) -> None:
        before, self._waiting = self._waiting, submitted
        if before is not None and not before.answer.cancel():  # it was put off
            before.answer.set_exception(Interrupted(_REPLACED))

    def _interrupted(self, submitted: _Submitted, interruption: Interrupted) -> None:
        """Let a task that was put off wait again, unless it was replaced."""
        with self._changed:
            again = self._put_off and self._waiting is None and submitted.begun != float("-inf")
            if again:
                self._waiting = submitted
        if not again:
            submitted.answer.set_exception(interruption)

    def _check(self, submitted: _Submitted) -> None:
        if self._is_over(submitted):
            raise Interrupted(_REPLACED)

    def _is_over(self, submitted: _Submitted) -> bool:
        begun = submitted.begun if submitted.begun is not None else 0.0
        replaced = self._waiting is not None and time.monotonic() - begun >= LEAST_SECONDS
        return self._put_off or replaced or begun == float("-inf")

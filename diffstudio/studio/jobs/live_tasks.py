"""Live tasks: short computations for interactive pages of the Lab, for example when a slider moves. No torch.

The worker runs them between its jobs, with the models that it has in memory.

    answer = worker.live.submit(task)           # a Future; from any thread
    answer = await asyncio.wrap_future(answer)  # in the window

The newest task wins. A waiting task that is replaced is cancelled; a running one is interrupted at its next check, unless
it has only just begun, because otherwise nothing would be shown while a slider moves. Jobs of the queue take priority: a
task is postponed while one runs.
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

LEAST_SECONDS = 0.5  # before a newer task may interrupt a running one
_REPLACED = "Replaced by a newer task"

Check = Callable[[], None]


class LiveTask(Protocol):
    """A frozen dataclass that describes a computation."""

    @property
    def checkpoint(self) -> str:
        """The name or the path of the checkpoint, as `Library.find` takes it."""

    def run(self, model: Model, check: Check) -> Any:
        """Compute the answer in the worker's thread, which may load torch. Call `check()` between network calls."""


@dataclass(eq=False)
class _Submitted:
    task: LiveTask
    answer: Future[Any] = field(default_factory=Future)
    begun: float | None = None  # when it first ran, by time.monotonic


class LiveTasks:
    """The newest waiting task and the running one. Thread-safe; `changed` is notified of a new task."""

    def __init__(self, changed: threading.Condition) -> None:
        self._changed = changed
        self._waiting: _Submitted | None = None
        self._running: _Submitted | None = None
        self._put_off = self._closed = False

    def submit(self, task: LiveTask) -> Future[Any]:
        """Replace earlier tasks with this one. Its Future is cancelled, or raises Interrupted, if it is replaced itself."""
        submitted = _Submitted(task)
        with self._changed:
            if self._closed:
                submitted.answer.cancel()
            else:
                self._replace(submitted)
            self._changed.notify_all()
        return submitted.answer

    def cancel(self) -> None:
        """Cancel all submitted tasks."""
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
        """Postpone the running task, because a job was added to the queue."""
        self._put_off = True

    def may_run(self) -> bool:
        """Whether a task is waiting; asked when the queue has no job to run."""
        self._put_off = False
        return self._waiting is not None

    def run(self, load: Callable[[str, Callable[[], bool]], Model]) -> None:
        """Run the waiting task. `load(checkpoint, cancelled)` returns its model, ready to use."""
        with self._changed:
            self._running = submitted = self._waiting
            self._waiting = None
        if submitted is None:
            return
        if submitted.begun is None:
            if not submitted.answer.set_running_or_notify_cancel():  # it was cancelled
                self._running = None
                return
            submitted.begun = time.monotonic()
        try:
            model = load(submitted.task.checkpoint, lambda: self._is_over(submitted))
            answer = submitted.task.run(model, lambda: self._check(submitted))
        except Interrupted as interruption:
            self._interrupted(submitted, interruption)
        except Exception as error:  # noqa: BLE001 - the caller gets it from the Future
            submitted.answer.set_exception(error)
        else:
            submitted.answer.set_result(answer)
        finally:
            self._running = None

    def _replace(self, submitted: _Submitted | None) -> None:
        before, self._waiting = self._waiting, submitted
        if before is not None and not before.answer.cancel():  # it was postponed
            before.answer.set_exception(Interrupted(_REPLACED))

    def _interrupted(self, submitted: _Submitted, interruption: Interrupted) -> None:
        """Make a postponed task wait again, unless it was replaced."""
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

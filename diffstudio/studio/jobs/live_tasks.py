"""Live tasks: short computations for interactive pages of the Lab, for example when a slider moves. No torch.

The worker runs them between its jobs, with the models that it has in memory.

    answer = worker.live.submit(task, page)     # a Future; from any thread
    answer = await asyncio.wrap_future(answer)  # in the window

The newest task of each owner wins. A waiting task that is replaced is cancelled; a running one is interrupted at its next
check, unless it has only just begun, because otherwise nothing would be shown while a slider moves. Tasks of other owners
wait their turn. Jobs of the queue take priority: a task is postponed while one runs.

An error is a DiffstudioError for the user; any other one is logged.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from diffstudio.errors import DiffstudioError, Interrupted, OutOfMemory

if TYPE_CHECKING:
    from diffstudio.models.model import Model

LEAST_SECONDS = 0.5  # before a newer task may interrupt a running one
_REPLACED = "Replaced by a newer task"
_log = logging.getLogger(__name__)

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
    owner: Hashable
    answer: Future[Any] = field(default_factory=Future)
    begun: float | None = None  # when it first ran, by time.monotonic


class LiveTasks:
    """The newest waiting task of each owner, and the running one. Thread-safe; `changed` is notified of a new task."""

    def __init__(self, changed: threading.Condition) -> None:
        self._changed = changed
        self._waiting: dict[Hashable, _Submitted] = {}  # by owner, the one that has waited longest first
        self._running: _Submitted | None = None
        self._put_off = self._closed = False

    def submit(self, task: LiveTask, owner: Hashable = None) -> Future[Any]:
        """Replace the owner's earlier tasks with this one.

        Its Future is cancelled, or raises Interrupted, if it is replaced itself.
        """
        submitted = _Submitted(task, owner)
        with self._changed:
            if self._closed:
                submitted.answer.cancel()
            else:
                self._replace(owner, submitted)
            self._changed.notify_all()
        return submitted.answer

    def cancel(self, owner: Hashable = None) -> None:
        """Cancel all tasks of an owner."""
        with self._changed:
            self._replace(owner, None)
            if self._running is not None and self._running.owner == owner:
                self._running.begun = float("-inf")

    def close(self) -> None:
        """Cancel all tasks, and every later one."""
        with self._changed:
            self._closed = True
            running = [self._running.owner] if self._running is not None else []
            for owner in [*self._waiting, *running]:
                self.cancel(owner)

    # Called by the worker

    def put_off(self) -> None:
        """Postpone the running task, because a job was added to the queue."""
        self._put_off = True

    def may_run(self) -> bool:
        """Whether a task is waiting; asked when the queue has no job to run."""
        self._put_off = False
        return bool(self._waiting)

    def run(self, load: Callable[[str, Callable[[], bool]], Model]) -> None:
        """Run the task that has waited longest. `load(checkpoint, cancelled)` returns its model, ready to use."""
        with self._changed:
            if not self._waiting:
                return
            self._running = submitted = self._waiting.pop(next(iter(self._waiting)))
        if submitted.begun is None:
            if not submitted.answer.set_running_or_notify_cancel():  # it was cancelled
                self._running = None
                return
            submitted.begun = time.monotonic()
        out_of_memory = False
        try:
            model = load(submitted.task.checkpoint, lambda: self._is_over(submitted))
            answer = submitted.task.run(model, lambda: self._check(submitted))
        except Interrupted as interruption:
            self._interrupted(submitted, interruption)
        except DiffstudioError as error:
            submitted.answer.set_exception(error)
        except Exception as error:  # noqa: BLE001 - the top of the thread: the caller gets a sentence from the Future
            out_of_memory = _is_out_of_memory(error)
            if not out_of_memory:
                _log.exception("A live task failed")
                submitted.answer.set_exception(_unexpected(error))
        else:
            submitted.answer.set_result(answer)
        finally:
            self._running = None
        if out_of_memory:  # outside the `except`: its traceback would keep the tensors
            _free_memory()
            submitted.answer.set_exception(
                OutOfMemory(
                    "There was not enough memory for these images",
                    remedy="Close other programs, or choose a smaller model",
                )
            )

    def _replace(self, owner: Hashable, submitted: _Submitted | None) -> None:
        before = self._waiting.pop(owner, None)
        if submitted is not None:
            self._waiting[owner] = submitted
        if before is not None and not before.answer.cancel():  # it was postponed
            before.answer.set_exception(Interrupted(_REPLACED))

    def _interrupted(self, submitted: _Submitted, interruption: Interrupted) -> None:
        """Make a postponed task wait again, unless it was replaced."""
        with self._changed:
            again = self._put_off and submitted.owner not in self._waiting and submitted.begun != float("-inf")
            if again:  # before the others
                self._waiting = {submitted.owner: submitted, **self._waiting}
        if not again:
            submitted.answer.set_exception(interruption)

    def _check(self, submitted: _Submitted) -> None:
        if self._is_over(submitted):
            raise Interrupted(_REPLACED)

    def _is_over(self, submitted: _Submitted) -> bool:
        begun = submitted.begun if submitted.begun is not None else 0.0
        replaced = submitted.owner in self._waiting and time.monotonic() - begun >= LEAST_SECONDS
        return self._put_off or replaced or begun == float("-inf")


def _is_out_of_memory(error: Exception) -> bool:
    from diffstudio.models.memory.devices import is_out_of_memory  # loads torch, as the task has

    return is_out_of_memory(error)


def _free_memory() -> None:
    from diffstudio.models.memory.devices import free_unused

    free_unused()


def _unexpected(error: Exception) -> DiffstudioError:
    message = (str(error).splitlines() or [""])[0][:300]
    return DiffstudioError(
        "The images could not be computed",
        f"{type(error).__name__}: {message}" if message else type(error).__name__,
        "Try again, or choose another model. The log has the details",
    )

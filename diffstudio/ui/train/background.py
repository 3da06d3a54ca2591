"""Work that would hold the window up: done in a plain thread each, its results delivered on the window's own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QObject, Qt, Signal

JOIN_SECONDS = 5.0


class Task:
    """One piece of work. The work looks at `cancelled` now and then, and may `tell` how far it is."""

    def __init__(self, background: Background, told: Callable[[Any], None] | None) -> None:
        self._background, self._told = background, told
        self._cancelled = threading.Event()

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Nothing of it is delivered any more; the work itself ends when it looks."""
        self._cancelled.set()

    def tell(self, value: Any) -> None:
        """From the work's thread."""
        if self._told is not None:
            self._background.deliver(self, self._told, value)


class Background(QObject):
    """Runs tasks, and delivers what they return in the thread that made this object."""

    _delivered = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._running: dict[Task, threading.Thread] = {}
        self._closed = False
        self._delivered.connect(self._receive, Qt.ConnectionType.QueuedConnection)

    def submit(self, work: Callable[[Task], Any], then: Callable[[Any], None], *,
               failed: Callable[[Exception], None] | None = None, told: Callable[[Any], None] | None = None) -> Task:
        """Do `work` elsewhere, then call `then` with what it returned, or `failed` with what it raised, here."""
        task = Task(self, told)
        if self._closed:
            task.cancel()
            return task
        thread = threading.Thread(target=self._work, args=(task, work, then, failed), name="train-room", daemon=True)
        self._running[task] = thread
        thread.start()
        return task

    def close(self) -> None:
        """Cancel everything and wait for it."""
        self._closed = True
        running = dict(self._running)
        for task in running:
            task.cancel()
        for thread in running.values():
            thread.join(JOIN_SECONDS)
        self._running.clear()

    def deliver(self, task: Task, to: Callable[[Any], None] | None, value: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the window is gone already
            self._delivered.emit((task, to, value))

    def _work(self, task: Task, work: Callable[[Task], Any], then: Callable[[Any], None],
              failed: Callable[[Exception], None] | None) -> None:
        try:
            result = work(task)
        except Exception as error:  # noqa: BLE001 - shown by the one who asked, or by the window's own hook
            if failed is None:
                self.deliver(task, _raise, error)
            else:
                self.deliver(task, failed, error)
        else:
            self.deliver(task, then, result)
        self.deliver(task, None, None)

    def _receive(self, delivery: tuple[Task, Callable[[Any], None] | None, Any]) -> None:
        task, to, value = delivery
        if to is None:
            self._running.pop(task, None)
        elif not task.cancelled and not self._closed:
            to(value)


def _raise(error: Exception) -> None:
    raise error

"""LiveAnswers: sends live tasks for a page of the Lab, for example when a slider moves, and receives the answers."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any

from PySide6.QtCore import QObject, Signal

from diffstudio.errors import DiffstudioError, Interrupted
from diffstudio.studio.jobs.live_tasks import LiveTask, LiveTasks
from diffstudio.ui.tasks import Tasks


class LiveAnswers(QObject):
    """Runs one live task at a time; the answer to the newest task always arrives, earlier ones may be dropped.

    A task that was requested before `use` is sent then. Call `close` at the end.
    """

    answered = Signal(object, object)  # LiveTask, its answer
    failed = Signal(str)  # a sentence about why there is no answer
    busy_changed = Signal(bool)

    def __init__(self, name: str, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._tasks = Tasks(name)
        self._owner = object()  # not `self`: the worker's thread must not hold a QObject
        self._live: LiveTasks | None = None
        self._newest: LiveTask | None = None
        self.busy = False

    def use(self, live: LiveTasks) -> None:
        self._live = live
        if self.busy and self._newest is not None:
            self.ask(self._newest)

    def ask(self, task: LiveTask) -> None:
        self._newest = task
        self._set_busy(True)
        if self._live is not None:
            self._tasks.start(self._answer(task, self._live.submit(task, self._owner)))

    def cancel(self) -> None:
        """Cancel all tasks."""
        if self.busy and self._live is not None:
            self._live.cancel(self._owner)
        self._newest = None
        self._set_busy(False)

    def close(self) -> None:
        self.cancel()
        self._tasks.close()

    async def _answer(self, task: LiveTask, answer: Future[Any]) -> None:
        try:
            found = await asyncio.wrap_future(answer)
        except Interrupted:
            return
        except DiffstudioError as error:
            self._end(task)
            if self._newest is task:
                self.failed.emit(str(error))
            return
        self._end(task)
        if self._newest is not None:  # not cancelled by now
            self.answered.emit(task, found)

    def _end(self, task: LiveTask) -> None:
        if self._newest is task:
            self._set_busy(False)

    def _set_busy(self, busy: bool) -> None:
        if busy != self.busy:
            self.busy = busy
            self.busy_changed.emit(busy)

"""LiveAnswers: what a page of the Lab asks of a network at each move of a slider, without waiting for it."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any

from PySide6.QtCore import QObject, Signal

from diffstudio.errors import DiffstudioError, Interrupted
from diffstudio.studio.jobs.live_tasks import LiveTask, LiveTasks
from diffstudio.ui.tasks import Tasks


class LiveAnswers(QObject):
    """Asks for one thing at a time; the answer to the newest task arrives, and perhaps some before it.

    What is asked before `use` is asked then. Call `close` at the end.
    """

    answered = Signal(object, object)  # LiveTask, its answer
    failed = Signal(str)  # why there is no answer, in a sentence
    busy_changed = Signal(bool)

    def __init__(self, name: str, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._tasks = Tasks(name)
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
            self._tasks.start(self._answer(task, self._live.submit(task)))

    def cancel(self) -> None:
        """Ask for nothing any more."""
        if self.busy and self._live is not None:
            self._live.cancel()
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
        except Exception:
            self._end(task)
            raise
        self._end(task)
        if self._newest is not None:  # not cancelled meanwhile
            self.answered.emit(task, found)

    def _end(self, task: LiveTask) -> None:
        if self._newest is task:
            self._set_busy(False)

    def _set_busy(self, busy: bool) -> None:
        if busy != self.busy:
            self.busy = busy
            self.busy_changed.emit(busy)

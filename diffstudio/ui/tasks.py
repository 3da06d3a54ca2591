"""The window's own waiting, on asyncio: library scans, thumbnails, the runs' folders, files read and written.

Work that would hold the window up is done on threads beside it; a coroutine waits for it and goes on, on the window's
thread, with what it brought. app.main runs the loop, which is Qt's own (qasync).
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from PySide6.QtCore import QCoreApplication, QEventLoop, QObject, Signal

from diffstudio.errors import DiffstudioError, Interrupted

_T = TypeVar("_T")
_END = object()


class Tasks:
    """What one part of the window waits for. `close()` before that part goes: nothing of it runs afterwards."""

    def __init__(self, name: str = "diffstudio-task", workers: int = 2) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._under_way: set[asyncio.Task[None]] = set()
        self._closed = False

    def start(self, waiting: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        """Run a coroutine; cancel what is returned to give it up. None once closed.

        What the coroutine does not catch goes to sys.excepthook, which shows it in the window; Interrupted is dropped.
        """
        if self._closed:
            waiting.close()
            return None
        task = asyncio.get_running_loop().create_task(waiting)
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        return task

    async def to_thread(self, work: Callable[..., _T], *args: Any) -> _T:
        """What `work(*args)` returns, or raises, from a thread. Cancelled, work that has begun goes on unheard."""
        return await asyncio.wrap_future(self._pool.submit(work, *args))

    async def iterate_in_thread(self, items: Generator[_T, None, None]) -> AsyncIterator[_T]:
        """The items of a generator that runs in threads. Cancelled, it is closed after the step under way."""
        turn = threading.Lock()

        def step() -> Any:
            with turn:
                return next(items, _END)

        def end() -> None:
            with turn:
                items.close()

        try:
            while (item := await self.to_thread(step)) is not _END:
                yield item
        finally:
            self._pool.submit(end)

    def close(self) -> None:
        """Cancel everything, and wait for the threads."""
        self._closed = True
        for task in self._under_way:
            task.cancel()
        while self._under_way:  # each takes its cancelling in the loop
            QCoreApplication.processEvents(QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents)
        self._pool.shutdown(wait=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, Interrupted):  # the user stopped it
            sys.excepthook(type(error), error, error.__traceback__)


class NewestFirstQueue(QObject):
    """Questions answered one at a time, the last asked first: thumbnails on the screen before those scrolled past.

    Asking again for a key that still waits moves it to the front. When more than `most` wait, the oldest are dropped:
    they will be asked for again.
    """

    completed = Signal(object, object)  # the key; what the function returned, None where the file could not be read

    def __init__(self, name: str, most: int = 400) -> None:
        super().__init__()
        self._tasks, self._most = Tasks(name, workers=1), most
        self._waiting: dict[Hashable, Callable[[], Any]] = {}
        self._current: Hashable | None = None
        self._answering: asyncio.Task[None] | None = None

    def submit(self, key: Hashable, function: Callable[[], Any]) -> None:
        if key == self._current:
            return
        self._waiting.pop(key, None)
        self._waiting[key] = function
        while len(self._waiting) > self._most:
            del self._waiting[next(iter(self._waiting))]
        if not self.busy():
            self._answering = self._tasks.start(self._answer())

    def busy(self) -> bool:
        return self._answering is not None and not self._answering.done()

    def close(self) -> None:
        """Drop what waits and wait for what runs. Nothing is answered afterwards."""
        self._waiting.clear()
        self._tasks.close()

    async def _answer(self) -> None:
        try:
            while self._waiting:
                self._current, function = self._waiting.popitem()
                try:
                    result = await self._tasks.to_thread(function)
                except (Interrupted, DiffstudioError, OSError):
                    result = None
                self.completed.emit(self._current, result)
        finally:
            self._current = None

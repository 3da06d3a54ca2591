"""Background work of the window, on asyncio: library scans, thumbnails, run folders, files read and written.

Work that would block the window runs in threads; a coroutine awaits its result and continues on the window's thread.
`app.main` runs the event loop, which is Qt's own (qasync).
"""

from __future__ import annotations

import asyncio
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from PySide6.QtCore import QCoreApplication, QDeadlineTimer, QEventLoop, QObject, Signal

from diffstudio.errors import DiffstudioError, Interrupted

_T = TypeVar("_T")
_END = object()
_every: weakref.WeakSet[Tasks] = weakref.WeakSet()


def any_in_threads() -> bool:
    """Whether any part of the window has work in threads whose result is not shown yet, such as images to read."""
    return any(each.in_threads() for each in _every)


class Tasks:
    """The coroutines and threads of one part of the window. After `close()` none of them runs."""

    def __init__(self, name: str = "diffstudio-task", workers: int = 2) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._running: set[asyncio.Task[None]] = set()
        self._lengthy: set[asyncio.Task[Any]] = set()
        self._in_threads: set[Future[Any]] = set()
        self._awaited = 0  # of them, or done, and the coroutine has not gone on yet
        self._closed = False
        _every.add(self)

    def start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        """Run a coroutine and return its task, which can be cancelled; None once closed.

        Uncaught exceptions go to sys.excepthook, which shows them in the window; Interrupted is ignored.
        """
        if self._closed:
            coroutine.close()
            return None
        task = asyncio.get_running_loop().create_task(coroutine)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    async def to_thread(self, work: Callable[..., _T], *args: Any) -> _T:
        """Await `work(*args)` in a thread. When cancelled, work that has started runs on and its result is ignored."""
        with self._awaiting():
            return await asyncio.wrap_future(self.submit(work, *args))

    def submit(self, work: Callable[..., _T], *args: Any) -> Future[_T]:
        """Start `work(*args)` in a thread."""
        future = self._pool.submit(work, *args)
        self._in_threads.add(future)
        future.add_done_callback(self._in_threads.discard)
        return future

    async def to_thread_with_progress(
        self, work: Callable[[Callable[..., None]], _T], report: Callable[..., object], every: float = 0.1
    ) -> _T:
        """As `to_thread`; what `work` last passed to its argument is passed on to `report`, on the window's thread.

        The thread holds no QObject, so that none is destroyed in it when it outlives the window.
        """
        newest: list[tuple[Any, ...]] = []

        def progress(*values: Any) -> None:
            newest[:] = [values]

        future = asyncio.wrap_future(self.submit(work, progress))
        with self._awaiting():
            while not future.done():
                await asyncio.wait([future], timeout=every)
                if newest:
                    report(*newest.pop())
        return future.result()

    async def iterate_in_thread(self, items: Generator[_T, None, None]) -> AsyncIterator[_T]:
        """Iterate over a generator that runs in threads. When cancelled, it is closed after its current step."""
        lock = threading.Lock()

        def step() -> Any:
            with lock:
                return next(items, _END)

        def end() -> None:
            with lock:
                items.close()

        try:
            while (item := await self.to_thread(step)) is not _END:
                yield item
        finally:
            self.submit(end)

    def busy(self) -> bool:
        return bool(self._running)

    def in_threads(self) -> bool:
        """Whether functions run or wait in its threads, or have a result that no coroutine has taken yet."""
        return bool(self._in_threads) or self._awaited > 0

    @contextmanager
    def lengthy(self) -> Iterator[None]:
        """Within it, the current task is one that `finish` may cancel."""
        task = asyncio.current_task()
        assert task is not None
        self._lengthy.add(task)
        try:
            yield
        finally:
            self._lengthy.discard(task)

    def finish(self, most_ms: int) -> None:
        """Wait for the tasks, at most so long; then cancel the lengthy ones and wait for the others as long again."""
        self._wait(most_ms)
        for task in self._lengthy:
            task.cancel()
        self._wait(most_ms)

    def _wait(self, most_ms: int) -> None:
        deadline = QDeadlineTimer(most_ms)
        while self._running and not deadline.hasExpired():
            QCoreApplication.processEvents(QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents)

    def close(self) -> None:
        """Cancel every task and wait for the threads."""
        self._closed = True
        for task in self._running:
            task.cancel()
        while self._running:  # each task handles its cancellation in the loop
            QCoreApplication.processEvents(QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents)
        self._pool.shutdown(wait=True)

    @contextmanager
    def _awaiting(self) -> Iterator[None]:
        self._awaited += 1
        try:
            yield
        finally:
            self._awaited -= 1

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, Interrupted):  # the user stopped it
            sys.excepthook(type(error), error, error.__traceback__)


class NewestFirstQueue(QObject):
    """Runs functions one at a time, the newest first: thumbnails on the screen before those scrolled past.

    Submitting a key that is still pending moves it to the front. When more than `capacity` are pending, the oldest are
    dropped: they will be submitted again when they are needed.
    """

    completed = Signal(object, object)  # the key; the result, or None when the file could not be read

    def __init__(self, name: str, capacity: int = 400) -> None:
        super().__init__()
        self._tasks, self._capacity = Tasks(name, workers=1), capacity
        self._pending: dict[Hashable, Callable[[], Any]] = {}
        self._current: Hashable | None = None
        self._worker: asyncio.Task[None] | None = None

    def submit(self, key: Hashable, function: Callable[[], Any]) -> None:
        if key == self._current:
            return
        self._pending.pop(key, None)
        self._pending[key] = function
        while len(self._pending) > self._capacity:
            del self._pending[next(iter(self._pending))]
        if not self.busy():
            self._worker = self._tasks.start(self._run())

    def busy(self) -> bool:
        return self._worker is not None and not self._worker.done()

    def close(self) -> None:
        """Drop pending functions and wait for the running one. `completed` is not emitted afterwards."""
        self._pending.clear()
        self._tasks.close()

    async def _run(self) -> None:
        try:
            while self._pending:
                self._current, function = self._pending.popitem()
                try:
                    result = await self._tasks.to_thread(function)
                except (Interrupted, DiffstudioError, OSError):
                    result = None
                self.completed.emit(self._current, result)
        finally:
            self._current = None

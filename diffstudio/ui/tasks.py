"""Work that would hold the window up, done beside it: thumbnails, library scans, files read and written."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from PySide6.QtCore import QObject, Qt, Signal

_T = TypeVar("_T")


class Tasks(QObject):
    """Make it on the window's thread, where `done` and `failed` are called. `close()` waits for what is under way."""

    _finished = Signal(object)

    def __init__(self, workers: int = 2) -> None:
        super().__init__()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="diffstudio-task")
        self._closed = False
        self._finished.connect(_settle, Qt.ConnectionType.QueuedConnection)

    def run(self, work: Callable[[], _T], done: Callable[[_T], None],
            failed: Callable[[BaseException], None] | None = None) -> None:
        """Without `failed`, what goes wrong goes to sys.excepthook, which shows it in the window."""
        if self._closed:
            return

        def finished(future: Future[_T]) -> None:
            if not self._closed and not future.cancelled():
                self._finished.emit((future, done, failed))

        self._pool.submit(work).add_done_callback(finished)

    def close(self) -> None:
        self._closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)


def _settle(settled: tuple[Future[Any], Callable[[Any], None], Callable[[BaseException], None] | None]) -> None:
    future, done, failed = settled
    error = future.exception()
    if error is None:
        done(future.result())
    elif failed is not None:
        failed(error)
    else:
        raise error

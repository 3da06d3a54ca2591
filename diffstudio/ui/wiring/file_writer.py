"""Writes small files in one thread: the window's thread never waits for the disk."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from diffstudio.errors import DiffstudioError


class FileWriter(QObject):
    """Writes the newest content of each file, in the order in which the files were first changed.

    `failed` carries a sentence, once for as long as a file fails for the same reason.
    """

    failed = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="diffstudio-settings")
        self._changes = _Changes()
        self._closed = False

    def write(self, path: Path, save: Callable[[], None]) -> None:
        """Call `save`, which writes `path`, in the thread. It replaces one that still waits. Nothing once closed."""
        if self._closed:
            return
        if self._changes.put(path, save):
            self._thread.submit(_write, self._changes, path, weakref.ref(self))

    def close(self) -> None:
        """Wait until everything is written."""
        self._closed = True
        self._thread.shutdown(wait=True)


class _Changes:
    """What waits to be written, by path, and why each file could not be written the last time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Path, Callable[[], None]] = {}
        self.failures: dict[Path, str] = {}

    def put(self, path: Path, save: Callable[[], None]) -> bool:
        """Whether nothing waited there yet."""
        with self._lock:
            is_new = path not in self._waiting
            self._waiting[path] = save
        return is_new

    def take(self, path: Path) -> Callable[[], None]:
        with self._lock:
            return self._waiting.pop(path)


def _write(changes: _Changes, path: Path, writer: weakref.ref[FileWriter]) -> None:
    """In the thread, which must not be the last to hold the writer."""
    try:
        changes.take(path)()
    except DiffstudioError as error:
        alive = writer()
        if alive is not None and changes.failures.get(path) != str(error):
            changes.failures[path] = str(error)
            alive.failed.emit(str(error))
    else:
        changes.failures.pop(path, None)

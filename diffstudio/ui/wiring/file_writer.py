"""Writes small files in one thread: the window's thread never waits for the disk."""

from __future__ import annotations

import threading
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
        self._lock = threading.Lock()
        self._waiting: dict[Path, Callable[[], None]] = {}
        self._failures: dict[Path, str] = {}
        self._closed = False

    def write(self, path: Path, save: Callable[[], None]) -> None:
        """Call `save`, which writes `path`, in the thread. It replaces one that still waits. Nothing once closed."""
        if self._closed:
            return
        with self._lock:
            is_new = path not in self._waiting
            self._waiting[path] = save
        if is_new:
            self._thread.submit(self._write, path)

    def close(self) -> None:
        """Wait until everything is written."""
        self._closed = True
        self._thread.shutdown(wait=True)

    def _write(self, path: Path) -> None:
        with self._lock:
            save = self._waiting.pop(path)
        try:
            save()
        except DiffstudioError as error:
            if self._failures.get(path) != str(error):
                self._failures[path] = str(error)
                self.failed.emit(str(error))
        else:
            self._failures.pop(path, None)

"""Work off the window's thread, the newest first: thumbnails that are on the screen before those scrolled past."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any

from PySide6.QtCore import QObject, Signal

from diffstudio.errors import DiffstudioError, ImageProblem


class Background(QObject):
    """Runs functions on one thread, which lives while there is work; `done(key, result)` arrives on the window's.

    A result is what the function returned, or the DiffstudioError it raised. Asking again for a key that still waits
    moves it to the front; when more than `most` wait, the oldest are dropped: they will be asked for again.
    """

    done = Signal(object, object)

    def __init__(self, name: str, most: int = 400) -> None:
        super().__init__()
        self._name, self._most = name, most
        self._waiting: dict[Hashable, Callable[[], Any]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._current: Hashable | None = None

    def ask(self, key: Hashable, function: Callable[[], Any]) -> None:
        with self._lock:
            if self._closed or key == self._current:
                return
            self._waiting.pop(key, None)
            self._waiting[key] = function
            while len(self._waiting) > self._most:
                del self._waiting[next(iter(self._waiting))]
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()

    def busy(self) -> bool:
        with self._lock:
            return self._thread is not None

    def close(self) -> None:
        """Drop what waits and wait for what runs. Nothing arrives afterwards."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._lock:
                self._current = None
                if not self._waiting:
                    self._thread = None
                    return
                key, function = self._waiting.popitem()
                self._current = key
            result = self._result(function)
            if not self._closed:
                self.done.emit(key, result)

    def _result(self, function: Callable[[], Any]) -> Any:
        try:
            return function()
        except DiffstudioError as error:
            return error
        except OSError as error:
            return ImageProblem("A file could not be read", error.strerror or str(error))
        except BaseException:
            with self._lock:  # a mistake in the program: this thread ends and tells, the next question starts another
                self._thread, self._current = None, None
            raise

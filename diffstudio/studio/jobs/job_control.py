"""JobControl: stop, pause and resume a running job from any thread. No torch is imported here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from diffstudio.errors import Interrupted


class JobControl:
    """The stop and pause switches of one job. The thread that runs the job checks them before every network call.

    That thread calls `on_pause` when it pauses and `on_resume` before it continues; `on_resume` may wait for the
    accelerator, and may raise Interrupted.
    """

    def __init__(self, on_pause: Callable[[], None] | None = None, on_resume: Callable[[], None] | None = None) -> None:
        self._on_pause, self._on_resume = on_pause, on_resume
        self._changed = threading.Condition()
        self._stopped = False
        self._paused = False
        self.paused_seconds = 0.0  # in all pauses so far, including the wait for the accelerator afterwards

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def pause(self) -> None:
        with self._changed:
            self._paused = True

    def resume(self) -> None:
        with self._changed:
            self._paused = False
            self._changed.notify_all()

    def stopped(self) -> bool:
        return self._stopped

    def paused(self) -> bool:
        return self._paused

    def check(self) -> None:
        """Wait while the job is paused. Raises Interrupted once it is stopped."""
        if self._paused and not self._stopped:
            self._wait()
        if self._stopped:
            raise Interrupted("Stopped")

    def _wait(self) -> None:
        began = time.monotonic()
        if self._on_pause is not None:
            self._on_pause()
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or not self._paused)
        try:
            if self._on_resume is not None and not self._stopped:
                self._on_resume()
        finally:
            self.paused_seconds += time.monotonic() - began

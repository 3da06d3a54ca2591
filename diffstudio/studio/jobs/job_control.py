"""Control: a job's switches, turned from any thread and obeyed by the one that works. No torch is imported here.

Also what a job leaves behind for the filmstrip and for starting again from one of its steps.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from diffstudio.errors import Interrupted

if TYPE_CHECKING:
    pass


class JobControl:
    """Stop and pause, looked at before every call of the network.

    `on_pause` and `on_resume` are called by the working thread when it really pauses and goes on; `on_resume` may wait
    for the accelerator, and may raise Interrupted.
    """

    def __init__(self, on_pause: Callable[[], None] | None = None, on_resume: Callable[[], None] | None = None) -> None:
        self._on_pause, self._on_resume = on_pause, on_resume
        self._changed = threading.Condition()
        self._stopped = False
        self._paused = False
        self.paused_seconds = 0.0  # in pauses so far, waiting for the accelerator afterwards included

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
        """Return when the next piece of work may begin. Raises Interrupted when it may not."""
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

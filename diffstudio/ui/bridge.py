"""Where threads are crossed: plain threads hand events in, the window's thread gets them out, in order."""

from __future__ import annotations

import threading
from collections import deque

from PySide6.QtCore import QObject, Qt, Signal

from diffstudio.studio.events import Event, Stepped


class Bridge(QObject):
    """Make it on the window's thread. `arrived` is emitted there only.

    A `Stepped` that has not been looked at yet gives way to a newer one of the same job, so that a busy window never
    falls behind; nothing else is ever dropped, and the order stays.
    """

    arrived = Signal(object)  # Event
    _woken = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[Event] = deque()
        self._lock = threading.Lock()
        self._closed = False
        self._woken.connect(self._deliver, Qt.ConnectionType.QueuedConnection)

    def emit_from_thread(self, event: Event) -> None:
        """From any thread; returns at once."""
        with self._lock:
            if self._closed:
                return
            wake = not self._waiting
            newest = self._waiting[-1] if self._waiting else None
            if isinstance(event, Stepped) and isinstance(newest, Stepped) and newest.job == event.job:
                self._waiting[-1] = event
            else:
                self._waiting.append(event)
            if wake:  # inside the lock: not after close() has let the object go
                self._woken.emit()

    def close(self) -> None:
        """Deliver nothing from now on. Call before the window goes."""
        with self._lock:
            self._closed = True
            self._waiting.clear()

    def _deliver(self) -> None:
        with self._lock:
            events = list(self._waiting)
            self._waiting.clear()
        for event in events:
            if self._closed:
                return
            self.arrived.emit(event)

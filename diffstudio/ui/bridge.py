"""Passes events from plain threads to the window's thread, in order."""

from __future__ import annotations

import threading
from collections import deque

from PySide6.QtCore import QObject, Qt, Signal

from diffstudio.studio.events import Event, Stepped


class Bridge(QObject):
    """Create it on the window's thread, where alone it emits `arrived`.

    An undelivered `Stepped` is replaced by a newer one of the same job, so that a busy window never falls behind. No
    other event is dropped, and the order is kept.
    """

    arrived = Signal(object)  # Event
    _wake_up = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._pending: deque[Event] = deque()
        self._lock = threading.Lock()
        self._closed = False
        self._wake_up.connect(self._deliver, Qt.ConnectionType.QueuedConnection)

    def emit_from_thread(self, event: Event) -> None:
        """Queue an event, from any thread; returns at once."""
        with self._lock:
            if self._closed:
                return
            wake = not self._pending
            newest = self._pending[-1] if self._pending else None
            if isinstance(event, Stepped) and isinstance(newest, Stepped) and newest.job == event.job:
                self._pending[-1] = event
            else:
                self._pending.append(event)
            if wake:  # inside the lock, so that close() cannot come between
                self._wake_up.emit()

    def close(self) -> None:
        """Stop delivering. Call before the window is destroyed."""
        with self._lock:
            self._closed = True
            self._pending.clear()

    def _deliver(self) -> None:
        with self._lock:
            events = list(self._pending)
            self._pending.clear()
        for event in events:
            if self._closed:
                return
            self.arrived.emit(event)

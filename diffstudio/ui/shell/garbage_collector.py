"""Collects reference cycles in the window's thread alone.

Python runs its cyclic garbage collector in whichever thread allocates memory. A QObject that is destroyed in another thread
than its own, for example with a running QTimer, crashes the program soon after.
"""

from __future__ import annotations

import gc
import threading

from PySide6.QtCore import QObject, Qt, QTimer, Signal

from diffstudio.models.memory import garbage

CHECK_MS = 200
WAIT_SECONDS = 2.0  # at most, for the window's thread, which may be waiting for the thread that asks
GROWTH = 1.25  # of the objects that survived the last full collection, before the next: Python's own rule


class GarbageCollector(QObject):
    """Create it in the window's thread. It takes the place of Python's automatic collection until it is closed."""

    _asked = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._answers: list[threading.Event] = []
        self._survivors = 0
        self._asked.connect(self._answer, Qt.ConnectionType.QueuedConnection)
        self._timer = QTimer(self, interval=CHECK_MS)
        self._timer.timeout.connect(self._collect_what_is_due)
        self._automatic_before = gc.isenabled()
        gc.disable()
        garbage.set_collector(self.collect)
        self._timer.start()

    def collect(self) -> None:
        """Collect everything now. From another thread: ask the window's thread and wait for it."""
        if threading.current_thread() is threading.main_thread():
            gc.collect()
            return
        done = threading.Event()
        self._answers.append(done)
        self._asked.emit()
        done.wait(WAIT_SECONDS)

    def close(self) -> None:
        """Let Python collect by itself again, if it did before. Call it when no other thread runs."""
        self._timer.stop()
        self._answer()
        garbage.set_collector()
        if self._automatic_before:
            gc.enable()

    def _answer(self) -> None:
        answers = [self._answers.pop() for _ in range(len(self._answers))]
        if answers:
            gc.collect()
        for done in answers:
            done.set()

    def _collect_what_is_due(self) -> None:
        """As Python's own collection: each generation after as many collections of the younger one."""
        counts, thresholds = gc.get_count(), gc.get_threshold()
        if counts[0] <= thresholds[0]:
            return
        if counts[1] <= thresholds[1]:
            gc.collect(0)
        elif counts[2] <= thresholds[2] or len(gc.get_objects(2)) < GROWTH * self._survivors:
            gc.collect(1)
        else:
            gc.collect()
            self._survivors = len(gc.get_objects(2))

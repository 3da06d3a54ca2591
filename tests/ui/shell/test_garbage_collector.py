"""Qt objects in reference cycles are destroyed in the window's thread, whoever asks for a collection."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from PySide6.QtCore import QObject, QThread, QTimer
from pytestqt.qtbot import QtBot

from diffstudio.models.memory import devices
from diffstudio.ui.shell.garbage_collector import GarbageCollector

CRASH = """
import gc, sys, threading
from PySide6.QtCore import QCoreApplication, QObject, QTimer
from diffstudio.models.memory import devices
from diffstudio.ui.shell.garbage_collector import GarbageCollector
app = QCoreApplication([])
collector = GarbageCollector()

class Owner(QObject):
    def __init__(self):
        super().__init__()
        self.itself = self
        self.timer = QTimer(self, interval=1)
        self.timer.timeout.connect(self.tick)
        self.timer.start()

    def tick(self):
        pass

def worker():
    devices.free_unused()
    [[] for _ in range(100_000)]  # more than enough for an automatic collection

for _ in range(30):
    Owner()
    app.processEvents()
    thread = threading.Thread(target=worker)
    thread.start()
    while thread.is_alive():
        app.processEvents()
collector.close()
print("survived", gc.isenabled())
"""


@pytest.fixture
def collector(qtbot: QtBot) -> Iterator[GarbageCollector]:
    collector = GarbageCollector()
    yield collector
    collector.close()


class Cycle(QObject):
    def __init__(self) -> None:
        super().__init__()
        self.itself = self


def test_timers_in_cycles_survive_collections_of_a_worker() -> None:
    found = subprocess.run([sys.executable, "-c", CRASH], capture_output=True, text=True, timeout=120, check=False)
    assert (found.returncode, found.stdout.strip()) == (0, "survived True"), found.stderr


def test_a_worker_that_frees_memory_waits_for_the_windows_thread(collector: GarbageCollector, qtbot: QtBot) -> None:
    threads: list[bool] = []
    Cycle().destroyed.connect(lambda: threads.append(QThread.isMainThread()))
    worker = threading.Thread(target=devices.free_unused)
    worker.start()
    qtbot.waitUntil(lambda: not worker.is_alive())
    assert threads == [True]


def test_garbage_is_collected_after_as_many_objects_as_in_python(collector: GarbageCollector, qtbot: QtBot) -> None:
    destroyed: list[bool] = []
    Cycle().destroyed.connect(lambda: destroyed.append(True))
    kept = [[number] for number in range(2 * gc.get_threshold()[0])]
    qtbot.waitUntil(lambda: bool(destroyed))
    assert len(kept) and not gc.isenabled()


def test_older_garbage_too(collector: GarbageCollector) -> None:
    destroyed: list[bool] = []
    cycle = Cycle()
    cycle.destroyed.connect(lambda: destroyed.append(True))
    gc.collect()  # it is of the oldest generation now
    del cycle
    kept = []
    for _ in range(200):
        kept.append([[number] for number in range(2 * gc.get_threshold()[0])])
        collector._collect_what_is_due()
    assert destroyed


@pytest.mark.parametrize("automatic", [True, False])
def test_closed_it_leaves_the_collection_as_it_was(qtbot: QtBot, automatic: bool) -> None:
    before = gc.isenabled()
    (gc.enable if automatic else gc.disable)()
    try:
        collector = GarbageCollector()
        assert not gc.isenabled() and not collector.findChildren(QTimer)[0].isSingleShot()
        collector.close()
        assert gc.isenabled() == automatic
    finally:
        (gc.enable if before else gc.disable)()

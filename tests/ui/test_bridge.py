"""The bridge: any thread in, the window's thread out, in order, steps coalesced, endings never lost."""

from __future__ import annotations

import threading
from pathlib import Path

from PySide6.QtCore import QThread
from pytestqt.qtbot import QtBot

from diffstudio.studio.events import Cancelled, Event, Finished, ImageSaved, Paused, Started, Stepped
from diffstudio.studio.requests import GenerateRequest
from diffstudio.ui.bridge import Bridge
from tests.ui.samples import picture, stepped


def test_events_arrive_on_the_windows_thread(qtbot: QtBot) -> None:
    bridge = Bridge()
    threads: list[QThread] = []
    bridge.arrived.connect(lambda event: threads.append(QThread.currentThread()))
    with qtbot.waitSignal(bridge.arrived):
        thread = threading.Thread(target=lambda: bridge.emit_from_thread(Finished(1, 1.0)))
        thread.start()
        thread.join()
    assert threads == [bridge.thread()]


def test_steps_that_nobody_has_seen_give_way_to_newer_ones_and_nothing_else_does(qtbot: QtBot) -> None:
    bridge, heard = Bridge(), list[Event]()
    bridge.arrived.connect(heard.append)
    saved = ImageSaved(1, 0, Path("a.png"), picture())
    message: list[Event] = [
        Started(1, GenerateRequest()),
        *(stepped(1, index, 20) for index in range(1, 11)),
        Paused(1),
        *(stepped(1, index, 20) for index in range(11, 21)),
        saved,
        Finished(1, 1.0),
        stepped(2, 1, 20),
        stepped(3, 1, 20),
        Cancelled(3),
    ]
    for event in message:  # the window's thread is busy with this loop, so nothing is delivered meanwhile
        bridge.emit_from_thread(event)
    qtbot.waitUntil(lambda: any(isinstance(event, Cancelled) for event in heard))
    kinds = [(type(event).__name__, event.job, getattr(event, "index", None)) for event in heard]
    assert kinds == [
        ("Started", 1, None),
        ("Stepped", 1, 10),
        ("Paused", 1, None),
        ("Stepped", 1, 20),
        ("ImageSaved", 1, 0),
        ("Finished", 1, None),
        ("Stepped", 2, 1),
        ("Stepped", 3, 1),
        ("Cancelled", 3, None),
    ]


def test_no_ending_is_lost_among_many_threads(qtbot: QtBot) -> None:
    bridge, heard = Bridge(), list[Event]()
    bridge.arrived.connect(heard.append)

    def speak(job: int) -> None:
        for index in range(1, 101):
            bridge.emit_from_thread(stepped(job, index, 100))
        bridge.emit_from_thread(Finished(job, 1.0))

    threads = [threading.Thread(target=speak, args=(job,)) for job in range(8)]
    for thread in threads:
        thread.start()
    qtbot.waitUntil(lambda: sum(isinstance(event, Finished) for event in heard) == 8)
    for thread in threads:
        thread.join()
    for job in range(8):
        steps = [event.index for event in heard if isinstance(event, Stepped) and event.job == job]
        assert steps == sorted(set(steps))
        assert steps[-1] == 100  # the newest is kept, however many were passed over


def test_nothing_arrives_after_the_end(qtbot: QtBot) -> None:
    bridge, heard = Bridge(), list[Event]()
    bridge.arrived.connect(heard.append)
    bridge.emit_from_thread(Finished(1, 1.0))
    bridge.close()
    bridge.emit_from_thread(Finished(2, 1.0))
    qtbot.wait(50)
    assert heard == []

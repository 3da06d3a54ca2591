"""Many images are changed one by one, with word of how far it is."""

from __future__ import annotations

import threading

from pytestqt.qtbot import QtBot

from diffstudio.errors import StorageProblem
from diffstudio.ui.shell.gallery_changes import MANY, in_turn
from diffstudio.ui.tasks import Tasks


def test_work_ends_at_the_next_image_when_the_window_closes(qtbot: QtBot) -> None:
    tasks, started, goes_on, done = Tasks("test", workers=1), threading.Event(), threading.Event(), list[int]()

    def work(number: int) -> list[int]:
        started.set()
        goes_on.wait(10)
        done.append(number)
        return [number]

    async def run() -> None:
        await in_turn(tasks, range(1000), work)

    tasks.start(run())
    qtbot.waitUntil(started.is_set)
    threading.Timer(0.2, goes_on.set).start()
    tasks.close()
    assert done == [0]


def test_progress_and_what_was_done_before_a_failure_are_told(qtbot: QtBot) -> None:
    tasks, told, found = Tasks("test", workers=1), list[tuple[int, int]](), []

    def work(number: int) -> list[int]:
        if number == MANY - 2:
            raise StorageProblem("x")
        return [number]

    async def run() -> None:
        found.append(await in_turn(tasks, range(MANY), work, lambda *values: told.append(values)))
        found.append(await in_turn(tasks, range(3), work, lambda *values: told.append(values)))

    tasks.start(run())
    qtbot.waitUntil(lambda: not tasks.busy())
    assert found[0][0] == list(range(MANY - 2)) and isinstance(found[0][1], StorageProblem)
    assert found[1] == ([0, 1, 2], None)
    assert told and all(count == MANY for _, count in told)
    tasks.close()

"""Many images are changed one by one, with word of how far it is."""

from __future__ import annotations

import threading
from collections.abc import Sequence

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


def test_other_changes_get_in_between_those_of_many_images_which_closing_ends_first(qtbot: QtBot) -> None:
    tasks, done, rest = Tasks("test", workers=1), list[object](), threading.Event()

    def work(item: object) -> list[object]:
        done.append(item)
        rest.wait(0.02)
        return []

    async def run(items: Sequence[object]) -> None:
        await in_turn(tasks, items, work)

    tasks.start(run(range(10_000)))
    qtbot.waitUntil(lambda: bool(done))
    tasks.start(run(["a note"]))
    qtbot.waitUntil(lambda: "a note" in done)
    qtbot.waitUntil(lambda: done[-1] != "a note")
    tasks.start(run([f"star {number}" for number in range(30)]))
    tasks.finish(1000)
    assert not tasks.busy() and done[-1] == "star 29"
    tasks.close()

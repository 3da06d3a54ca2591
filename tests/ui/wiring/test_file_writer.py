"""Files are written in another thread, the newest content of each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from diffstudio.errors import StorageProblem
from diffstudio.ui.wiring.file_writer import FileWriter


@pytest.fixture
def writer(qtbot: QtBot) -> Iterator[FileWriter]:
    writer = FileWriter()
    yield writer
    writer.close()


def test_the_newest_content_is_written_and_never_on_the_windows_thread(writer: FileWriter) -> None:
    go_on, written = threading.Event(), list[tuple[str, bool]]()

    def save(text: str) -> Callable[[], None]:
        def write() -> None:
            go_on.wait(30)
            written.append((text, threading.current_thread() is threading.main_thread()))

        return write

    writer.write(Path("other"), save("first"))  # holds the thread up
    for text in ("one", "two", "three"):
        writer.write(Path("file"), save(text))
    assert written == []  # nobody waited
    go_on.set()
    writer.close()
    assert written == [("first", False), ("three", False)]
    writer.write(Path("file"), save("late"))
    assert len(written) == 2


def test_a_failure_is_reported_once_until_it_is_over(qtbot: QtBot, writer: FileWriter) -> None:
    messages = list[str]()
    writer.failed.connect(messages.append)
    done = list[int]()

    def fail() -> None:
        done.append(1)
        raise StorageProblem("It could not be written", "the disk is full")

    for save in (fail, fail, lambda: done.append(1), fail):
        count = len(done)
        writer.write(Path("file"), save)
        qtbot.waitUntil(lambda count=count: len(done) > count)
    qtbot.waitUntil(lambda: len(messages) == 2)
    assert all("the disk is full" in message for message in messages)

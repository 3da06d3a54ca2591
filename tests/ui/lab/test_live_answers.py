"""Answers of the worker on the window's thread: the newest, errors as sentences, and none after the page has gone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from diffstudio.errors import BadRequest
from diffstudio.studio.jobs.live_tasks import LiveTasks
from diffstudio.ui.lab.live_answers import LiveAnswers


@dataclass(frozen=True)
class Task:
    number: int
    checkpoint: str = "tiny"

    def run(self, model: Any, check: Callable[[], None]) -> int:
        if self.number == 0:
            raise MemoryError
        if self.number < 0:
            raise BadRequest(f"{self.number} cannot be doubled", remedy="Choose another")
        return 2 * self.number


@pytest.fixture
def answers(qtbot: QtBot) -> Iterator[LiveAnswers]:
    found = LiveAnswers("live-test")
    yield found
    found.close()


@pytest.fixture
def live() -> LiveTasks:
    return LiveTasks(threading.Condition())


def compute(live: LiveTasks) -> None:
    """As the worker does, in a thread of its own."""
    thread = threading.Thread(target=lambda: live.run(lambda checkpoint, cancelled: checkpoint))  # type: ignore[arg-type,return-value]
    thread.start()
    thread.join(30)


def test_the_newest_answer_arrives(qtbot: QtBot, answers: LiveAnswers, live: LiveTasks) -> None:
    heard: list[tuple[Any, Any]] = []
    answers.answered.connect(lambda task, found: heard.append((task, found)))
    answers.use(live)
    for number in (1, 2, 3):
        answers.ask(Task(number))
    assert answers.busy
    compute(live)
    qtbot.waitUntil(lambda: not answers.busy)
    assert heard == [(Task(3), 6)]


def test_what_was_asked_before_the_worker_ran_is_asked_then(
    qtbot: QtBot, answers: LiveAnswers, live: LiveTasks
) -> None:
    answers.ask(Task(4))
    assert answers.busy
    answers.use(live)
    with qtbot.waitSignal(answers.answered) as answered:
        compute(live)
    assert answered.args == [Task(4), 8]


def test_an_error_is_a_sentence_and_the_next_task_goes_on(qtbot: QtBot, answers: LiveAnswers, live: LiveTasks) -> None:
    answers.use(live)
    answers.ask(Task(-1))
    with qtbot.waitSignal(answers.failed) as failed:
        compute(live)
    assert failed.args == ["-1 cannot be doubled. Choose another."] and not answers.busy
    answers.ask(Task(1))
    with qtbot.waitSignal(answers.answered):
        compute(live)


def test_nothing_arrives_once_cancelled(qtbot: QtBot, answers: LiveAnswers, live: LiveTasks) -> None:
    heard: list[Any] = []
    answers.answered.connect(lambda task, found: heard.append(found))
    answers.use(live)
    answers.ask(Task(1))
    answers.cancel()
    assert not answers.busy and not live.may_run()
    compute(live)
    answers.ask(Task(2))
    compute(live)
    qtbot.waitUntil(lambda: heard == [4])


def test_two_pages_get_their_answers(qtbot: QtBot, answers: LiveAnswers, live: LiveTasks) -> None:
    other = LiveAnswers("another-page")
    for page in (answers, other):
        page.use(live)
        page.ask(Task(3))
    answers.ask(Task(4))
    heard: list[int] = []
    for page in (answers, other):
        page.answered.connect(lambda task, found: heard.append(found))
        compute(live)
    qtbot.waitUntil(lambda: not answers.busy and not other.busy)
    assert sorted(heard) == [6, 8]
    other.close()


def test_too_little_memory_is_a_sentence(qtbot: QtBot, answers: LiveAnswers, live: LiveTasks) -> None:
    answers.use(live)
    answers.ask(Task(0))
    with qtbot.waitSignal(answers.failed) as failed:
        compute(live)
    assert "not enough memory" in failed.args[0] and not answers.busy

"""Live tasks: the newest wins, jobs go first, and nobody waits for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any

import pytest

from diffstudio.errors import BadRequest, DiffstudioError, Interrupted, OutOfMemory
from diffstudio.studio.jobs import live_tasks
from diffstudio.studio.jobs.live_tasks import LiveTasks


@dataclass(eq=False)
class Task:
    """Answers with its name after `go_on`; `checks` is how often it asked whether it may."""

    name: str
    checkpoint: str = "tiny"
    begun: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    runs: int = 0
    error: Exception | None = None

    def run(self, model: Any, check: Callable[[], None]) -> str:
        self.runs += 1
        self.begun.set()
        assert self.go_on.wait(30)
        if self.error is not None:
            raise self.error
        check()
        return f"{self.name} by {model}"


def load(checkpoint: str, cancelled: Callable[[], bool]) -> Any:
    if checkpoint == "none":
        raise BadRequest("There is no such checkpoint")
    return checkpoint


@pytest.fixture
def tasks() -> LiveTasks:
    return LiveTasks(threading.Condition())


def submitted(tasks: LiveTasks, name: str, *, at_once: bool = True) -> tuple[Task, Future[Any]]:
    task = Task(name)
    if at_once:
        task.go_on.set()
    return task, tasks.submit(task)


def running(tasks: LiveTasks, name: str) -> tuple[Task, Future[Any], threading.Thread]:
    """A task that has begun and waits for its `go_on`."""
    task, answer = submitted(tasks, name, at_once=False)
    thread = threading.Thread(target=lambda: tasks.run(load))
    thread.start()
    assert task.begun.wait(30)
    return task, answer, thread


def end(task: Task, thread: threading.Thread) -> None:
    task.go_on.set()
    thread.join(30)


def test_a_task_is_answered_with_its_model_or_its_error(tasks: LiveTasks) -> None:
    assert not tasks.may_run()
    tasks.run(load)  # nothing to do
    _, answer = submitted(tasks, "first")
    assert tasks.may_run()
    tasks.run(load)
    assert answer.result(0) == "first by tiny" and not tasks.may_run()
    failing = tasks.submit(Task("second", "none"))
    tasks.run(load)
    with pytest.raises(BadRequest, match="no such checkpoint"):
        failing.result(0)


def test_of_tasks_that_wait_only_the_newest_is_computed(tasks: LiveTasks) -> None:
    first, old = submitted(tasks, "first")
    _, new = submitted(tasks, "second")
    tasks.run(load)
    assert new.result(0) == "second by tiny" and first.runs == 0 and not tasks.may_run()
    with pytest.raises(CancelledError):
        old.result(0)


def test_a_task_that_nobody_waits_for_is_left_out(tasks: LiveTasks) -> None:
    task, answer = submitted(tasks, "first")
    assert answer.cancel()
    tasks.run(load)
    assert task.runs == 0


def test_one_that_has_just_begun_is_finished_before_a_newer_one(tasks: LiveTasks) -> None:
    task, answer, thread = running(tasks, "first")
    _, newer = submitted(tasks, "second")
    end(task, thread)
    assert answer.result(0) == "first by tiny"  # something is shown while a slider moves
    tasks.run(load)
    assert newer.result(0) == "second by tiny"


def test_one_that_takes_long_is_interrupted_by_a_newer_one(tasks: LiveTasks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_tasks, "LEAST_SECONDS", 0.0)
    task, answer, thread = running(tasks, "first")
    _, newer = submitted(tasks, "second")
    end(task, thread)
    with pytest.raises(Interrupted):
        answer.result(0)
    tasks.run(load)
    assert newer.result(0) == "second by tiny"


def test_a_task_is_put_off_for_a_job_and_computed_afterwards(tasks: LiveTasks) -> None:
    task, answer, thread = running(tasks, "first")
    tasks.put_off()
    end(task, thread)
    assert not answer.done() and tasks.may_run()
    tasks.run(load)
    assert answer.result(0) == "first by tiny" and task.runs == 2


def test_one_that_was_put_off_can_be_replaced(tasks: LiveTasks) -> None:
    task, answer, thread = running(tasks, "first")
    tasks.put_off()
    end(task, thread)
    _, newer = submitted(tasks, "second")
    with pytest.raises(Interrupted, match="newer"):
        answer.result(0)
    assert tasks.may_run()
    tasks.run(load)
    assert newer.result(0) == "second by tiny"


def test_cancelled_tasks_end_at_their_next_check(tasks: LiveTasks) -> None:
    task, answer, thread = running(tasks, "first")
    _, waiting = submitted(tasks, "second")
    tasks.put_off()
    tasks.cancel()
    end(task, thread)
    with pytest.raises(Interrupted):
        answer.result(0)
    assert waiting.cancelled() and not tasks.may_run()


def test_nothing_is_computed_once_closed(tasks: LiveTasks) -> None:
    _, waiting = submitted(tasks, "first")
    tasks.close()
    assert waiting.cancelled() and submitted(tasks, "second")[1].cancelled() and not tasks.may_run()


def test_tasks_of_two_owners_do_not_replace_each_other(tasks: LiveTasks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_tasks, "LEAST_SECONDS", 0.0)
    task, first, thread = running(tasks, "first")
    others = []
    for name in ("old", "new"):
        other = Task(name)
        other.go_on.set()
        others.append(tasks.submit(other, "another page"))
    end(task, thread)
    assert first.result(0) == "first by tiny" and others[0].cancelled()
    tasks.cancel()  # only those of the first owner
    tasks.run(load)
    assert others[1].result(0) == "new by tiny" and not tasks.may_run()


def test_a_task_that_was_put_off_goes_before_those_of_others(tasks: LiveTasks) -> None:
    task, first, thread = running(tasks, "first")
    other = Task("other")
    other.go_on.set()
    second = tasks.submit(other, "another page")
    tasks.put_off()
    end(task, thread)
    assert tasks.may_run()
    tasks.run(load)
    assert first.result(0) == "first by tiny" and not second.done()
    tasks.close()
    assert second.cancelled()


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (MemoryError(), OutOfMemory, "There was not enough memory for these images. Close other programs"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), OutOfMemory, "choose a smaller model"),
        (RuntimeError("mat1 and mat2\nshapes"), DiffstudioError, "computed: RuntimeError: mat1 and mat2. Try again"),
        (ZeroDivisionError(), DiffstudioError, "computed: ZeroDivisionError. Try again"),
    ],
)
def test_other_errors_are_sentences(
    error: Exception, kind: type[DiffstudioError], sentence: str, tasks: LiveTasks
) -> None:
    task = Task("first", error=error)
    task.go_on.set()
    answer = tasks.submit(task)
    tasks.run(load)
    with pytest.raises(kind, match=sentence):
        answer.result(0)
    assert submitted(tasks, "second")[0].runs == 0 and tasks.may_run()

"""What is done with waiting jobs, while a worker takes them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from diffstudio.errors import StorageProblem
from diffstudio.studio.events import Cancelled, Event, Finished, Started
from diffstudio.studio.jobs.job_records import RestartPoint
from diffstudio.studio.jobs.queue import Queue
from diffstudio.studio.jobs.recording import Recording, Replay
from diffstudio.studio.jobs.waiting_jobs import WaitingJobs
from diffstudio.studio.requests import GenerateRequest
from tests.studio.a_studio import REQUEST, Gate, Studio

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def queue() -> Iterator[Queue]:
    queue = Queue(None)
    for prompt in ("one", "two", "three"):
        queue.submit(GenerateRequest(prompt))
    yield queue
    queue.close()


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def waiting(queue: Queue, events: list[Event]) -> WaitingJobs:
    return WaitingJobs(queue, threading.Condition(), events.append)


def prompts(queue: Queue) -> list[str]:
    return [queued.request.prompt for queued in queue.pending()]


def test_removed_and_cleared_jobs_are_cancelled_and_come_back(
    waiting: WaitingJobs, queue: Queue, events: list[Event]
) -> None:
    one, two, three = (queued.job for queued in queue.pending())
    removed = waiting.remove(two)
    assert removed is not None and events == [Cancelled(two)] and waiting.remove(two) is None
    cleared = waiting.clear()
    assert prompts(queue) == [] and events[1:] == [Cancelled(one), Cancelled(three)]
    waiting.restore(cleared)
    waiting.restore(removed)
    assert prompts(queue) == ["one", "two", "three"]


def test_a_restart_from_a_step_comes_back_as_one(waiting: WaitingJobs, queue: Queue) -> None:
    """Without its recorded steps it would make another image, when its prompt was changed in the middle."""
    first = queue.pending()[0].job
    replay = waiting.replays[first] = Replay(Recording(), 5)
    removed = waiting.remove(first)
    assert removed is not None and not waiting.replays
    waiting.restore(removed)
    assert waiting.replays == {first: replay}
    copy = waiting.duplicate(first)
    assert copy is not None and waiting.replays[copy] is replay
    assert waiting.duplicate(queue.pending()[-1].job) not in waiting.replays


@pytest.mark.parametrize(("values", "restarts"), [({"prompt": "other", "guidance": 2.0}, True), ({"seed": 9}, False)])
def test_an_edited_restart_uses_the_recorded_steps_where_they_fit(
    waiting: WaitingJobs, queue: Queue, values: dict[str, object], restarts: bool
) -> None:
    first = queue.pending()[0]
    waiting.replays[first.job] = Replay(Recording(), 5)
    request = waiting.begin_edit(first.job)
    assert request == first.request
    assert waiting.end_edit(replace(first.request, **values))  # type: ignore[arg-type]
    assert (first.job in waiting.replays) == restarts
    assert queue.pending()[0].request == replace(first.request, **values)  # type: ignore[arg-type]


def test_an_edit_that_is_cancelled_leaves_the_job_as_it_was(waiting: WaitingJobs, queue: Queue) -> None:
    before = queue.pending()
    assert waiting.begin_edit(before[1].job) is not None and queue.held_back == before[1].job
    assert waiting.end_edit(None) and queue.held_back is None
    assert queue.pending() == before


def test_a_job_that_does_not_wait_cannot_be_edited(waiting: WaitingJobs, queue: Queue) -> None:
    taken = queue.take()
    assert taken is not None and waiting.begin_edit(taken.job) is None and queue.held_back is None
    assert not waiting.end_edit(REQUEST), "nothing is edited"
    second = queue.pending()[0].job
    assert waiting.begin_edit(second) is not None
    waiting.remove(second)
    assert not waiting.end_edit(REQUEST) and prompts(queue) == ["three"]


# With a worker


def test_the_worker_passes_over_a_job_that_is_edited(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    running = studio.worker.submit(REQUEST)
    assert gate.waiting.wait(30)
    edited, other = studio.worker.submit(REQUEST), studio.worker.submit(replace(REQUEST, seed=8))
    assert studio.worker.waiting.begin_edit(edited) is not None
    gate.open()
    studio.ending(other)
    assert [queued.job for queued in studio.worker.pending()] == [edited]
    assert studio.worker.waiting.end_edit(replace(REQUEST, seed=8))
    assert isinstance(studio.ending(edited), Finished)
    assert [event.job for event in studio.events if isinstance(event, Started)] == [running, other, edited]
    assert np.array_equal(studio.pixels(edited)[0], studio.pixels(other)[0]), "it is made as it was edited"


def test_a_paused_queue_finishes_the_running_job_and_starts_no_other(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    running, second = studio.worker.submit(REQUEST), studio.worker.submit(REQUEST)
    assert gate.waiting.wait(30)
    studio.worker.waiting.set_queue_paused(True)
    gate.open()
    assert isinstance(studio.ending(running), Finished)
    third = studio.worker.submit(REQUEST)
    assert [queued.job for queued in studio.worker.pending()] == [second, third]
    assert studio.worker.waiting.is_queue_paused() and studio.worker.running() is None
    studio.worker.waiting.set_queue_paused(False)
    assert isinstance(studio.ending(third), Finished)


def test_restored_jobs_are_run(studio: Studio) -> None:
    studio.worker.waiting.set_queue_paused(True)
    job = studio.worker.submit(REQUEST)
    removed = studio.worker.waiting.clear()
    studio.worker.waiting.set_queue_paused(False)
    assert studio.worker.pending() == []
    studio.worker.waiting.restore(removed)
    studio.wait_for(lambda event: isinstance(event, Finished) and event.job == job)


def test_an_edit_that_cannot_be_written_goes_on(
    waiting: WaitingJobs, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = queue.pending()[0]
    replay = waiting.replays[first.job] = Replay(Recording(), 5)
    assert waiting.begin_edit(first.job) is not None
    with monkeypatch.context() as patch:
        patch.setattr(queue, "replace_request", fails)
        with pytest.raises(StorageProblem):
            waiting.end_edit(replace(first.request, seed=9))
    assert queue.held_back == first.job and waiting.replays == {first.job: replay}
    assert waiting.end_edit(replace(first.request, seed=9)) and queue.held_back is None and not waiting.replays


def test_jobs_that_cannot_be_brought_back_can_be_later(
    waiting: WaitingJobs, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = queue.pending()[0].job
    waiting.replays[first] = Replay(Recording(), 5)
    removed = waiting.clear()
    with monkeypatch.context() as patch:
        patch.setattr(queue, "restore", fails)
        with pytest.raises(StorageProblem):
            waiting.restore(removed)
    assert not waiting.replays
    waiting.restore(removed)
    assert prompts(queue) == ["one", "two", "three"] and list(waiting.replays) == [first]


def fails(*_: object) -> None:
    raise StorageProblem("The queue cannot be used", "the disk is full")


def test_a_removed_restart_whose_steps_are_stored_holds_no_recording(waiting: WaitingJobs, queue: Queue) -> None:
    point = RestartPoint(2, "0123456789abcdef" * 2)
    stored, newest = queue.submit(GenerateRequest("a"), point), queue.submit(GenerateRequest("b"), RestartPoint(2))
    waiting.replays |= {job: Replay(Recording(), 2) for job in (stored, newest)}
    removed = waiting.clear()
    assert list(removed.replays) == [newest] and not waiting.replays
    waiting.restore(removed)
    assert {queued.job: queued.restart for queued in queue.pending()[-2:]} == {stored: point, newest: RestartPoint(2)}


@pytest.mark.parametrize(("values", "restarts"), [({"prompt": "other"}, True), ({"seed": 9}, False)])
def test_an_edited_restart_is_one_after_the_program_ended_where_its_steps_fit(
    waiting: WaitingJobs, queue: Queue, values: dict[str, object], restarts: bool
) -> None:
    point = RestartPoint(2, "0123456789abcdef" * 2)
    job, request = queue.submit(GenerateRequest("a"), point), GenerateRequest("a")
    waiting.begin_edit(job)
    assert waiting.end_edit(replace(request, **values))  # type: ignore[arg-type]
    assert queue.pending()[-1].restart == (point if restarts else None)

"""The worker: what it says about jobs, how fast it obeys, and that nothing a job does ends it."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffstudio import paths
from diffstudio.errors import (
    BadRequest,
    CheckpointDamaged,
    CheckpointMissing,
    CheckpointProblem,
    DiffstudioError,
    OutOfMemory,
    StorageProblem,
)
from diffstudio.models.lease import Lease
from diffstudio.models.library import Library
from diffstudio.studio.events import (
    ENDINGS,
    Cancelled,
    Event,
    Failed,
    Finished,
    ImageSaved,
    Loading,
    Paused,
    Resumed,
    Started,
    Stepped,
)
from diffstudio.studio.gallery import Gallery
from diffstudio.studio.queue import Queue
from diffstudio.studio.requests import GenerateRequest
from diffstudio.studio.settings import Settings
from diffstudio.studio.worker import Worker
from tests.models.tiny import write_tiny_checkpoint

REQUEST = GenerateRequest(prompt="red apple", checkpoint="tiny", steps=4)


class Studio:
    """A worker with all that it needs, whose events can be waited for."""

    def __init__(self, **settings: Any) -> None:
        self.events: list[Event] = []
        self._heard = threading.Condition()
        self.gallery = Gallery(paths.images(), paths.data() / "gallery.sqlite")
        self.lease = Lease()
        self.worker = Worker(Queue(paths.data() / "queue.sqlite"), Library(), self.gallery, Settings(**settings), self.hear,
                             lease=self.lease)

    def hear(self, event: Event) -> None:
        with self._heard:
            self.events.append(event)
            self._heard.notify_all()

    def wait_for(self, is_it: Callable[[Event], bool], seconds: float = 30.0) -> Event:
        def found() -> Event | None:
            return next((event for event in self.events if is_it(event)), None)

        with self._heard:
            assert self._heard.wait_for(lambda: found() is not None, seconds), self.events
            event = found()
        assert event is not None
        return event

    def ending(self, job: int) -> Event:
        return self.wait_for(lambda event: isinstance(event, ENDINGS) and event.job == job)

    def of(self, job: int) -> list[Event]:
        return [event for event in self.events if event.job == job]

    def kinds(self, job: int) -> list[str]:
        return [type(event).__name__ for event in self.of(job)]

    def done(self, request: GenerateRequest) -> int:
        job = self.worker.submit(request)
        ending = self.ending(job)
        assert isinstance(ending, Finished), ending
        return job

    def pixels(self, job: int) -> list[np.ndarray]:
        return [np.array(Image.open(event.path)) for event in self.of(job) if isinstance(event, ImageSaved)]

    def close(self) -> None:
        self.worker.close()
        self.gallery.close()


@pytest.fixture
def tiny() -> Path:
    return write_tiny_checkpoint(paths.checkpoints() / "tiny.safetensors")


@pytest.fixture
def opened(tiny: Path) -> Iterator[Callable[[], Studio]]:
    """Opens studios, one after the other, and closes them whatever happens."""
    studios: list[Studio] = []

    def open_one() -> Studio:
        studios.append(Studio())
        return studios[-1]

    yield open_one
    for studio in studios:
        studio.close()


@pytest.fixture
def studio(opened: Callable[[], Studio]) -> Studio:
    studio = opened()
    studio.worker.start()
    return studio


class Gate:
    """Holds up the network before its calls, one by one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, open_for: int = 0) -> None:
        from diffstudio.models.families.pixel import PixelModel

        self.calls = 0
        self.waiting = threading.Event()
        self._open = threading.Semaphore(open_for)
        real = PixelModel._call

        def call(model: PixelModel, *arguments: Any) -> Any:
            self.calls += 1
            if not self._open.acquire(blocking=False):
                self.waiting.set()
                assert self._open.acquire(timeout=30)
            return real(model, *arguments)

        monkeypatch.setattr(PixelModel, "_call", call)

    def let(self, calls: int) -> None:
        self.waiting.clear()
        self._open.release(calls)

    def open(self) -> None:
        self.let(100_000)


# What is said

def test_a_job_from_request_to_picture(studio: Studio) -> None:
    job = studio.done(dataclasses.replace(REQUEST, count=2))
    kinds = [kind for kind in studio.kinds(job) if kind != "Loading"]
    assert kinds == ["Started"] + ["Stepped"] * 4 + ["ImageSaved"] * 2 + ["Finished"]
    loading = [event for event in studio.of(job) if isinstance(event, Loading)]
    assert loading[-1].fraction == 1.0 and studio.kinds(job)[1] == "Loading"
    assert studio.gallery.count() == 2 and studio.worker.pending() == [] and studio.worker.running() is None
    assert [len(images) for images in studio.worker.filmstrip(job)] == [2] * 4


def test_the_model_is_kept_and_another_takes_its_place(studio: Studio, tiny: Path) -> None:
    studio.done(REQUEST)
    assert "Loading" not in studio.kinds(second := studio.done(REQUEST))
    first_model = studio.worker._model
    write_tiny_checkpoint(paths.checkpoints() / "other.safetensors", seed=1)
    assert "Loading" in studio.kinds(other := studio.done(dataclasses.replace(REQUEST, checkpoint="other")))
    assert studio.worker._model is not first_model
    assert not np.array_equal(studio.pixels(second)[0], studio.pixels(other)[0])
    assert "Loading" in studio.kinds(studio.done(REQUEST))
    write_tiny_checkpoint(tiny, seed=2)  # trained on: the same name, another file
    os.utime(tiny, (1, 1))
    assert not np.array_equal(studio.pixels(studio.done(REQUEST))[0], studio.pixels(second)[0])


def test_previews_are_made_only_if_settings_say_so(studio: Studio) -> None:
    with_previews = studio.done(REQUEST)
    studio.worker.settings = Settings(previews=False)
    without = studio.done(REQUEST)
    assert all(event.previews for event in studio.of(with_previews) if isinstance(event, Stepped))
    assert not any(event.previews for event in studio.of(without) if isinstance(event, Stepped))
    assert studio.worker.filmstrip(without) == []
    assert np.array_equal(studio.pixels(with_previews)[0], studio.pixels(without)[0])


def test_filmstrips_are_of_the_last_job(studio: Studio) -> None:
    first, last = studio.done(REQUEST), studio.done(REQUEST)
    assert studio.worker.filmstrip(first) == [] and len(studio.worker.filmstrip(last)) == 4
    assert studio.worker.filmstrip(99) == []


# Stop, pause, order

def test_stop_is_heard_after_one_call(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, open_for=3)
    job = studio.worker.submit(dataclasses.replace(REQUEST, steps=100))
    assert gate.waiting.wait(30)
    studio.worker.stop(job)
    assert gate.calls == 4  # this one is in flight
    gate.open()
    assert isinstance(studio.ending(job), Cancelled)
    assert gate.calls == 4 and studio.gallery.count() == 0 and studio.worker.pending() == []
    assert studio.lease.holder() is None


def test_pause_and_resume(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = studio.done(REQUEST)
    gate = Gate(monkeypatch, open_for=2)
    job = studio.worker.submit(REQUEST)
    assert gate.waiting.wait(30)
    studio.worker.pause(job)
    gate.open()
    studio.wait_for(lambda event: isinstance(event, Paused) and event.job == job)
    assert gate.calls == 3
    with Lease().held("training meanwhile", lambda: False):
        studio.worker.resume(job)
        waiting = studio.wait_for(lambda event: isinstance(event, Loading) and event.job == job)
        assert isinstance(waiting, Loading) and waiting.what == "Waiting for training to step aside"
    assert isinstance(studio.ending(job), Finished)
    assert [kind for kind in studio.kinds(job) if kind in ("Paused", "Resumed")] == ["Paused", "Resumed"]
    assert np.array_equal(studio.pixels(whole)[0], studio.pixels(job)[0])


def test_stop_while_paused(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    job = studio.worker.submit(REQUEST)
    assert gate.waiting.wait(30)
    studio.worker.pause(job)
    gate.open()
    studio.wait_for(lambda event: isinstance(event, Paused))
    studio.worker.stop(job)
    assert isinstance(studio.ending(job), Cancelled) and gate.calls == 1
    assert not any(isinstance(event, Resumed) for event in studio.events)
    studio.done(REQUEST)


def test_stop_while_loading(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffstudio.models import loading

    begun, go_on = threading.Event(), threading.Event()
    real = loading._sha256

    def slow(*arguments: Any) -> str:
        begun.set()
        assert go_on.wait(30)
        return real(*arguments)

    monkeypatch.setattr(loading, "_sha256", slow)
    job = studio.worker.submit(REQUEST)
    assert begun.wait(30)
    studio.worker.stop(job)
    go_on.set()
    assert isinstance(studio.ending(job), Cancelled)
    assert studio.kinds(job)[0] == "Started" and "Stepped" not in studio.kinds(job)
    studio.done(REQUEST)


def test_what_waits_can_be_cancelled_and_reordered(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    running = studio.worker.submit(REQUEST)
    assert gate.waiting.wait(30)
    one, two, three, four = (studio.worker.submit(REQUEST) for _ in range(4))
    assert [queued.job for queued in studio.worker.pending()] == [one, two, three, four] and studio.worker.running() == running
    assert studio.worker.cancel_pending(two) and not studio.worker.cancel_pending(running)
    studio.worker.stop(three)
    assert studio.kinds(two) == studio.kinds(three) == ["Cancelled"]
    studio.worker.reorder([four])
    gate.open()
    studio.ending(one)
    assert [event.job for event in studio.events if isinstance(event, Started)] == [running, four, one]


def test_each_job_has_exactly_one_ending_and_it_is_last(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [studio.worker.submit(dataclasses.replace(REQUEST, checkpoint=name)) for name in ("tiny", "missing", "tiny", "tiny")]
    for job in jobs:
        studio.worker.stop(jobs[2])
        studio.ending(job)
    for job in jobs:
        assert [isinstance(event, ENDINGS) for event in studio.of(job)].count(True) == 1
        assert isinstance(studio.of(job)[-1], ENDINGS)


# The lease

def test_pictures_wait_for_training_to_step_aside(studio: Studio) -> None:
    run = Lease()
    with run.held("training"):
        job = studio.worker.submit(REQUEST)
        studio.wait_for(lambda event: isinstance(event, Loading) and event.what.startswith("Waiting for training"))
        assert "Stepped" not in studio.kinds(job) and run.wanted_by_other()
        assert run.yield_if_wanted()
        assert isinstance(studio.ending(job), Finished)
        assert run.holder() == "training"


def test_stop_while_waiting_for_training(studio: Studio) -> None:
    with Lease().held("training"):
        job = studio.worker.submit(REQUEST)
        studio.wait_for(lambda event: isinstance(event, Loading) and event.what.startswith("Waiting for training"))
        studio.worker.stop(job)
        assert isinstance(studio.ending(job), Cancelled)


# What goes wrong

def failure(studio: Studio, request: GenerateRequest) -> DiffstudioError:
    ending = studio.ending(studio.worker.submit(request))
    assert isinstance(ending, Failed), ending
    sentence = str(ending.error)
    assert sentence.endswith(".") and "Traceback" not in sentence
    return ending.error


def test_every_failure_is_a_sentence_and_the_worker_lives_on(studio: Studio, tmp_path: Path) -> None:
    write_tiny_checkpoint(paths.checkpoints() / "wild.safetensors", spoil=True)
    (paths.checkpoints() / "damaged.safetensors").write_bytes((paths.checkpoints() / "wild.safetensors").read_bytes()[:-9])
    changed = dataclasses.replace
    assert isinstance(failure(studio, changed(REQUEST, checkpoint="missing")), CheckpointMissing)
    assert isinstance(failure(studio, changed(REQUEST, checkpoint="damaged")), CheckpointDamaged)
    assert isinstance(failure(studio, changed(REQUEST, checkpoint="wild")), CheckpointProblem)
    assert isinstance(failure(studio, changed(REQUEST, width=20)), BadRequest)
    assert isinstance(failure(studio, changed(REQUEST, spacing="align_your_steps")), BadRequest)
    assert isinstance(failure(studio, changed(REQUEST, init=tmp_path / "missing.png")), DiffstudioError)
    studio.worker.settings = Settings(device="cuda:77")
    assert "Choose `auto` or `cpu`" in str(failure(studio, REQUEST))
    studio.worker.settings = Settings()
    assert studio.gallery.count() == 0 and studio.lease.holder() is None
    studio.done(REQUEST)


def test_errors_nobody_foresaw_and_a_full_disk(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    def add(error: Exception) -> Callable[..., Any]:
        def adds(*_: Any, **__: Any) -> Any:
            raise error

        return adds

    for error, kind in ((ZeroDivisionError("of what"), DiffstudioError), (MemoryError(), OutOfMemory),
                        (StorageProblem("The picture could not be saved", "the disk is full"), StorageProblem)):
        with monkeypatch.context() as patch:
            patch.setattr(studio.gallery, "add", add(error))
            assert type(failure(studio, REQUEST)) is kind
    studio.done(REQUEST)


def test_a_job_that_killed_the_program_again_and_again_is_not_begun_once_more(opened: Callable[[], Studio]) -> None:
    jobs = Queue(paths.data() / "queue.sqlite")
    jobs.submit(REQUEST)
    jobs.close()
    for _ in range(3):
        jobs = Queue(paths.data() / "queue.sqlite")
        assert jobs.take() is not None
        jobs.close()
    studio = opened()
    studio.worker.start()
    ending = studio.ending(1)
    assert isinstance(ending, Failed) and "ended 3 times" in str(ending.error)
    studio.done(REQUEST)


# Restarting from a step

def test_restart_from_a_step(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    job = studio.done(dataclasses.replace(REQUEST, sampler="dpmpp_2m_sde", steps=6))
    gate = Gate(monkeypatch, open_for=100)
    again = studio.worker.restart(job, 5)
    assert isinstance(studio.ending(again), Finished)
    assert gate.calls == 2 and np.array_equal(studio.pixels(job)[0], studio.pixels(again)[0])
    changed = studio.worker.restart(again, 5, dataclasses.replace(REQUEST, sampler="dpmpp_2m_sde", steps=6, prompt="rocket"))
    assert isinstance(studio.ending(changed), Finished)
    films = studio.worker.filmstrip(changed)
    assert len(films) == 6 and not np.array_equal(studio.pixels(changed)[0], studio.pixels(job)[0])


def test_what_cannot_be_restarted_is_explained(studio: Studio) -> None:
    first, last = studio.done(REQUEST), studio.done(REQUEST)
    for job, step, request, why in (
            (first, 2, None, "only the newest job"), (last, 0, None, "go from 1 to 4"), (last, 5, None, "go from 1 to 4"),
            (last, 2, dataclasses.replace(REQUEST, steps=5), "only the prompts")):
        with pytest.raises(BadRequest, match=why):
            studio.worker.restart(job, step, request)


# Beginning and end

def test_closing_in_the_middle_keeps_the_job_and_the_next_start_goes_on_with_it(
        opened: Callable[[], Studio], monkeypatch: pytest.MonkeyPatch) -> None:
    from diffstudio.models import memory

    monkeypatch.setattr(memory, "images_at_once", lambda *_: 1)
    request = dataclasses.replace(REQUEST, count=3, sampler="euler")
    studio = opened()
    studio.worker.start()
    with monkeypatch.context() as patch:
        gate = Gate(patch, open_for=6)  # one image and a half
        job = studio.worker.submit(request)
        assert gate.waiting.wait(30)
        threading.Timer(0.05, gate.open).start()
        studio.close()
        assert gate.calls == 7
    assert studio.kinds(job)[-1] == "Cancelled" and studio.kinds(job).count("ImageSaved") == 1
    studio = opened()
    studio.worker.start()
    assert isinstance(studio.ending(job), Finished)
    assert [event.index for event in studio.of(job) if isinstance(event, ImageSaved)] == [1, 2]
    assert studio.gallery.count() == 3
    studio.close()


def test_closing_while_paused_waiting_or_idle(opened: Callable[[], Studio], monkeypatch: pytest.MonkeyPatch) -> None:
    studio = opened()
    studio.close()  # never started
    studio = opened()
    studio.worker.start()
    studio.close()  # idle
    studio = opened()
    studio.worker.start()
    with monkeypatch.context() as patch:
        gate = Gate(patch)
        job = studio.worker.submit(REQUEST)
        assert gate.waiting.wait(30)
        studio.worker.pause(job)
        gate.open()
        studio.wait_for(lambda event: isinstance(event, Paused))
        studio.close()
    studio = opened()
    with Lease().held("training"):
        studio.worker.start()
        studio.wait_for(lambda event: isinstance(event, Loading) and event.what.startswith("Waiting for training"))
        began = time.monotonic()
        studio.close()
        assert time.monotonic() - began < 2
    assert studio.kinds(job)[-1] == "Cancelled"


def test_warming_up_has_the_checkpoint_ready(studio: Studio) -> None:
    studio.worker.warm_up("tiny")
    deadline = time.monotonic() + 30
    while studio.worker._model is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "Loading" not in studio.kinds(studio.done(REQUEST))
    studio.worker.warm_up("missing")  # nobody waits for it, nobody is told
    studio.done(REQUEST)
    assert not any(isinstance(event, Failed) for event in studio.events)


def test_torch_comes_with_the_first_work_and_not_before() -> None:
    code = """
import sys, time
from pathlib import Path
from diffstudio.models.library import Library
from diffstudio.studio.queue import Queue
from diffstudio.studio.settings import Settings
from diffstudio.studio.worker import Worker
worker = Worker(Queue(None), Library(), None, Settings(), print)
worker.start()
time.sleep(0.2)
assert "torch" not in sys.modules
worker.warm_up()
deadline = time.monotonic() + 60
while "diffstudio.studio.generate" not in sys.modules and time.monotonic() < deadline:
    time.sleep(0.05)
worker.close()
assert "torch" in sys.modules and "PySide6" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_events_travel_between_processes(studio: Studio) -> None:
    import pickle

    job = studio.done(REQUEST)
    failure(studio, dataclasses.replace(REQUEST, checkpoint="missing"))
    for event in studio.events:
        back = pickle.loads(pickle.dumps(event))
        assert type(back) is type(event) and back.job == event.job
        if isinstance(event, Failed):
            assert str(back.error) == str(event.error)
    assert studio.of(job)


def test_no_step_is_left_out(studio: Studio) -> None:
    job = studio.done(dataclasses.replace(REQUEST, steps=30))
    assert [event.index for event in studio.of(job) if isinstance(event, Stepped)] == list(range(1, 31))

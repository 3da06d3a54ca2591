"""The worker when things go wrong, and when it begins and ends: nothing a job does ends it, and it ends when it is
told.
"""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
from diffstudio.models.memory.lease import Lease
from diffstudio.studio.events import Failed, Finished, ImageSaved, Loading, Paused, Stepped
from diffstudio.studio.jobs.queue import Queue
from diffstudio.studio.requests import GenerateRequest
from diffstudio.studio.settings import Settings
from tests.models.tiny import write_tiny_checkpoint
from tests.studio.a_studio import REQUEST, Gate, Studio

# What goes wrong


def failure(studio: Studio, request: GenerateRequest) -> DiffstudioError:
    ending = studio.ending(studio.worker.submit(request))
    assert isinstance(ending, Failed), ending
    sentence = str(ending.error)
    assert sentence.endswith(".") and "Traceback" not in sentence
    return ending.error


def test_every_failure_is_a_sentence_and_the_worker_lives_on(studio: Studio, tmp_path: Path) -> None:
    write_tiny_checkpoint(paths.checkpoints() / "wild.safetensors", spoil=True)
    (paths.checkpoints() / "damaged.safetensors").write_bytes(
        (paths.checkpoints() / "wild.safetensors").read_bytes()[:-9]
    )
    changed = dataclasses.replace
    assert isinstance(failure(studio, changed(REQUEST, checkpoint="missing")), CheckpointMissing)
    assert isinstance(failure(studio, changed(REQUEST, checkpoint="damaged")), CheckpointDamaged)
    assert isinstance(failure(studio, changed(REQUEST, checkpoint="wild")), CheckpointProblem)
    assert isinstance(failure(studio, changed(REQUEST, width=20)), BadRequest)
    assert isinstance(failure(studio, changed(REQUEST, spacing="align_your_steps")), BadRequest)
    assert isinstance(failure(studio, changed(REQUEST, init=tmp_path / "missing.png")), DiffstudioError)
    studio.worker.settings = Settings(device="cuda:77")
    assert "Choose one of auto, cpu" in str(failure(studio, REQUEST))
    studio.worker.settings = Settings()
    assert studio.gallery.count() == 0 and studio.lease.holder() is None
    studio.done(REQUEST)


def test_errors_nobody_foresaw_and_a_full_disk(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    def add(error: Exception) -> Callable[..., Any]:
        def adds(*_: Any, **__: Any) -> Any:
            raise error

        return adds

    for error, kind in (
        (ZeroDivisionError("of what"), DiffstudioError),
        (MemoryError(), OutOfMemory),
        (StorageProblem("The picture could not be saved", "the disk is full"), StorageProblem),
    ):
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
    assert isinstance(ending, Failed) and "was killed 3 times" in str(ending.error)
    studio.done(REQUEST)


# Beginning and end


def test_closing_in_the_middle_keeps_the_job_and_the_next_start_goes_on_with_it(
    opened: Callable[[], Studio], monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffstudio.models.memory import limits

    monkeypatch.setattr(limits, "images_at_once", lambda *_: 1)
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
        studio.wait_for(lambda event: isinstance(event, Paused))  # as it was before
        studio.worker.resume(job)
        studio.wait_for(lambda event: isinstance(event, Loading) and event.what.startswith("Waiting for training"))
        began = time.monotonic()
        studio.close()
        assert time.monotonic() - began < 2
    assert studio.kinds(job)[-1] == "Cancelled"


def test_warming_up_has_the_checkpoint_ready(studio: Studio) -> None:
    studio.worker.warm_up("tiny")
    deadline = time.monotonic() + 30
    while studio.worker._loader.cache.newest is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "Loading" not in studio.kinds(studio.done(REQUEST))
    studio.worker.warm_up("missing")  # nobody waits for it, nobody is told
    studio.done(REQUEST)
    assert not any(isinstance(event, Failed) for event in studio.events)


def test_torch_comes_with_the_first_work_and_not_before() -> None:
    code = """
import sys, time
from pathlib import Path
from diffstudio.models.library.library import Library
from diffstudio.studio.jobs.queue import Queue
from diffstudio.studio.settings import Settings
from diffstudio.studio.worker import Worker
worker = Worker(Queue(None), Library(), None, Settings(), print)
worker.start()
time.sleep(0.2)
assert "torch" not in sys.modules
worker.warm_up()
deadline = time.monotonic() + 60
while "diffstudio.studio.generation.generate" not in sys.modules and time.monotonic() < deadline:
    time.sleep(0.05)
worker.close()
assert "torch" in sys.modules and "PySide6" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_events_travel_between_processes(studio: Studio) -> None:
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

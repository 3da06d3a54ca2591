"""The worker: what it says about jobs, and how fast it obeys."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from diffstudio import paths
from diffstudio.errors import BadRequest, CheckpointMissing, Interrupted, StorageProblem
from diffstudio.models.memory.lease import Lease
from diffstudio.studio import worker
from diffstudio.studio.evaluations.latents.tasks import InterpolateSeeds
from diffstudio.studio.events import ENDINGS, Cancelled, Finished, Loading, Paused, Resumed, Started, Stepped
from diffstudio.studio.jobs.job_records import QueuedJob
from diffstudio.studio.jobs.queue import Queue
from diffstudio.studio.settings import Settings
from tests.models.tiny import write_tiny_checkpoint
from tests.studio.a_studio import REQUEST, Gate, Studio

# What is said


def test_a_job_from_request_to_picture(studio: Studio) -> None:
    job = studio.done(dataclasses.replace(REQUEST, count=2))
    kinds = [kind for kind in studio.kinds(job) if kind != "Loading"]
    assert kinds == ["Started"] + ["Stepped"] * 4 + ["ImageSaved"] * 2 + ["Finished"]
    loading = [event for event in studio.of(job) if isinstance(event, Loading)]
    assert loading[-1].fraction == 1.0 and studio.kinds(job)[1] == "Loading"
    assert studio.gallery.count() == 2 and studio.worker.pending() == [] and studio.worker.running() is None
    assert [len(images) for images in studio.worker.filmstrip(job)] == [2] * 4


def test_models_are_kept_within_the_budget(studio: Studio, tiny: Path) -> None:
    studio.done(REQUEST)
    assert "Loading" not in studio.kinds(second := studio.done(REQUEST))
    first_model = studio.worker._loader.cache.newest
    write_tiny_checkpoint(paths.checkpoints() / "other.safetensors", seed=1)
    assert "Loading" in studio.kinds(other := studio.done(dataclasses.replace(REQUEST, checkpoint="other")))
    assert studio.worker._loader.cache.newest is not first_model
    assert not np.array_equal(studio.pixels(second)[0], studio.pixels(other)[0])
    assert "Loading" not in studio.kinds(studio.done(REQUEST))  # both fit
    assert studio.worker._loader.cache.newest is first_model
    studio.worker.settings = Settings(kept_gib=0)  # only the one in use
    for name in ("other", "tiny", "other"):
        job = studio.done(dataclasses.replace(REQUEST, checkpoint=name))
    assert "Loading" in studio.kinds(job) and len(studio.worker._loader.cache) == 1
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
        assert isinstance(waiting, Loading) and waiting.what == "Waiting for training to release the accelerator"
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
    real = loading.sha256_of

    def slow(*arguments: Any) -> str:
        begun.set()
        assert go_on.wait(30)
        return real(*arguments)

    monkeypatch.setattr(loading, "sha256_of", slow)
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
    assert [queued.job for queued in studio.worker.pending()] == [
        one,
        two,
        three,
        four,
    ] and studio.worker.running() == running
    assert studio.worker.cancel_pending(two) and not studio.worker.cancel_pending(running)
    studio.worker.stop(three)
    assert studio.kinds(two) == studio.kinds(three) == ["Cancelled"]
    studio.worker.reorder([four])
    gate.open()
    studio.ending(one)
    assert [event.job for event in studio.events if isinstance(event, Started)] == [running, four, one]


def test_each_job_has_exactly_one_ending_and_it_is_last(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [
        studio.worker.submit(dataclasses.replace(REQUEST, checkpoint=name))
        for name in ("tiny", "missing", "tiny", "tiny")
    ]
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


# Restarting from a step


def test_restart_from_a_step(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    job = studio.done(dataclasses.replace(REQUEST, sampler="dpmpp_2m_sde", steps=6))
    gate = Gate(monkeypatch, open_for=100)
    again = studio.worker.restart(job, 5)
    assert isinstance(studio.ending(again), Finished)
    assert gate.calls == 2 and np.array_equal(studio.pixels(job)[0], studio.pixels(again)[0])
    changed = studio.worker.restart(
        again, 5, dataclasses.replace(REQUEST, sampler="dpmpp_2m_sde", steps=6, prompt="rocket")
    )
    assert isinstance(studio.ending(changed), Finished)
    films = studio.worker.filmstrip(changed)
    assert len(films) == 6 and not np.array_equal(studio.pixels(changed)[0], studio.pixels(job)[0])


def test_what_cannot_be_restarted_is_explained(studio: Studio) -> None:
    first, last = studio.done(REQUEST), studio.done(REQUEST)
    for job, step, request, why in (
        (first, 2, None, "only the steps of the newest job"),
        (last, 0, None, "its steps are 1 to 4"),
        (last, 5, None, "its steps are 1 to 4"),
        (last, 2, dataclasses.replace(REQUEST, steps=5), "only the prompts"),
    ):
        with pytest.raises(BadRequest, match=why):
            studio.worker.restart(job, step, request)


# After a crash


@pytest.mark.parametrize("uncounted", [1, 3])
def test_images_saved_before_a_kill_are_not_made_again(
    opened: Callable[[], Studio], monkeypatch: pytest.MonkeyPatch, uncounted: int
) -> None:
    """Killed after the image was saved and before the queue counted it: of three, or of one."""
    queue = Queue(paths.data() / "queue.sqlite")
    request = dataclasses.replace(REQUEST, count=uncounted if uncounted == 1 else 3)
    queue.submit(request)
    taken = queue.take()
    assert taken is not None
    queue.put_back(taken.job)
    queue.close()
    before = opened()
    image = Image.new("RGB", (16, 16))
    before.gallery.add(image, request, extra={"index": 0, "job": taken.token})
    with contextlib.closing(sqlite3.connect(paths.data() / "queue.sqlite")) as database, database:
        database.execute("UPDATE jobs SET attempts = 1")  # as a kill leaves it
    before.worker.start()
    assert isinstance(before.ending(taken.job), Finished)
    assert before.gallery.count() == request.count
    seeds = sorted(image.request.seed for image in before.gallery.images() if image.request is not None)
    assert seeds == [request.seed + index for index in range(request.count)]


def test_a_paused_job_is_paused_after_a_restart(opened: Callable[[], Studio], monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened()
    first.worker.start()
    gate = Gate(monkeypatch, open_for=1)
    job = first.worker.submit(REQUEST)
    assert gate.waiting.wait(30)
    first.worker.pause(job)
    gate.open()
    first.wait_for(lambda event: isinstance(event, Paused))
    first.close()
    again = opened()
    again.worker.start()
    again.wait_for(lambda event: isinstance(event, Paused))
    assert again.kinds(job) == ["Started", "Paused"] and again.lease.holder() is None
    again.worker.resume(job)
    assert isinstance(again.ending(job), Finished) and "Resumed" in again.kinds(job)
    assert again.worker.pending() == []


# Failures of the thread itself


def test_a_failed_warm_up_does_not_end_the_worker(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studio.worker._library, "find", Mock(side_effect=ValueError("a bug")))
    studio.worker.warm_up("tiny")
    wait_until(lambda: studio.worker._warm_up_at is None)
    monkeypatch.undo()
    assert "Finished" in studio.kinds(studio.done(REQUEST))


def test_a_queue_that_could_not_be_read_is_read_again(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_QUEUE_RETRY_SECONDS", 0.05)
    take, failures = studio.worker._queue.take, [StorageProblem("The queue is locked")] * 2

    def fails_twice() -> QueuedJob | None:
        if failures:
            raise failures.pop()
        return take()

    monkeypatch.setattr(studio.worker._queue, "take", fails_twice)
    assert "Finished" in studio.kinds(studio.done(REQUEST))


def test_models_that_were_dropped_no_longer_count_as_cached(studio: Studio) -> None:
    studio.worker.settings = Settings(device="cpu")
    studio.done(REQUEST)
    loader = studio.worker._loader
    assert loader._cached_bytes > 0
    write_tiny_checkpoint(paths.checkpoints() / "other.safetensors", seed=1)
    studio.done(dataclasses.replace(REQUEST, checkpoint="other"))
    both = loader._cached_bytes
    assert loader.drop_others() == 1 and loader._cached_bytes == loader.cache.weights_bytes() < both
    loader.clear()
    assert loader._cached_bytes == 0


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


# Live tasks


def test_a_live_task_is_computed_with_the_model_in_memory_after_the_jobs(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = studio.done(REQUEST)
    model = studio.worker._loader.cache.newest
    gate = Gate(monkeypatch)
    answer = studio.worker.live.submit(
        InterpolateSeeds("tiny", (REQUEST.seed, REQUEST.seed + 1), ("red apple",) * 2, 2)
    )
    assert gate.waiting.wait(30) and studio.lease.holder() == "computing what the Lab shows"
    other = studio.worker.submit(REQUEST)  # goes first: the task is put off at its next call
    gate.open()
    assert isinstance(studio.ending(other), Finished) and not answer.done()
    first, last = answer.result(30)
    assert first.shape == last.shape == studio.pixels(job)[0].shape and not np.array_equal(first, last)
    assert studio.worker._loader.cache.newest is model
    while studio.lease.holder() is not None:
        time.sleep(0.01)


def test_a_live_task_says_what_it_lacks_and_ends_with_the_worker(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CheckpointMissing):
        studio.worker.live.submit(InterpolateSeeds("none such", (1, 2))).result(30)
    gate = Gate(monkeypatch)
    answer = studio.worker.live.submit(InterpolateSeeds("tiny", (1, 2), ("red apple",) * 2, 2))
    assert gate.waiting.wait(30)
    threading.Timer(0.1, gate.open).start()
    studio.worker.close()
    with pytest.raises(Interrupted):
        answer.result(0)

"""An evaluation ends and pauses on request, and image jobs go first."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from diffstudio.errors import Interrupted
from diffstudio.models.memory.lease import Lease
from diffstudio.studio.evaluations.job_control import EvaluationJobControl
from diffstudio.studio.evaluations.job_folder import JobFolder, JobPaused, JobResumed, JobWaiting
from diffstudio.training.run.command_listener import training_turn
from diffstudio.training.run.run_folder import Command, RunFolder


def test_the_control_file_and_the_caller_end_it(tmp_path: Path) -> None:
    asked: list[bool] = []
    job_control = EvaluationJobControl(Lease(), lambda: bool(asked))
    job_control.check()
    asked.append(True)
    with pytest.raises(Interrupted, match="The evaluation was stopped"):
        job_control.check()
    controlled = EvaluationJobControl(Lease(), control=tmp_path)
    controlled.check()
    RunFolder(tmp_path).send(Command.STOP)
    with pytest.raises(Interrupted):
        EvaluationJobControl(Lease(), control=tmp_path).check()


def test_it_waits_while_it_is_paused(tmp_path: Path) -> None:
    RunFolder(tmp_path).send(Command.PAUSE)
    job_control, done = EvaluationJobControl(Lease(), control=tmp_path), threading.Event()

    def work() -> None:
        job_control.check()
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert not done.wait(0.3)
    RunFolder(tmp_path).send(Command.RUN)
    assert done.wait(10)
    thread.join()


def test_image_jobs_use_the_accelerator_while_it_is_paused(tmp_path: Path) -> None:
    RunFolder(tmp_path).send(Command.PAUSE)
    job_control, generated = EvaluationJobControl(Lease(), control=tmp_path), threading.Event()

    def generate() -> None:
        with Lease().held("images", priority=True):
            generated.set()
        RunFolder(tmp_path).send(Command.RUN)

    with job_control.taken("evaluating"):
        thread = threading.Thread(target=generate)
        thread.start()
        job_control.check()
    assert generated.is_set()
    thread.join()


def test_image_jobs_go_first() -> None:
    waits: list[str] = []
    job_control, images = EvaluationJobControl(Lease(), on_wait=lambda: waits.append("once")), Lease()
    held, released = threading.Event(), threading.Event()

    def generate() -> None:
        with images.held("images", priority=True):
            held.set()
            assert Lease().holder() == "images"
        released.set()

    with job_control.taken("evaluating"):
        job_control.check()
        thread = threading.Thread(target=generate)
        thread.start()
        while not released.is_set():
            job_control.check()
        job_control.check()
        assert Lease().holder() == "evaluating"
    thread.join()
    assert held.is_set() and waits == ["once"]


def test_it_can_be_stopped_while_it_waits_for_the_accelerator() -> None:
    with (
        Lease().held("images", priority=True),
        pytest.raises(Interrupted),
        EvaluationJobControl(Lease(), lambda: True).taken("evaluating"),
    ):
        pytest.fail("two hold it")


def test_its_folder_says_why_it_does_not_go_on(tmp_path: Path) -> None:
    job = JobFolder(tmp_path)
    job_control = EvaluationJobControl(Lease(), control=tmp_path)
    taken = job_control.taken("evaluating")
    with Lease().held("generating images", priority=True):
        thread = threading.Thread(target=taken.__enter__)
        thread.start()
        while not job.events()[0]:
            thread.join(0.01)
        assert job.events()[0] == [JobWaiting("generating images")]
    thread.join()
    assert job.events()[0][-1] == JobResumed() and Lease().holder() == "evaluating"
    images, wanted = Lease(), threading.Event()

    def generate() -> None:
        with images.held("generating images", priority=True, on_wait=wanted.set):
            pass

    thread = threading.Thread(target=generate)
    thread.start()
    assert wanted.wait(10)
    job_control.check()
    thread.join()
    assert job.events()[0][-2:] == [JobWaiting("generating images"), JobResumed()]  # not for itself
    job.send(Command.PAUSE)

    def work() -> None:
        while JobPaused() not in job.events()[0]:
            job_control.check()

    thread = threading.Thread(target=work)
    thread.start()
    while job.events()[0][-1] != JobPaused():
        thread.join(0.01)
    assert Lease().holder() is None and training_turn().holder() is None  # a training run may go on meanwhile
    job.send(Command.RUN)
    thread.join()
    assert job.events()[0][-1] == JobResumed() and Lease().holder() == "evaluating"
    taken.__exit__(None, None, None)


def test_a_training_run_and_an_evaluation_take_turns() -> None:
    turn = training_turn()
    turn.acquire("training emoji")
    with pytest.raises(Interrupted), EvaluationJobControl(Lease(), lambda: True).taken("evaluating"):
        pytest.fail("both go on")
    turn.release()
    with EvaluationJobControl(Lease()).taken("evaluating"):
        assert turn.holder() == "evaluating"
    assert turn.holder() is None

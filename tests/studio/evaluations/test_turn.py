"""An evaluation ends and pauses on request, and image jobs go first."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from diffstudio.errors import Interrupted
from diffstudio.models.memory.lease import Lease
from diffstudio.studio.evaluations.turn import Turn
from diffstudio.training.run.run_folder import Command, RunFolder


def test_the_control_file_and_the_caller_end_it(tmp_path: Path) -> None:
    asked: list[bool] = []
    turn = Turn(Lease(), lambda: bool(asked))
    turn.check()
    asked.append(True)
    with pytest.raises(Interrupted, match="The evaluation was stopped"):
        turn.check()
    controlled = Turn(Lease(), control=tmp_path)
    controlled.check()
    RunFolder(tmp_path).send(Command.STOP)
    with pytest.raises(Interrupted):
        Turn(Lease(), control=tmp_path).check()


def test_it_waits_while_it_is_paused(tmp_path: Path) -> None:
    RunFolder(tmp_path).send(Command.PAUSE)
    turn, done = Turn(Lease(), control=tmp_path), threading.Event()

    def work() -> None:
        turn.check()
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert not done.wait(0.3)
    RunFolder(tmp_path).send(Command.RUN)
    assert done.wait(10)
    thread.join()


def test_image_jobs_go_first() -> None:
    waits: list[str] = []
    turn, images = Turn(Lease(), on_wait=lambda: waits.append("once")), Lease()
    held, released = threading.Event(), threading.Event()

    def generate() -> None:
        with images.held("images", priority=True):
            held.set()
            assert Lease().holder() == "images"
        released.set()

    with turn.taken("evaluating"):
        turn.check()
        thread = threading.Thread(target=generate)
        thread.start()
        while not released.is_set():
            turn.check()
        turn.check()
        assert Lease().holder() == "evaluating"
    thread.join()
    assert held.is_set() and waits == ["once"]


def test_it_can_be_stopped_while_it_waits_for_the_accelerator() -> None:
    with (
        Lease().held("images", priority=True),
        pytest.raises(Interrupted),
        Turn(Lease(), lambda: True).taken("evaluating"),
    ):
        pytest.fail("two hold it")

"""Fitting steps from the Models room: what the dialog asks for, and what is shown while a job runs and when it ends."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.fitted_steps.stored import store
from diffstudio.models.library.library import Library
from diffstudio.models.library.records import read_checkpoint
from diffstudio.studio.evaluations.jobs import LabJobs
from diffstudio.studio.library.annotations import Annotations
from diffstudio.studio.library.weight_requests import Tool
from diffstudio.ui.models.room import ModelsRoom
from diffstudio.ui.models.step_fitter import StepFitter, StepFittingDialog, _kept_text
from tests.models.fitted_steps.some_ladders import ladder
from tests.models.tiny import write_tiny_checkpoint

PATIENCE_MS = 60_000
_PROCESS = """
import json, os, sys, time
from pathlib import Path
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.job_recording import recorded
from diffstudio.errors import Interrupted
from diffstudio.training.run.run_folder import Command
out = Path(sys.argv[-1])
plan = json.loads(Path(sys.argv[1]).read_text())
with recorded("models", sys.argv[3:-2], out) as recording:
    recording.progress("Fitting 4 steps to euler", 1, 4)
    while plan.get("waits") and JobFolder(out).command() is not Command.STOP:
        time.sleep(0.02)
    if plan.get("waits"):
        raise Interrupted()
    (out / "models.json").write_text(json.dumps({"format": 1, "ladders": plan["ladders"]}))
    recording.finish()
"""


@pytest.fixture
def plan(tmp_path: Path) -> dict[str, Any]:
    return {"ladders": [{"kept": True, "less": 0.4}, {"kept": True, "less": 0.7}, {"kept": False, "less": -1.0}]}


@pytest.fixture
def room(qtbot: QtBot, dressed: QApplication, tmp_path: Path, plan: dict[str, Any]) -> Iterator[ModelsRoom]:
    """A room whose jobs are a small process that does what the plan says."""
    folder = tmp_path / "models"
    path = write_tiny_checkpoint(folder / "one.safetensors")
    store(read_checkpoint(path), [ladder("euler", 4)])
    library = Library([folder])
    room = ModelsRoom(None, Annotations(), lambda: folder)
    script, planned = tmp_path / "job.py", tmp_path / "plan.json"
    script.write_text(_PROCESS)
    jobs = LabJobs(tmp_path / "jobs", command=(sys.executable, str(script), str(planned)))
    room.step_fitter._jobs = jobs
    room.step_fitter.start_with = lambda: planned.write_text(json.dumps(plan))  # type: ignore[attr-defined]
    room.rescan_requested.connect(lambda: room.set_checkpoints(library.scan(), library.problems))
    qtbot.addWidget(room, before_close_func=lambda widget: widget.shut_down())
    room.resize(1100, 800)
    with qtbot.waitExposed(room):
        room.show()
    room.rescan_requested.emit()
    yield room


def one(room: ModelsRoom) -> Checkpoint:
    return next(entry for entry in room._checkpoints() if entry.name == "one")


def opened(room: ModelsRoom, qtbot: QtBot) -> StepFittingDialog:
    """The dialog that a click on the button opens."""
    room.step_fitter.start_with()  # type: ignore[attr-defined]
    room.choose(one(room).path)
    button = room.details.tools[Tool.FIT_STEPS]
    qtbot.waitUntil(button.isVisible)
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    return next(dialog for dialog in room.findChildren(StepFittingDialog) if dialog.isVisible())


def test_the_dialog_says_what_is_fitted_and_asks_for_the_rest(room: ModelsRoom, qtbot: QtBot) -> None:
    dialog = opened(room, qtbot)
    assert "Fitted already: Euler (4 steps)." in dialog.known.text() and "CFG scale 3" in dialog.known.text()
    assert dialog.arguments()[2:] == ["--samplers", "dpmpp_2m", "--calls", "4", "6", "8", "10"]
    qtbot.mouseClick(dialog.samplers.chip("heun"), Qt.MouseButton.LeftButton)
    qtbot.mouseClick(dialog.calls.chip(4), Qt.MouseButton.LeftButton)
    assert dialog.arguments()[2:] == ["--samplers", "dpmpp_2m", "heun", "--calls", "6", "8", "10"]
    for name in ("dpmpp_2m", "heun"):
        qtbot.mouseClick(dialog.samplers.chip(name), Qt.MouseButton.LeftButton)
    assert not dialog.fit.isEnabled()
    qtbot.keyClick(dialog, Qt.Key.Key_Escape)
    assert not dialog.isVisible() and not room.step_fitter.busy


def test_progress_is_shown_and_the_result_said(room: ModelsRoom, qtbot: QtBot) -> None:
    dialog = opened(room, qtbot)
    bar = room.step_fitter.bar
    with qtbot.waitSignal(room.step_fitter.fitted, timeout=PATIENCE_MS):
        qtbot.mouseClick(dialog.fit, Qt.MouseButton.LeftButton)
        assert bar.isVisible() and bar.title.text() == "Fitting steps: one"
    qtbot.waitUntil(lambda: not bar.isVisible())
    assert room.message.text() == (
        "The fitted steps for 2 of 3 choices of sampler and network calls are kept with one: their images differ 40% to "
        "70% less from converged ones. Choose the scheduler Fitted to this checkpoint in Generate."
    )


def test_what_is_kept_of_one_search() -> None:
    text = _kept_text("tiny7", 1, [0.8151])
    assert text.startswith("The fitted steps are kept with tiny7: their images differ 82% less from converged ones.")


def test_a_second_one_has_to_wait_and_stop_stops(room: ModelsRoom, qtbot: QtBot, plan: dict[str, Any]) -> None:
    plan["waits"] = True
    dialog, fitter = opened(room, qtbot), room.step_fitter
    qtbot.mouseClick(dialog.fit, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: "Fitting 4 steps to euler" in fitter.bar.title.text(), timeout=PATIENCE_MS)
    assert fitter.bar.percent.text() == "25%"
    assert fitter.open(one(room)) is None and "being fitted already" in room.message.text()
    qtbot.mouseClick(fitter.bar.stop, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not fitter.busy, timeout=PATIENCE_MS)
    assert "Stopped before it had a result" in room.message.text()


def test_none_kept_is_said_and_closing_ends_the_job(room: ModelsRoom, qtbot: QtBot, plan: dict[str, Any]) -> None:
    plan["ladders"] = [{"kept": False, "less": -0.1}]
    dialog, fitter = opened(room, qtbot), room.step_fitter
    qtbot.mouseClick(dialog.fit, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not fitter.busy, timeout=PATIENCE_MS)
    assert room.message.text() == (
        "No fitted steps are kept with one: other schedulers are as close to converged images."
    )
    plan["waits"] = True
    dialog = opened(room, qtbot)
    qtbot.mouseClick(dialog.fit, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: "Fitting 4 steps" in fitter.bar.title.text(), timeout=PATIENCE_MS)
    (job, *_), jobs = fitter._jobs.list(), fitter._jobs
    assert job.alive
    fitter.close()
    qtbot.waitUntil(lambda: not any(one.alive for one in jobs.list()), timeout=PATIENCE_MS)


def test_what_goes_wrong_is_said(qtbot: QtBot, room: ModelsRoom, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    fitter = StepFitter(room, LabJobs(tmp_path / "file" / "jobs"))
    said: list[tuple[str, str]] = []
    fitter.message.connect(lambda *message: said.append(message))
    fitter.start(one(room), ["fit-steps", "one"])
    qtbot.waitUntil(lambda: bool(said), timeout=PATIENCE_MS)
    assert said[0][0] == "bad" and not fitter.busy
    fitter.close()

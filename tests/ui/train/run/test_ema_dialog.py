"""The length of a run's average: measured, sampled and saved from the Train room, by jobs that a small process imitates."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from diffstudio.studio.evaluations.jobs import LabJobs
from diffstudio.studio.runs.runs import Runs
from diffstudio.training.recipe import Recipe
from diffstudio.training.run.events import RunCheckpoint, RunStarted, RunStopped
from diffstudio.training.run.run_folder import RunFolder
from diffstudio.ui.train.room import TrainRoom
from diffstudio.ui.train.run import ema_dialog
from diffstudio.ui.train.run.ema_dialog import EmaDialog

PATIENCE_MS = 60_000
_PROCESS = """
import json, sys, time
from pathlib import Path
from PIL import Image
from diffstudio.errors import Interrupted, RunProblem
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.job_recording import recorded
from diffstudio.training.run.run_folder import Command
out, arguments = Path(sys.argv[-1]), sys.argv[3:-2]
plan = json.loads(Path(sys.argv[1]).read_text())
with recorded("models", arguments, out) as recording:
    recording.progress("Measuring the held-out loss", 1, 4)
    while plan.get("waits") and JobFolder(out).command() is not Command.STOP:
        time.sleep(0.02)
    if plan.get("waits"):
        raise Interrupted()
    if plan.get("fails"):
        raise RunProblem("The run has no held-out images")
    losses, length, samples, checkpoint = [], 0.02, [], ""
    if "--length" in arguments:
        length = float(arguments[arguments.index("--length") + 1])
    if "--measure" in arguments:
        losses = [[length, 0.25]] if "--best" not in arguments else [[0.02, 0.125], [0.1, 0.5]]
    elif "--samples" in arguments:
        samples = ["sample-1.png", "sample-2.png"]
        for name in samples:
            Image.new("RGB", (16, 16), "red").save(out / name)
    else:
        checkpoint = "/models/a run-ema-0.02.safetensors"
    values = {"format": 1, "losses": losses, "length": length, "samples": samples, "checkpoint": checkpoint}
    (out / "models.json").write_text(json.dumps(values))
    recording.finish()
"""


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., None]:
    """How the pretended job goes."""
    file = tmp_path / "plan.json"
    file.write_text("{}")
    return lambda **values: file.write_text(json.dumps(values)) and None


@pytest.fixture
def room(
    make_room: Callable[[], TrainRoom],
    runs: Runs,
    tmp_path: Path,
    pictures: Path,
    qtbot: QtBot,
    plan: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[TrainRoom]:
    """A room with a run that ended, whose jobs are a small process."""
    (tmp_path / "job.py").write_text(_PROCESS)
    command = (sys.executable, str(tmp_path / "job.py"), str(tmp_path / "plan.json"))
    monkeypatch.setattr(ema_dialog, "LabJobs", lambda folder: LabJobs(tmp_path / "jobs", command=command))
    run = RunFolder.create(runs.folder / "a run", Recipe(), pictures)
    run.checkpoint(10).parent.mkdir(exist_ok=True)
    for file in (run.checkpoint(10), run.latest_checkpoint):
        file.touch()
    checkpoint = RunCheckpoint(10, "checkpoints/00000010.safetensors", 0.5, True)
    for event in (RunStarted(0, 10, 1, 1000, 8, 2, "cpu", "float32", 1, "why"), checkpoint, RunStopped(10)):
        run.append(event)
    room = make_room()
    room.refresh()
    qtbot.waitUntil(lambda: run.path in room.runs_list.cards(), timeout=PATIENCE_MS)
    room.select(run.path)
    yield room


def click(qtbot: QtBot, button: QWidget) -> None:
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def opened(room: TrainRoom, qtbot: QtBot) -> EmaDialog:
    """The dialog that the button opens, once the run has averages."""
    path = room.selected()
    assert path is not None
    folder = RunFolder(path).ema_folder
    folder.mkdir()
    (folder / "00000010.safetensors").touch()
    room.refresh()
    qtbot.waitUntil(room.run_view.averages.isEnabled, timeout=PATIENCE_MS)
    room.run_view.averages.click()  # it may be behind the button More
    (dialog,) = room.findChildren(EmaDialog)
    return dialog


def test_without_averages_it_is_disabled_and_says_why(room: TrainRoom, qtbot: QtBot) -> None:
    button = room.run_view.averages
    qtbot.waitUntil(lambda: "This run stored no averages" in button.toolTip(), timeout=PATIENCE_MS)
    assert not button.isEnabled() and "EMA snapshots" in button.toolTip()


def test_a_length_is_measured_sampled_and_saved(room: TrainRoom, qtbot: QtBot) -> None:
    dialog = opened(room, qtbot)
    assert "not measured" in dialog.loss.text()
    dialog.length.setFocus()
    dialog.length._slider.setValue(14)
    assert dialog.chosen() == 0.07
    click(qtbot, dialog.measure)
    assert not dialog.save.isEnabled() and dialog.stop.isVisible()
    qtbot.waitUntil(lambda: dialog.losses == {0.07: 0.25}, timeout=PATIENCE_MS)
    qtbot.waitUntil(dialog.best.isEnabled)
    assert dialog.loss.text() == "Held-out loss at this length: 0.25000."
    click(qtbot, dialog.best)
    qtbot.waitUntil(lambda: dialog.chosen() == 0.02, timeout=PATIENCE_MS)
    qtbot.waitUntil(dialog.draw.isEnabled)
    assert dialog.loss.text() == "Held-out loss at this length: 0.12500. Lowest of 3 measured: 0.12500 at 2%."
    click(qtbot, dialog.draw)
    qtbot.waitUntil(lambda: len(dialog.thumbnails) == 2, timeout=PATIENCE_MS)
    assert not dialog.thumbnails[0].image().isNull() and "2%" in dialog.thumbnails[0].toolTip()
    with qtbot.waitSignal(dialog.menu_requested):
        dialog.thumbnails[0].menu_requested.emit(dialog.thumbnails[0].target, dialog.pos())
    qtbot.waitUntil(dialog.save.isEnabled)
    with qtbot.waitSignal(room.checkpoint_ready, timeout=PATIENCE_MS) as saved:
        click(qtbot, dialog.save)
    assert saved.args == [Path("/models/a run-ema-0.02.safetensors")]
    assert dialog.message.text() == "Saved as a run-ema-0.02. It is among the checkpoints of Generate and Models."
    qtbot.waitUntil(dialog.close_button.isEnabled)
    jobs = dialog._jobs
    click(qtbot, dialog.close_button)
    assert jobs.list() == []


def test_a_run_without_held_out_images_is_sampled_but_not_measured(room: TrainRoom, qtbot: QtBot) -> None:
    path = room.selected()
    assert path is not None
    RunFolder(path).append(RunStarted(10, 10, 1, 1000, 10, 0, "cpu", "float32", 1, "why"))
    room.refresh()
    qtbot.waitUntil(lambda: room._held_out == 0, timeout=PATIENCE_MS)
    dialog = opened(room, qtbot)
    for button in (dialog.measure, dialog.best):
        assert not button.isEnabled() and "this run holds out no images" in button.toolTip()
    assert dialog.loss.text() == "Not measured: this run holds out no images. Choose a length, and compare its samples."
    click(qtbot, dialog.draw)
    qtbot.waitUntil(lambda: len(dialog.thumbnails) == 2, timeout=PATIENCE_MS)
    qtbot.waitUntil(dialog.draw.isEnabled)
    assert not dialog.best.isEnabled() and dialog.save.isEnabled()


def test_it_is_stopped_and_closing_ends_what_runs(room: TrainRoom, qtbot: QtBot, plan: Callable[..., None]) -> None:
    plan(waits=True)
    dialog = opened(room, qtbot)
    click(qtbot, dialog.best)
    qtbot.waitUntil(lambda: dialog.what.text() == "Measuring the held-out loss…", timeout=PATIENCE_MS)
    assert dialog.line.fraction() == 0.25
    click(qtbot, dialog.stop)
    qtbot.waitUntil(dialog.best.isEnabled, timeout=PATIENCE_MS)
    assert not dialog.losses and not dialog.message.isVisible() and not dialog.stop.isVisible()
    click(qtbot, dialog.measure)
    qtbot.waitUntil(lambda: dialog.what.text() == "Measuring the held-out loss…", timeout=PATIENCE_MS)
    jobs = dialog._jobs
    qtbot.keyClick(dialog, Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: not any(found.alive for found in jobs.list()), timeout=PATIENCE_MS)


def test_what_goes_wrong_is_said(room: TrainRoom, qtbot: QtBot, plan: Callable[..., None]) -> None:
    plan(fails=True)
    dialog = opened(room, qtbot)
    click(qtbot, dialog.measure)
    qtbot.waitUntil(dialog.message.isVisible, timeout=PATIENCE_MS)
    assert dialog.message.text() == "The run has no held-out images."

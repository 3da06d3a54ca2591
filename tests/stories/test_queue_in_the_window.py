"""The queue, as a person uses it: look at what waits, change it, pause it, take it back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from PySide6.QtCore import Qt
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.errors import StorageProblem
from diffstudio.studio.events import Finished, Started
from diffstudio.studio.jobs.job_records import REMOVED, RemovedJob
from diffstudio.studio.jobs.recording import Recording, Replay
from diffstudio.studio.jobs.waiting_jobs import RemovedJobs
from diffstudio.studio.requests import GenerateRequest, UpscaleRequest
from diffstudio.studio.runs.runs import RunSummary
from diffstudio.training.run.run_folder import RunFolder, Status
from diffstudio.ui.app import Desktop
from diffstudio.ui.generate.queue.job_dialog import JobDialog, job_facts
from diffstudio.ui.generate.upscale_dialog import UpscaleDialog
from diffstudio.ui.widgets.helpers import ElidedLabel
from tests.models.tiny import write_tiny_checkpoint
from tests.ui.accessibility import accessibility_problems
from tests.ui.desktop_helpers import PATIENCE_MS, EventRecorder, close_desktop, open_desktop
from tests.ui.generate.queue.test_job_list import jobs_of

pytestmark = [pytest.mark.usefixtures("dressed"), pytest.mark.timeout(300)]


@pytest.fixture
def opened(qtbot: QtBot, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Desktop]]:
    monkeypatch.setattr(paths, "starter", lambda: home / "none")
    write_tiny_checkpoint(paths.checkpoints() / "tiny.safetensors")
    Image.new("RGB", (32, 32), (10, 200, 30)).save(paths.checkpoints() / "tiny.preview.png")
    opened: list[Desktop] = []

    def open_one() -> Desktop:
        opened.append(open_desktop(qtbot))
        return opened[-1]

    yield open_one
    for desktop in opened:
        close_desktop(desktop)


def titles(desktop: Desktop) -> list[str]:
    return [card.title() for card in desktop.generate_room.right.cards]


def click(qtbot: QtBot, button: object) -> None:
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def dialog_of(kind: type, desktop: Desktop) -> object:
    return next((each for each in desktop.window.findChildren(kind) if each.isVisible()), None)


def test_a_day_with_the_queue(qtbot: QtBot, opened: Callable[[], Desktop]) -> None:
    desktop = opened()
    room, ears = desktop.generate_room, EventRecorder(desktop)
    queue, panel = room.right.jobs, room.panel

    # Paused, it takes jobs and starts none.
    click(qtbot, queue.pause)
    qtbot.waitUntil(lambda: queue.paused.isVisible())
    assert panel.button.text() == "Add to queue"
    panel.sampling.steps.set_value(2)
    for prompt in ("one", "two", "three"):
        panel.prompt.set_text(prompt)
        panel.submit()
    qtbot.waitUntil(lambda: titles(desktop) == ["one", "two", "three"])
    panel.prompt.set_text("my own words")
    assert ears.count(Started) == 0

    # What waits shows the checkpoint, and its settings in full when it is opened.
    qtbot.waitUntil(lambda: all(card.thumbnail.isVisible() for card in queue.cards), timeout=PATIENCE_MS)
    assert queue.cards[0].thumbnail.image().pixelColor(4, 4).green() > 180
    click(qtbot, queue.cards[1])
    qtbot.waitUntil(lambda: dialog_of(JobDialog, desktop) is not None)
    dialog = dialog_of(JobDialog, desktop)
    assert isinstance(dialog, JobDialog) and not accessibility_problems(dialog)
    facts = dict(dialog.facts.facts())
    assert facts["Steps"] == "2" and facts["Checkpoint"] == "tiny" and dialog.prompts[0][1].toPlainText() == "two"

    # Edited in the panel, cancelled: as it was, and the panel too.
    click(qtbot, dialog.edit)
    qtbot.waitUntil(lambda: panel.button.text() == "Save to queue")
    assert panel.prompt.text() == "two" and queue.cards[1].about() == "Being edited"
    panel.prompt.set_text("never")
    click(qtbot, panel.cancel_edit)
    assert panel.prompt.text() == "my own words" and panel.button.text() == "Add to queue"
    qtbot.waitUntil(lambda: queue.cards[1].about() != "Being edited")
    assert titles(desktop) == ["one", "two", "three"]

    # Edited and saved with Ctrl+Enter: changed in its place, and the panel is as it was.
    queue.cards[1].setFocus()
    qtbot.keyClick(queue.cards[1], Qt.Key.Key_F2)
    qtbot.waitUntil(lambda: panel.button.text() == "Save to queue")
    panel.prompt.set_text("two, red")
    panel.sampling.steps.set_value(3)
    qtbot.keyClick(panel.prompt, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: titles(desktop) == ["one", "two, red", "three"])
    assert panel.prompt.text() == "my own words" and panel.sampling.steps.value() == 2

    # Duplicated, moved, removed, cleared, and brought back one after the other.
    duplicate = next(each for each in queue.cards[1].menu().actions() if each.text() == "Duplicate")
    duplicate.trigger()
    qtbot.waitUntil(lambda: titles(desktop) == ["one", "two, red", "two, red", "three"])
    queue.cards[3].setFocus()
    qtbot.keyClick(queue.cards[3], Qt.Key.Key_Up, Qt.KeyboardModifier.AltModifier)
    qtbot.waitUntil(lambda: titles(desktop) == ["one", "two, red", "three", "two, red"])
    qtbot.keyClick(queue.cards[0], Qt.Key.Key_Delete)
    qtbot.waitUntil(lambda: titles(desktop) == ["two, red", "three", "two, red"])
    click(qtbot, queue.clear)
    qtbot.waitUntil(lambda: titles(desktop) == [] and queue.undo.isEnabled())
    click(qtbot, queue.undo)
    qtbot.waitUntil(lambda: titles(desktop) == ["two, red", "three", "two, red"])
    click(qtbot, queue.undo)
    qtbot.waitUntil(lambda: titles(desktop) == ["one", "two, red", "three", "two, red"])
    assert not queue.undo.isEnabled()

    # After a restart it is still paused, and resuming makes all of it.
    close_desktop(desktop)
    desktop = opened()
    ears, queue = EventRecorder(desktop), desktop.generate_room.right.jobs
    qtbot.waitUntil(lambda: queue.paused.isVisible() and len(queue.cards) == 4)
    assert desktop.generate_room.panel.prompt.text() == "my own words"
    click(qtbot, queue.pause)
    qtbot.waitUntil(ears.heard(Finished, 4), timeout=PATIENCE_MS)
    made = [event.request for event in ears.events if isinstance(event, Started)]
    assert [request.prompt for request in made] == ["one", "two, red", "three", "two, red"]
    assert [request.steps for request in made] == [2, 3, 2, 3]


def test_a_waiting_upscale_is_edited_in_its_dialog(qtbot: QtBot, opened: Callable[[], Desktop], tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), (200, 0, 0)).save(tmp_path / "source.png")
    desktop = opened()
    queue = desktop.generate_room.right.jobs
    desktop.queue.pause(True)
    desktop.jobs.submit(UpscaleRequest(tmp_path / "source.png", scale=2.0))
    qtbot.waitUntil(lambda: len(queue.cards) == 1)
    qtbot.waitUntil(lambda: queue.cards[0].thumbnail.isVisible())

    def edit() -> UpscaleDialog:
        desktop.queue.edit(queue.cards[0].queued.job)
        qtbot.waitUntil(lambda: dialog_of(UpscaleDialog, desktop) is not None)
        dialog = dialog_of(UpscaleDialog, desktop)
        assert isinstance(dialog, UpscaleDialog) and dialog.button.text() == "Save to queue"
        return dialog

    dialog = edit()
    click(qtbot, dialog.scale.chip(4.0))
    dialog.reject()
    qtbot.waitUntil(lambda: queue.cards[0].about() != "Being edited")
    assert queue.cards[0].queued.request.scale == 2.0
    QApplication.processEvents()
    dialog = edit()
    click(qtbot, dialog.scale.chip(4.0))
    click(qtbot, dialog.button)
    qtbot.waitUntil(lambda: len(queue.cards) == 1 and queue.cards[0].queued.request.scale == 4.0)


def test_an_edited_job_that_was_removed_is_added_again(qtbot: QtBot, opened: Callable[[], Desktop]) -> None:
    desktop = opened()
    room = desktop.generate_room
    desktop.queue.pause(True)
    for prompt in ("one", "two"):
        room.panel.prompt.set_text(prompt)
        room.panel.submit()
    qtbot.waitUntil(lambda: titles(desktop) == ["one", "two"])
    first = room.right.cards[0].queued.job
    desktop.queue.edit(first)
    qtbot.waitUntil(lambda: room.panel.button.text() == "Save to queue")
    desktop.queue.edit(room.right.cards[1].queued.job)
    assert room.banner.text() == "Save or cancel the edit of “one” first."
    desktop.queue.remove(first)
    qtbot.waitUntil(lambda: titles(desktop) == ["two"])
    room.panel.prompt.set_text("one, changed")
    room.panel.submit()
    qtbot.waitUntil(lambda: titles(desktop) == ["two", "one, changed"])
    assert "had been removed" in room.banner.text()
    desktop.queue.edit(first)
    qtbot.waitUntil(lambda: "no longer waiting" in room.banner.text())


def test_the_settings_of_a_job_are_shown_in_full(qtbot: QtBot, tmp_path: Path) -> None:
    (queued,) = jobs_of("a cat")
    request = GenerateRequest(
        "a cat",
        checkpoint="sd1",
        count=3,
        width=640,
        height=512,
        clip_skip=2,
        init=tmp_path / "init.png",
        mask=tmp_path / "mask.png",
        strength=0.5,
        resize="pad",  # type: ignore[arg-type]
        fill="noise",  # type: ignore[arg-type]
        feather=12,
    )
    facts = dict(job_facts(type(queued)(1, request, 2, 0)))
    assert facts["Images"] == "3" and facts["Size"] == "640 × 512 px" and facts["Clip skip"] == "2"
    assert facts["Init image"] == "init.png" and facts["Denoising strength"] == "0.5" and facts["Mask blur"] == "12"
    assert facts["Resize mode"] == "pad" and facts["Masked content"] == "noise"
    larger = GenerateRequest("a", enlarge=2.0, enlarge_steps=7, tiled=True, guide_last_call=True)
    facts = dict(job_facts(type(queued)(1, larger, 0, 0)))
    assert facts["Hires steps"] == "7" and facts["Tiled"] == "on" and facts["Guide last step"] == "on"
    assert facts["Size"] == "as the checkpoint recommends"
    dialog = JobDialog(type(queued)(1, request, 2, 0), QImage())
    qtbot.addWidget(dialog)
    dialog.show()
    assert not accessibility_problems(dialog) and not dialog.thumbnail.isVisible()


def test_a_full_disk_loses_neither_removed_nor_edited_jobs(
    qtbot: QtBot, opened: Callable[[], Desktop], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Image.new("RGB", (16, 16), (200, 0, 0)).save(tmp_path / "source.png")
    desktop = opened()
    room, worker = desktop.generate_room, desktop.worker
    assert worker is not None
    queue, panel, waiting = room.right.jobs, room.panel, worker._queue
    desktop.queue.pause(True)
    for request in (GenerateRequest("one"), UpscaleRequest(tmp_path / "source.png", scale=2.0)):
        desktop.jobs.submit(request)
    qtbot.waitUntil(lambda: len(queue.cards) == 2)
    jobs = [card.queued.job for card in queue.cards]

    def fails(*_: object) -> None:
        raise StorageProblem("The queue cannot be used", "the disk is full")

    def failed() -> bool:
        return "the disk is full" in room.banner.text() and room.banner.isVisible()

    # Brought back: the button is disabled meanwhile, and can be pressed again.
    click(qtbot, queue.clear)
    qtbot.waitUntil(lambda: titles(desktop) == [] and queue.undo.isEnabled())
    with monkeypatch.context() as patch:
        patch.setattr(waiting, "restore", fails)
        click(qtbot, queue.undo)
        assert not queue.undo.isEnabled()
        qtbot.waitUntil(lambda: failed() and queue.undo.isEnabled())
    click(qtbot, queue.undo)
    qtbot.waitUntil(lambda: [card.queued.job for card in queue.cards] == jobs)
    assert not queue.undo.isEnabled()

    # Edited in the panel: the edit goes on.
    room.show_message("info", "")
    panel.prompt.set_text("my own words")
    desktop.queue.edit(jobs[0])
    qtbot.waitUntil(lambda: panel.button.text() == "Save to queue")
    panel.prompt.set_text("one, red")
    with monkeypatch.context() as patch:
        patch.setattr(waiting, "replace_request", fails)
        panel.submit()
        panel.submit()  # a second click writes nothing else
        click(qtbot, panel.cancel_edit)
        qtbot.waitUntil(failed)
    assert panel.prompt.text() == "one, red" and panel.button.text() == "Save to queue"
    assert waiting.held_back == jobs[0] and titles(desktop)[0] == "one"
    panel.submit()
    qtbot.waitUntil(lambda: titles(desktop)[0] == "one, red" and waiting.held_back is None)
    qtbot.waitUntil(lambda: panel.prompt.text() == "my own words")

    # Edited in the Upscale dialog: it opens again with what was chosen.
    room.show_message("info", "")
    desktop.queue.edit(jobs[1])
    qtbot.waitUntil(lambda: dialog_of(UpscaleDialog, desktop) is not None)
    dialog = dialog_of(UpscaleDialog, desktop)
    assert isinstance(dialog, UpscaleDialog)
    with monkeypatch.context() as patch:
        patch.setattr(waiting, "replace_request", fails)
        click(qtbot, dialog.button)
        qtbot.waitUntil(failed)
        qtbot.waitUntil(lambda: dialog_of(UpscaleDialog, desktop) not in (None, dialog))
    assert waiting.held_back == jobs[1]
    again = dialog_of(UpscaleDialog, desktop)
    assert isinstance(again, UpscaleDialog)
    click(qtbot, again.button)
    qtbot.waitUntil(lambda: waiting.held_back is None)
    assert [queued.job for queued in worker.pending()] == jobs


def test_what_can_be_brought_back_is_limited(qtbot: QtBot, opened: Callable[[], Desktop]) -> None:
    queue = opened().queue
    for job in range(60):
        removed = RemovedJob(job, None, ("",) * len(REMOVED))
        queue._keep(RemovedJobs([removed], {job: Replay(Recording(), 1)}))
    assert [each.jobs[0].job for each in queue._removed] == list(range(10, 60))
    assert [list(each.replays) for each in queue._removed] == [[]] * 49 + [[59]]


def test_the_queue_says_that_a_run_compares_its_checkpoints(opened: Callable[[], Desktop]) -> None:
    desktop = opened()
    training = RunSummary(RunFolder(Path("birds")), Status.TRAINING, step=80, steps=80, progress=1.0)
    card = desktop.generate_room.right.training
    for summary, text in (
        (replace(training, step=40, progress=0.5, left_seconds=12.0), "training · 12 s left"),
        (replace(training, compared=0.4), "comparing checkpoints"),
    ):
        desktop.jobs.show_training([summary])
        assert text in [part.text() for part in card.findChildren(ElidedLabel)]

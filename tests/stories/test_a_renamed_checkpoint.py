"""A checkpoint is renamed: everything in the window that names it follows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.errors import BadRequest
from diffstudio.studio.events import Failed, Finished, ImageSaved, Started
from diffstudio.studio.panel_state import read_state
from diffstudio.studio.requests import GenerateRequest
from diffstudio.ui.app import Desktop
from tests.models.tiny import write_tiny_checkpoint
from tests.ui.desktop_helpers import PATIENCE_MS, EventRecorder, close_desktop, open_desktop
from tests.ui.samples import picture

pytestmark = [pytest.mark.usefixtures("dressed"), pytest.mark.timeout(300)]


@pytest.fixture
def desktop(qtbot: QtBot, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desktop]:
    monkeypatch.setattr(paths, "starter", lambda: home / "none")
    write_tiny_checkpoint(paths.checkpoints() / "tiny.safetensors")
    write_tiny_checkpoint(paths.checkpoints() / "other.safetensors")
    desktop = open_desktop(qtbot)
    yield desktop
    close_desktop(desktop)


def rename(qtbot: QtBot, desktop: Desktop, name: str = "small") -> None:
    desktop.model_library.rename(next(one for one in desktop.checkpoints if one.name == "tiny"), name)
    qtbot.waitUntil(lambda: any(one.name == name for one in desktop.checkpoints), timeout=PATIENCE_MS)


def test_jobs_that_undo_brings_back_have_the_new_name(qtbot: QtBot, desktop: Desktop) -> None:
    queue, ears = desktop.generate_room.right.jobs, EventRecorder(desktop)
    desktop.queue.pause(True)
    desktop.jobs.submit(GenerateRequest("one", checkpoint="tiny", steps=1))
    qtbot.waitUntil(lambda: len(queue.cards) == 1)
    queue.clear.click()
    qtbot.waitUntil(queue.undo.isEnabled)
    rename(qtbot, desktop)
    queue.undo.click()
    qtbot.waitUntil(lambda: len(queue.cards) == 1)
    assert queue.cards[0].queued.request.checkpoint == "small"
    qtbot.waitUntil(lambda: not queue.undo.isEnabled())
    queue.pause.click()
    qtbot.waitUntil(ears.heard(Finished), timeout=PATIENCE_MS)


def test_the_settings_before_an_edit_have_the_new_name(qtbot: QtBot, desktop: Desktop) -> None:
    room = desktop.generate_room
    room.panel.prompt.set_text("my own words")
    desktop.queue.pause(True)
    desktop.jobs.submit(GenerateRequest("one", checkpoint="other"))
    qtbot.waitUntil(lambda: len(room.right.cards) == 1)
    desktop.queue.edit(room.right.cards[0].queued.job)
    qtbot.waitUntil(lambda: room.panel.button.text() == "Save to queue")
    rename(qtbot, desktop)
    qtbot.waitUntil(lambda: (kept := read_state().state) is not None and kept.request.checkpoint == "small")
    qtbot.mouseClick(room.panel.cancel_edit, Qt.MouseButton.LeftButton)
    chosen = room.panel.checkpoint.current()
    assert chosen is not None and chosen.name == "small" and room.panel.prompt.text() == "my own words"
    assert not room.banner.isVisible()


def test_what_is_missing_after_an_edit_is_said(qtbot: QtBot, desktop: Desktop) -> None:
    room = desktop.generate_room
    desktop.queue.pause(True)
    desktop.jobs.submit(GenerateRequest("one", checkpoint="other"))
    qtbot.waitUntil(lambda: len(room.right.cards) == 1)
    desktop.queue.edit(room.right.cards[0].queued.job)
    qtbot.waitUntil(lambda: room.panel.button.text() == "Save to queue")
    (paths.checkpoints() / "tiny.safetensors").unlink()
    desktop.model_library.rescan()
    qtbot.waitUntil(lambda: len(desktop.checkpoints) == 1, timeout=PATIENCE_MS)
    qtbot.mouseClick(room.panel.cancel_edit, Qt.MouseButton.LeftButton)
    assert "“tiny” is missing" in room.banner.text() and room.banner.isVisible()


def test_failed_jobs_and_shown_images_have_the_new_name(qtbot: QtBot, desktop: Desktop) -> None:
    room, ears = desktop.generate_room, EventRecorder(desktop)
    request = GenerateRequest("one", checkpoint="tiny", steps=3, seed=4)
    desktop.jobs.submit(request)
    qtbot.waitUntil(ears.heard(Finished), timeout=PATIENCE_MS)
    path = next(event.path for event in ears.events if isinstance(event, ImageSaved))
    rename(qtbot, desktop)
    restarted = []
    room.restart_requested.connect(lambda job, step, request: restarted.append(request.checkpoint))
    room.image_restart_requested.connect(lambda path, step, request: restarted.append(request.checkpoint))

    # The last job, and an image that is read from its file.
    room.filmstrip.setValue(2)
    assert room.restart_shown().takes_prompt  # type: ignore[union-attr]
    room.controls.restart.click()
    qtbot.waitUntil(ears.heard(Finished, 2), timeout=PATIENCE_MS)
    desktop.jobs.show_recent()
    qtbot.waitUntil(lambda: len(room.right.thumbs) == 2, timeout=PATIENCE_MS)
    next(thumb for thumb in room.right.thumbs if thumb.recent_image.path == path).clicked.emit()
    qtbot.waitUntil(lambda: room.canvas.path() == path, timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: room.filmstrip.last_step() > 0, timeout=PATIENCE_MS)
    room.filmstrip.setValue(2)
    room.controls.restart.click()
    qtbot.waitUntil(ears.heard(Finished, 3), timeout=PATIENCE_MS)
    assert restarted == ["small", "small"] and not ears.count(Failed)

    room.use_settings(request)
    assert not room.banner.isVisible()


def test_an_image_that_is_shown_while_its_checkpoint_is_renamed_has_the_new_name(
    qtbot: QtBot, desktop: Desktop
) -> None:
    room, ears = desktop.generate_room, EventRecorder(desktop)
    desktop.jobs.submit(GenerateRequest("one", checkpoint="tiny", steps=3, seed=4))
    qtbot.waitUntil(ears.heard(Finished), timeout=PATIENCE_MS)
    path = next(event.path for event in ears.events if isinstance(event, ImageSaved))
    desktop.jobs.show_recent()
    qtbot.waitUntil(lambda: len(room.right.thumbs) == 1, timeout=PATIENCE_MS)
    room.right.thumbs[0].clicked.emit()
    qtbot.waitUntil(lambda: room.canvas.path() == path, timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: room.filmstrip.last_step() > 0, timeout=PATIENCE_MS)
    rename(qtbot, desktop)
    room.filmstrip.setValue(2)
    room.controls.restart.click()
    qtbot.waitUntil(ears.heard(Finished, 2), timeout=PATIENCE_MS)
    assert not ears.count(Failed)


def test_an_old_name_that_another_model_has_is_its_name(qtbot: QtBot, desktop: Desktop) -> None:
    room = desktop.generate_room
    request = GenerateRequest("one", checkpoint="tiny")
    room.handle_event(Started(900, request))
    room.handle_event(ImageSaved(900, 0, Path("/images/one.png"), picture()))
    room.handle_event(Failed(900, BadRequest("It failed")))
    rename(qtbot, desktop)
    write_tiny_checkpoint(paths.checkpoints() / "tiny.safetensors")
    desktop.model_library.rescan()
    qtbot.waitUntil(lambda: len(desktop.checkpoints) == 3, timeout=PATIENCE_MS)
    assert room.renamed.current(request) is request  # read from a file, it names the new one
    with qtbot.waitSignal(room.generate_requested) as asked:
        room.right.failed.cards[0].act.click()
    assert asked.args[0].checkpoint == "small"  # this one was asked for before

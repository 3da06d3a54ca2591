"""The whole desktop with the real worker and a tiny checkpoint: made, watched, stopped, kept, reopened."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PySide6.QtCore import Qt
from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.studio.events import Cancelled, Event, Finished, ImageSaved, Paused, Started, Stepped
from diffstudio.studio.metadata.named_files import NamedFile
from diffstudio.studio.requests import GenerateRequest
from diffstudio.studio.settings import Settings, Theme, load_settings
from diffstudio.ui import app
from diffstudio.ui.app import GALLERY, GENERATE, MODELS, TRAIN, Desktop
from diffstudio.ui.settings_dialog import SettingsDialog
from diffstudio.ui.shell import desktop_environment, folder_watcher, single_instance
from diffstudio.ui.shell.single_instance import Claim, SingleInstance
from diffstudio.ui.widgets import theme
from tests.models.tiny import write_tiny_checkpoint
from tests.ui.accessibility import accessibility_problems

pytestmark = pytest.mark.usefixtures("dressed")
ROOT = Path(__file__).resolve().parents[2]
LONG = 60_000  # ms: torch is imported in here, perhaps for the first time


class EventRecorder:
    """Everything the worker said, as it arrived in the window."""

    def __init__(self, desktop: Desktop) -> None:
        self.events: list[Event] = []
        desktop.bridge.arrived.connect(self.events.append)

    def heard(self, kind: type[Event], times: int = 1) -> Callable[[], bool]:
        return lambda: sum(isinstance(event, kind) for event in self.events) >= times


@pytest.fixture
def opened(qtbot: QtBot, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Desktop]]:
    """Opens the desktop, as often as asked; closes what is open at the end."""
    monkeypatch.setattr(paths, "starter", lambda: home / "none")  # the one that ships takes its time
    write_tiny_checkpoint(paths.checkpoints() / "tiny.safetensors")
    all_of_them: list[Desktop] = []

    def open_it(settings: Settings | None = None) -> Desktop:
        desktop = Desktop(settings or load_settings())
        all_of_them.append(desktop)
        qtbot.addWidget(desktop.window)
        desktop.window.resize(1280, 800)
        desktop.window.show()
        qtbot.waitExposed(desktop.window)
        qtbot.waitUntil(lambda: desktop.worker is not None and bool(desktop.checkpoints), timeout=LONG)
        desktop.generate_room.panel.sampling.steps.set_value(6)
        return desktop

    yield open_it
    for desktop in all_of_them:
        desktop.window.close()
        desktop.close()


def test_a_picture_is_asked_for_by_keyboard_watched_and_kept(qtbot: QtBot, opened: Callable[[], Desktop]) -> None:
    desktop = opened()
    room, ears = desktop.generate_room, EventRecorder(desktop)
    qtbot.keyClicks(room.panel.prompt, "red apple")
    qtbot.keyClick(room.panel.prompt, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(ears.heard(Finished), timeout=LONG)
    assert ears.heard(Stepped)()
    saved = next(event for event in ears.events if isinstance(event, ImageSaved))
    assert saved.path.is_file() and room.canvas.path() == saved.path
    assert room.filmstrip.last_step() == 6
    assert [thumb.recent_image.path for thumb in room.right.thumbs] == [saved.path]
    qtbot.waitUntil(lambda: load_settings().prompt_history == ("red apple",))


def test_checkpoints_are_offered_as_soon_as_they_are_known(
    qtbot: QtBot, opened: Callable[[], Desktop], monkeypatch: pytest.MonkeyPatch
) -> None:
    list_folders = folder_watcher.folders_below

    def slowly(folders: Sequence[Path]) -> list[str]:
        time.sleep(0.3)
        return list_folders(folders)

    monkeypatch.setattr(folder_watcher, "folders_below", slowly)
    desktop = opened()  # once checkpoints are known
    assert desktop.generate_room.panel.checkpoint.lists("tiny")


def test_a_file_that_settings_name_by_hash_is_found_in_the_gallery(qtbot: QtBot, opened: Callable[[], Desktop]) -> None:
    desktop = opened()
    assert desktop.gallery is not None
    added = desktop.gallery.add(Image.new("RGB", (16, 16)), GenerateRequest("red apple", checkpoint="tiny"))
    data = added.path.read_bytes()
    named = NamedFile("photo.png", hashlib.sha256(data).hexdigest(), len(data)).as_path()
    desktop.navigation.use_settings(GenerateRequest("rocket", init=named, strength=0.5, checkpoint="tiny"))
    panel = desktop.generate_room.panel
    qtbot.waitUntil(lambda: panel.init_image.image_path() == added.path, timeout=LONG)
    assert panel.prompt.toPlainText() == "rocket"
    banner = desktop.generate_room.banner
    assert not banner.isVisible(), banner.text()
    other = desktop.gallery.add(Image.new("RGB", (16, 16)), GenerateRequest("rocket", init=named, checkpoint="tiny"))
    desktop.jobs.show_recent()
    thumbs = desktop.generate_room.right
    qtbot.waitUntil(lambda: [thumb.recent_image.path for thumb in thumbs.thumbs][:1] == [other.path], timeout=LONG)
    recent = thumbs.thumbs[0].recent_image.request
    assert isinstance(recent, GenerateRequest) and recent.init == added.path


def test_pause_resume_stop_and_go_on(qtbot: QtBot, opened: Callable[[], Desktop]) -> None:
    desktop = opened()
    room, ears = desktop.generate_room, EventRecorder(desktop)
    room.panel.sampling.steps.set_range(1, 300)
    room.panel.sampling.steps.set_value(300)
    room.panel.submit()
    qtbot.waitUntil(ears.heard(Stepped), timeout=LONG)
    room.controls.pause.click()
    qtbot.waitUntil(ears.heard(Paused), timeout=LONG)
    assert room.controls.pause.text() == "Resume"
    room.controls.pause.click()
    qtbot.waitUntil(ears.heard(Stepped, 3), timeout=LONG)
    room.controls.stop.click()
    qtbot.waitUntil(ears.heard(Cancelled), timeout=LONG)
    assert room.controls.restart.text().startswith("Resume from step")
    room.controls.restart.click()
    qtbot.waitUntil(ears.heard(Finished), timeout=LONG)
    assert ears.heard(ImageSaved)()


def test_a_job_that_was_paused_is_paused_after_reopening(qtbot: QtBot, opened: Callable[[], Desktop]) -> None:
    desktop = opened()
    room, ears = desktop.generate_room, EventRecorder(desktop)
    room.panel.sampling.steps.set_range(1, 300)
    room.panel.sampling.steps.set_value(300)
    room.panel.submit()
    qtbot.waitUntil(ears.heard(Stepped), timeout=LONG)
    room.controls.pause.click()
    qtbot.waitUntil(ears.heard(Paused), timeout=LONG)
    desktop.window.close()
    desktop.close()
    again = opened()
    controls = again.generate_room.controls
    qtbot.waitUntil(lambda: controls.pause.isVisible() and controls.pause.text() == "Resume", timeout=LONG)
    assert again.worker is not None and again.worker.running() is not None
    ears = EventRecorder(again)
    controls.pause.click()
    qtbot.waitUntil(ears.heard(Finished), timeout=LONG)


def test_a_second_start_beside_a_hung_window_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], qapp: QApplication
) -> None:
    first = SingleInstance(paths.data())
    assert first.claim() is Claim.FIRST
    assert first.listen()  # and its event loop, which is this thread's, does not run
    monkeypatch.setattr(single_instance, "_ANSWER_MS", 50)
    monkeypatch.setattr(SingleInstance.__init__, "__defaults__", (0.2,))
    monkeypatch.setattr(desktop_environment, "application", lambda argv: qapp)
    assert app.main([]) == 1
    message = capsys.readouterr().err
    assert "does not respond" in message and f"end its process, {os.getpid()}," in message
    first.close()


def test_the_queue_waits_and_can_be_changed(qtbot: QtBot, opened: Callable[[], Desktop]) -> None:
    desktop = opened()
    room, ears = desktop.generate_room, EventRecorder(desktop)
    room.panel.sampling.steps.set_range(1, 1000)
    room.panel.sampling.steps.set_value(1000)
    room.panel.submit()
    qtbot.waitUntil(ears.heard(Started), timeout=LONG)
    room.panel.sampling.steps.set_value(2)
    for prompt in ("one", "two", "three"):
        room.panel.prompt.set_text(prompt)
        room.panel.submit()

    def titles() -> list[str]:
        return [card._title.text() for card in room.right.cards]

    qtbot.waitUntil(lambda: titles() == ["one", "two", "three"])
    room.right.cards[2].up.click()
    qtbot.waitUntil(lambda: titles() == ["one", "three", "two"])
    room.right.cards[0].remove.click()
    qtbot.waitUntil(lambda: len(room.right.cards) == 2)
    room.controls.stop.click()
    qtbot.waitUntil(ears.heard(Finished, 2), timeout=LONG)
    done = [event.request.prompt for event in ears.events if isinstance(event, Started)]
    assert done[1:] == ["three", "two"]


def test_what_was_being_made_is_made_after_reopening(qtbot: QtBot, opened: Callable[[], Desktop]) -> None:
    desktop = opened()
    ears = EventRecorder(desktop)
    desktop.generate_room.panel.sampling.steps.set_range(1, 300)
    desktop.generate_room.panel.sampling.steps.set_value(300)
    desktop.generate_room.panel.prompt.set_text("unfinished")
    desktop.generate_room.panel.submit()
    qtbot.waitUntil(ears.heard(Stepped), timeout=LONG)
    desktop.window.close()
    desktop.close()
    assert not ears.heard(Finished)()
    again = opened()
    qtbot.waitUntil(lambda: bool(again.generate_room.right.thumbs), timeout=LONG)
    assert again.generate_room.right.thumbs[0].recent_image.request.prompt == "unfinished"


def test_every_room_opens(qtbot: QtBot, opened: Callable[[], Desktop]) -> None:
    desktop = opened()
    for index, name in enumerate((GENERATE, GALLERY, MODELS, TRAIN), 1):
        qtbot.keyClick(desktop.window, QKeySequence(f"Ctrl+{index}")[0].key(), Qt.KeyboardModifier.ControlModifier)
        assert desktop.window.current_room() == name
        desktop.window.grab()


def test_every_control_has_a_name_a_tooltip_and_a_way_by_keyboard(qtbot: QtBot, opened: Callable[[], Desktop]) -> None:
    desktop = opened()
    dialog = SettingsDialog(desktop.settings, "as it is", desktop.window)
    places: list[QWidget] = [desktop.window, dialog, *(desktop.window.room(name) for name in (GALLERY, MODELS, TRAIN))]
    wrong = [fault for place in places for fault in accessibility_problems(place)]
    assert not wrong, "\n".join(wrong)


def test_a_dropped_picture_shows_its_settings_and_a_text_says_why_not(
    qtbot: QtBot, opened: Callable[[], Desktop], tmp_path: Path
) -> None:
    desktop = opened()
    desktop.generate_room.panel.prompt.set_text("purple heart")
    ears = EventRecorder(desktop)
    desktop.generate_room.panel.submit()
    qtbot.waitUntil(ears.heard(Finished), timeout=LONG)
    made = desktop.generate_room.right.thumbs[0].recent_image.path
    desktop.images.open(made)
    from diffstudio.ui.generate.image_settings_dialog import ImageSettingsDialog

    qtbot.waitUntil(lambda: bool(desktop.window.findChildren(ImageSettingsDialog)))
    dialog = desktop.window.findChildren(ImageSettingsDialog)[0]
    assert dialog.prompt.toPlainText() == "purple heart"
    desktop.generate_room.panel.prompt.set_text("something else")
    dialog.use_button.click()
    assert desktop.generate_room.panel.prompt.text() == "purple heart"
    plain = tmp_path / "plain.png"
    Image.new("RGB", (8, 8)).save(plain)
    desktop.images.open(plain)  # it says nothing about itself: it is one to start from
    qtbot.waitUntil(lambda: desktop.generate_room.panel.init_image.image_path() == plain)
    qtbot.waitUntil(desktop.window.banner.isVisible)
    assert desktop.window.banner.text() == "plain.png holds no settings. It is now the init image."
    desktop.window.show_message("info", "")
    text = tmp_path / "text.png"
    text.write_text("hello")
    desktop.images.open(text)
    qtbot.waitUntil(desktop.window.banner.isVisible)
    assert "text.png" in desktop.window.banner.text()


def test_a_file_that_is_no_checkpoint_can_be_put_into_the_trash(
    qtbot: QtBot, opened: Callable[[], Desktop], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = paths.checkpoints() / "broken.safetensors"
    broken.parent.mkdir(parents=True, exist_ok=True)
    broken.write_bytes(b"not one")
    desktop = opened()
    room: Any = desktop.window.show_room(MODELS)
    assert room.choose(broken)
    entry = room.chosen()

    def refuse(path: Path) -> None:
        raise OSError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("send2trash.send2trash", refuse)
    room.delete_requested.emit(entry)
    qtbot.waitUntil(desktop.window.banner.isVisible)
    assert "broken.safetensors could not be moved to the trash: Permission denied" in desktop.window.banner.text()
    monkeypatch.setattr("send2trash.send2trash", os.unlink)
    room.delete_requested.emit(entry)
    qtbot.waitUntil(lambda: "broken.safetensors was moved to the trash" in room.message.text())
    assert not broken.exists() and not room.choose(broken)


def test_the_theme_changes_at_once_and_is_kept(qtbot: QtBot, opened: Callable[[], Desktop]) -> None:
    from dataclasses import replace

    desktop = opened()
    desktop.preferences.set_settings(replace(desktop.settings, theme=Theme.LIGHT))
    assert theme.name() == "light"
    assert desktop.window.grab().toImage().pixelColor(4, 4) == theme.colour("background")
    qtbot.waitUntil(lambda: load_settings().theme is Theme.LIGHT)
    desktop.preferences.set_settings(replace(desktop.settings, theme=Theme.DARK))


def test_the_window_opens_before_anything_heavy_is_loaded() -> None:
    code = (
        "import sys; import diffstudio.ui.app; "
        "heavy = {'torch', 'diffusers', 'transformers', 'pyqtgraph', 'scipy', 'safetensors', 'qtawesome'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"

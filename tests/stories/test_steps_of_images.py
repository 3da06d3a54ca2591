"""The filmstrip, the restart from a step and the settings belong to the image: whenever it is looked at again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.studio.events import Failed, Finished, ImageSaved, Started
from diffstudio.studio.metadata import metadata
from diffstudio.studio.requests import GenerateRequest
from diffstudio.ui.app import Desktop
from diffstudio.ui.settings_dialog import SettingsDialog
from tests.ui.desktop_helpers import PATIENCE_MS, EventRecorder, close_desktop, open_desktop

pytestmark = pytest.mark.usefixtures("dressed", "home")
LEFT = Qt.MouseButton.LeftButton
STEPS = 5


@pytest.fixture
def opened(qtbot: QtBot) -> Iterator[Callable[[], Desktop]]:
    """Opens the desktop, and closes the one before: a restart."""
    made: list[Desktop] = []

    def open_it() -> Desktop:
        for desktop in made:
            close_desktop(desktop)
        made.append(open_desktop(qtbot))
        return made[-1]

    yield open_it
    for desktop in made:
        close_desktop(desktop)


def generate(qtbot: QtBot, desktop: Desktop, prompt: str, count: int = 1, seed: int = 3) -> list[Path]:
    recorder, panel = EventRecorder(desktop), desktop.generate_room.panel
    panel.prompt.set_text(prompt)
    panel.sampling.steps.set_value(STEPS)
    panel.seed.set_fixed(seed)
    panel.count.set_value(count)
    qtbot.mouseClick(panel.button, LEFT)
    return finished(qtbot, recorder)


def finished(qtbot: QtBot, recorder: EventRecorder) -> list[Path]:
    qtbot.waitUntil(lambda: recorder.count(Finished) + recorder.count(Failed) == 1, timeout=PATIENCE_MS)
    assert recorder.count(Failed) == 0, recorder.events[-1]
    return [event.path for event in recorder.events if isinstance(event, ImageSaved)]


def look_at(qtbot: QtBot, desktop: Desktop, path: Path) -> None:
    """Click its thumbnail under Recent."""
    room = desktop.generate_room
    qtbot.waitUntil(lambda: any(thumb.recent_image.path == path for thumb in room.right.thumbs), timeout=PATIENCE_MS)
    thumb = next(thumb for thumb in room.right.thumbs if thumb.recent_image.path == path)
    qtbot.mouseClick(thumb, LEFT)
    qtbot.waitUntil(lambda: room.canvas.path() == path, timeout=PATIENCE_MS)


def strip_of(desktop: Desktop) -> list[np.ndarray]:
    strip = desktop.generate_room.filmstrip
    assert strip.isVisible() and strip.isEnabled() and strip.maximum() == strip.last_step() == STEPS
    return [strip.previews_at(step)[0] for step in range(1, STEPS + 1)]


def restart_at(qtbot: QtBot, desktop: Desktop, step: int, prompt: str) -> np.ndarray:
    """Choose a step with the keyboard, change the prompt, and click Restart."""
    room, recorder = desktop.generate_room, EventRecorder(desktop)
    room.panel.prompt.set_text(prompt)
    room.filmstrip.setFocus()
    qtbot.keyClick(room.filmstrip, Qt.Key.Key_End)
    for _ in range(STEPS - step):
        qtbot.keyClick(room.filmstrip, Qt.Key.Key_Left)
    assert room.controls.restart.text() == f"Restart from step {step}"
    assert "with the current prompt" in room.controls.restart.toolTip()
    qtbot.mouseClick(room.controls.restart, LEFT)
    (path,) = finished(qtbot, recorder)
    with Image.open(path) as image:
        return np.array(image)


def test_they_come_back_for_each_image_also_after_a_restart(qtbot: QtBot, opened: Callable[[], Desktop]) -> None:
    desktop = opened()
    first, second = generate(qtbot, desktop, "red apple", count=2)
    films = {}
    for index, path in enumerate((first, second)):
        strip = desktop.generate_room.filmstrip
        films[path] = [strip.previews_at(step)[index] for step in range(1, STEPS + 1)]
    assert not np.array_equal(films[first][2], films[second][2])
    (other,) = generate(qtbot, desktop, "blue rocket", seed=50)

    before = {}
    for path in (first, second):
        look_at(qtbot, desktop, path)
        assert all(np.array_equal(one, old) for one, old in zip(strip_of(desktop), films[path], strict=True))
        before[path] = restart_at(qtbot, desktop, 3, "green pear")
    assert not np.array_equal(before[first], before[second])

    desktop = opened()
    room = desktop.generate_room
    for path, seed in ((second, 4), (first, 3)):
        look_at(qtbot, desktop, path)
        assert all(np.array_equal(one, old) for one, old in zip(strip_of(desktop), films[path], strict=True))
        assert room.title.text() == "red apple" and room.seed.text() == f"Seed {seed}"
        assert "5 steps" in room.status.text() and not room.controls.restart.isVisible()
        assert np.array_equal(restart_at(qtbot, desktop, 3, "green pear"), before[path])
        look_at(qtbot, desktop, path)
        qtbot.mouseClick(room.controls.use_settings, LEFT)
        request = room.panel.request()
        assert (request.prompt, request.seed, request.count, request.steps) == ("red apple", seed, 1, STEPS)
    look_at(qtbot, desktop, other)
    room.filmstrip.setValue(2)
    assert room.canvas.scrubbing() and room.canvas._note == f"Preview after step 2 of {STEPS}"


def test_an_image_of_a_batch_that_is_alone_is_restarted_alone(qtbot: QtBot, opened: Callable[[], Desktop]) -> None:
    desktop = opened()
    room = desktop.generate_room
    paths_made = generate(qtbot, desktop, "red apple", count=3)
    room.filmstrip.setValue(2)
    assert "all 3 images" in room.controls.restart.toolTip()
    room.filmstrip.setValue(STEPS)
    cell = dict(room.canvas.cells())[2]
    qtbot.mouseClick(room.canvas, LEFT, pos=cell.center().toPoint())
    assert room.canvas.is_alone()
    restart_at(qtbot, desktop, 2, "green pear")
    newest = room.right.thumbs[0].recent_image.path
    request = metadata.read(newest).request
    assert isinstance(request, GenerateRequest) and (request.seed, request.prompt) == (5, "green pear")
    assert newest not in paths_made


@pytest.mark.parametrize("meanwhile", ["saved", "deleted"])
def test_recent_images_are_the_newest_whatever_changes_while_they_are_read(
    qtbot: QtBot, opened: Callable[[], Desktop], monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    desktop = opened()
    (first,) = generate(qtbot, desktop, "red apple")
    gallery, right = desktop.gallery, desktop.generate_room.right
    assert gallery is not None
    release, reading, images = threading.Event(), threading.Event(), gallery.images

    def slowly(*arguments: Any) -> Any:
        found = images(*arguments)
        monkeypatch.setattr(gallery, "images", images)  # only the first time
        reading.set()
        release.wait(PATIENCE_MS / 1000)
        return found

    monkeypatch.setattr(gallery, "images", slowly)
    desktop.jobs.show_recent()
    qtbot.waitUntil(reading.is_set, timeout=PATIENCE_MS)
    expected = [first]
    if meanwhile == "saved":
        expected = [*generate(qtbot, desktop, "blue heart"), first]
    else:
        gallery.delete([gallery.images(0, 1)[0].id])
        expected = []
        desktop.jobs.show_recent()
    qtbot.waitUntil(lambda: [thumb.recent_image.path for thumb in right.thumbs] == expected, timeout=PATIENCE_MS)
    release.set()
    qtbot.wait(500)
    assert [thumb.recent_image.path for thumb in right.thumbs] == expected


def test_another_image_is_looked_at_while_a_job_runs(qtbot: QtBot, opened: Callable[[], Desktop]) -> None:
    desktop = opened()
    (first,) = generate(qtbot, desktop, "red apple")
    room, recorder = desktop.generate_room, EventRecorder(desktop)
    room.panel.sampling.steps.set_value(400)
    qtbot.mouseClick(room.panel.button, LEFT)
    qtbot.waitUntil(lambda: recorder.steps_done() > 2, timeout=PATIENCE_MS)
    look_at(qtbot, desktop, first)
    old = strip_of(desktop)
    done = recorder.steps_done()
    qtbot.waitUntil(lambda: recorder.steps_done() > done + 3, timeout=PATIENCE_MS)
    assert all(np.array_equal(one, other) for one, other in zip(strip_of(desktop), old, strict=True))
    qtbot.mouseClick(room.right.running, LEFT)
    assert room.filmstrip.maximum() == 400 and room.filmstrip.last_step() > done
    assert recorder.count(Started) == 1
    qtbot.mouseClick(room.controls.stop, LEFT)
    qtbot.waitUntil(lambda: not room.controls.stop.isVisible(), timeout=PATIENCE_MS)


def test_damaged_steps_are_named_and_the_image_is_shown(qtbot: QtBot, opened: Callable[[], Desktop]) -> None:
    desktop = opened()
    (path,) = generate(qtbot, desktop, "red apple")
    desktop = opened()
    (file,) = paths.steps().glob("*.npz")
    assert file.stat().st_mode & 0o077 == 0
    file.write_bytes(file.read_bytes()[:500])
    look_at(qtbot, desktop, path)
    room = desktop.generate_room
    assert "The steps of this image cannot be read" in room.banner.text() and not room.filmstrip.isVisible()
    assert room.controls.hint.text() == "The steps of this image are not kept"
    assert room.seed.text() == "Seed 3" and room.controls.use_settings.isVisible()
    assert list(paths.steps().glob("*.npz")) == []


def test_an_image_of_the_gallery_shows_its_steps_in_generate(qtbot: QtBot, opened: Callable[[], Desktop]) -> None:
    desktop = opened()
    (path,) = generate(qtbot, desktop, "red apple")
    generate(qtbot, desktop, "blue rocket")
    gallery: Any = desktop.window.show_room("Gallery")
    qtbot.waitUntil(lambda: gallery.model.rowCount() == 2, timeout=PATIENCE_MS)
    row = next(row for row in range(2) if gallery.model.image(gallery.model.index(row)).path == path)
    gallery.grid.setCurrentIndex(gallery.model.index(row))
    qtbot.waitUntil(lambda: gallery.selection_actions.only_image() is not None)
    menu = gallery.selection_actions.actions.menu(gallery.selection_actions.targets())
    next(action for action in menu.actions() if action.text() == "Show steps in Generate").trigger()
    room = desktop.generate_room
    qtbot.waitUntil(lambda: room.canvas.path() == path, timeout=PATIENCE_MS)
    assert desktop.window.current_room() == "Generate" and len(strip_of(desktop)) == STEPS
    assert room.title.text() == "red apple" and room.seed.text() == "Seed 3"


def test_the_limit_is_set_in_settings_where_the_use_is_shown_and_cleared(
    qtbot: QtBot, opened: Callable[[], Desktop]
) -> None:
    desktop = opened()
    first, second = generate(qtbot, desktop, "red apple", count=2)
    qtbot.mouseClick(desktop.window.settings_button, LEFT)
    dialog = next(iter(desktop.window.findChildren(SettingsDialog)))
    qtbot.waitUntil(lambda: dialog.steps_usage.text().endswith("for 2 images"), timeout=PATIENCE_MS)
    assert dialog.kept_steps.value() == 2.0 and dialog.clear_steps.isEnabled()
    qtbot.mouseClick(dialog.clear_steps, LEFT)
    qtbot.waitUntil(lambda: dialog.steps_usage.text() == "No steps are kept.", timeout=PATIENCE_MS)
    assert list(paths.steps().glob("*.npz")) == []
    look_at(qtbot, desktop, second)
    assert not desktop.generate_room.filmstrip.isVisible()
    dialog.kept_steps.chosen.emit(0.0)  # as chosen from the list
    dialog.done_button.click()
    generate(qtbot, desktop, "blue rocket")
    desktop = opened()
    assert desktop.settings.kept_steps_gib == 0 and list(paths.steps().glob("*.npz")) == []
    assert first.is_file() and second.is_file()


def test_what_leaves_the_trash_for_good_leaves_no_steps(
    qtbot: QtBot, opened: Callable[[], Desktop], monkeypatch: pytest.MonkeyPatch
) -> None:
    desktop = opened()
    first, second = generate(qtbot, desktop, "red apple", count=2)
    gallery, store = desktop.gallery, desktop.kept_steps.store
    assert gallery is not None and store is not None
    images = {image.path: image.id for image in gallery.images()}
    gallery.delete(images.values())
    assert store.settled_usage().images == 2  # they can come back
    gallery.undo([images[first]])
    monkeypatch.setattr("send2trash.send2trash", lambda path: Path(path).unlink())
    gallery.empty_trash()
    assert store.settled_usage().images == 1
    look_at(qtbot, desktop, first)
    assert len(strip_of(desktop)) == STEPS and not second.exists()

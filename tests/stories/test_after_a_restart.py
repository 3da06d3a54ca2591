"""What a person chose in Generate is there after a restart, also after a kill, and nobody waits for the disk."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.studio.settings import Theme, load_settings
from diffstudio.ui.app import Desktop
from diffstudio.ui.widgets.inputs.number_fields import DecimalField
from tests.models.tiny import write_tiny_checkpoint

pytestmark = pytest.mark.usefixtures("dressed")
LONG = 60_000  # ms: torch may be imported in here


@pytest.fixture
def opened(qtbot: QtBot, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Desktop]]:
    """Opens the desktop, which closes the one before: a restart."""
    monkeypatch.setattr(paths, "starter", lambda: home / "none")
    for name in ("alpha", "beta"):
        write_tiny_checkpoint(paths.checkpoints() / f"{name}.safetensors", size=32)
    made: list[Desktop] = []

    def open_it() -> Desktop:
        close_all()
        desktop = Desktop(load_settings())
        made.append(desktop)
        qtbot.addWidget(desktop.window)
        desktop.window.resize(1366, 768)
        desktop.window.show()
        chooser = desktop.generate_room.panel.checkpoint
        qtbot.waitUntil(lambda: desktop.worker is not None and chooser.current() is not None, timeout=LONG)
        return desktop

    def close_all() -> None:
        for desktop in made:
            desktop.window.close()
            desktop.close()

    yield open_it
    close_all()


def test_everything_chosen_is_there_again(qtbot: QtBot, opened: Callable[[], Desktop], tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), "red").save(tmp_path / "photo.png")
    panel = opened().generate_room.panel
    menu = panel.checkpoint.menu()
    next(entry for entry in menu.actions() if "beta" in entry.text().casefold()).trigger()
    qtbot.keyClicks(panel.prompt, "red apple")
    qtbot.keyClicks(panel.negative, "worm")
    steps = panel.sampling.steps.findChild(DecimalField)
    assert steps is not None
    steps.selectAll()
    qtbot.keyClicks(steps, "7")
    qtbot.keyClick(steps, Qt.Key.Key_Return)
    panel.size_control.width_box.selectAll()
    qtbot.keyClicks(panel.size_control.width_box, "48")
    qtbot.keyClick(panel.size_control.width_box, Qt.Key.Key_Return)
    panel.init_image.set_image(tmp_path / "photo.png")
    panel.hires_fix.open_button.click()
    panel.hires_fix.scale.chip(1.5).click()
    panel.seed.fixed.click()
    request = panel.request()
    assert request.checkpoint == "beta" and request.enlarge == 1.5 and request.width == 48

    panel = opened().generate_room.panel
    assert panel.request() == request
    assert panel.seed.is_fixed() and panel.hires_fix.remove_button.isVisible()
    assert "Set by hand" in panel.sampling.steps.toolTip()

    panel.hires_fix.remove_button.click()
    panel.init_image.clear()
    panel.seed.random.click()
    (paths.checkpoints() / "beta.safetensors").unlink()
    desktop = opened()
    panel = desktop.generate_room.panel
    assert "“beta” is missing" in desktop.generate_room.banner.text()
    assert (panel.request().checkpoint, panel.request().steps, panel.request().prompt) == ("alpha", 7, "red apple")
    assert not panel.seed.is_fixed() and panel.hires_fix.open_button.isVisible()


def test_a_kill_costs_a_second_and_no_write_is_on_the_windows_thread(
    qtbot: QtBot, opened: Callable[[], Desktop], monkeypatch: pytest.MonkeyPatch
) -> None:
    desktop = opened()
    panel = desktop.generate_room.panel
    threads, sync = set[str](), os.fsync

    def recorded(descriptor: int) -> None:
        threads.add(threading.current_thread().name)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    qtbot.keyClicks(panel.prompt, "red apple")
    file = paths.panel_state_file()
    qtbot.waitUntil(lambda: file.is_file() and '"red apple"' in file.read_text())
    desktop.preferences.add_prompt("red apple")
    desktop.preferences.set_settings(replace(desktop.settings, previews=False))
    desktop.panel_state.save_preset("Apples")
    for name, text in ((paths.settings_file(), "red apple"), (paths.presets_file(), "Apples")):
        qtbot.waitUntil(lambda name=name, text=text: name.is_file() and text in name.read_text())
    assert threads and "MainThread" not in threads


@pytest.mark.parametrize("text", ["{", json.dumps({"format": 99})])
def test_a_file_that_cannot_be_read_is_named_and_set_aside(
    opened: Callable[[], Desktop], home: Path, text: str
) -> None:
    (paths.data() / "generate.json").write_text(text)
    desktop = opened()
    assert "generate.json.damaged" in desktop.generate_room.banner.text()
    assert (paths.data() / "generate.json.damaged").read_text() == text
    assert desktop.generate_room.panel.request().steps > 0


def test_settings_from_before_open_with_the_defaults(opened: Callable[[], Desktop], home: Path) -> None:
    """A home of version 0.1 has no file of the panel."""
    paths.settings_file().write_text(json.dumps({"format": 1, "theme": "light", "prompt_history": ["ghost"]}))
    desktop = opened()
    assert desktop.settings.theme is Theme.LIGHT
    assert desktop.generate_room.panel.prompt.history() == ("ghost",)
    assert not desktop.generate_room.banner.isVisible()


def test_the_training_folder_is_inspected_again_after_a_restart(
    opened: Callable[[], Desktop], qtbot: QtBot, tmp_path: Path
) -> None:
    folder = tmp_path / "toys"
    folder.mkdir()
    for index in range(3):
        Image.new("RGB", (32, 32), (80 * index, 40, 90)).save(folder / f"{index}.png")
    desktop = opened()
    desktop.navigation.inspect_training_folder(folder)
    panel = desktop.window.room("Train").new_panel
    qtbot.waitUntil(panel.start.isVisible)
    panel.recipe.set_value("tiny")
    panel.recipe.chosen.emit("tiny")
    panel.minutes.field.setValue(25)

    panel = opened().window.show_room("Train").new_panel
    qtbot.waitUntil(panel.start.isVisible)
    settings = panel.run_settings()
    assert (settings.folder, panel.recipe.value(), settings.minutes) == (folder, "tiny", 25.0)

"""The first run: nothing is there yet, every empty room says what goes into it, and a first image is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLabel, QWidget
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.studio.events import Finished
from diffstudio.studio.settings import load_settings
from diffstudio.ui.app import GALLERY, GENERATE, MODELS, TRAIN, Desktop
from tests.models.tiny import write_tiny_checkpoint
from tests.ui.desktop_helpers import PATIENCE_MS, EventRecorder, close_desktop, drop_folder

pytestmark = [pytest.mark.usefixtures("dressed"), pytest.mark.timeout(300)]
CONTROL, LEFT = Qt.KeyboardModifier.ControlModifier, Qt.MouseButton.LeftButton


@pytest.fixture
def desktop(qtbot: QtBot, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desktop]:
    """A program that was just installed, without the starter."""
    monkeypatch.setattr(paths, "starter", lambda: home / "none")
    desktop = Desktop(load_settings())
    qtbot.addWidget(desktop.window)
    desktop.window.resize(1280, 720)
    desktop.window.show()
    qtbot.waitExposed(desktop.window)
    qtbot.waitUntil(lambda: desktop.worker is not None, timeout=PATIENCE_MS)
    yield desktop
    close_desktop(desktop)


def shown_texts(room: QWidget) -> set[str]:
    return {label.text() for label in room.findChildren(QLabel) if label.isVisible()}


def test_from_nothing_to_the_first_image(desktop: Desktop, qtbot: QtBot, tmp_path: Path) -> None:
    room, window = desktop.generate_room, desktop.window
    qtbot.waitUntil(lambda: room.empty.title.text() == "No checkpoint yet", timeout=PATIENCE_MS)
    assert room.empty.button.isVisible() and not room.panel.button.isEnabled()

    for key, name, title in (
        (Qt.Key.Key_2, GALLERY, "No images yet"),
        (Qt.Key.Key_3, MODELS, "No models yet"),
        (Qt.Key.Key_4, TRAIN, "Train on your own images"),
    ):
        qtbot.keyClick(window, key, CONTROL)
        other: Any = window.room(name)
        assert window.current_room() == name
        qtbot.waitUntil(lambda other=other, title=title: title in shown_texts(other), timeout=PATIENCE_MS)

    folder = tmp_path / "my models"
    write_tiny_checkpoint(folder / "tiny.safetensors")
    models: Any = window.show_room(MODELS)
    drop_folder(models, folder)
    qtbot.waitUntil(lambda: "One model was found" in models.message.text(), timeout=PATIENCE_MS)
    assert not models.empty.isVisible() and models.choose(folder / "tiny.safetensors")
    qtbot.mouseClick(models.details.use, LEFT)
    assert window.current_room() == GENERATE

    ears = EventRecorder(desktop)
    room.panel.prompt.setFocus()
    qtbot.keyClicks(room.panel.prompt, "red apple")
    qtbot.keyClick(room.panel.prompt, Qt.Key.Key_Return, CONTROL)
    qtbot.waitUntil(ears.heard(Finished), timeout=PATIENCE_MS)
    qtbot.keyClick(window, Qt.Key.Key_2, CONTROL)
    gallery: Any = window.room(GALLERY)
    qtbot.waitUntil(lambda: gallery.model.rowCount() == 1, timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: not gallery.empty.isVisible(), timeout=PATIENCE_MS)
    assert desktop.settings.model_folders == (folder,) and load_settings().model_folders == (folder,)

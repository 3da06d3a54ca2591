"""The Models room in the window: LoRAs and trigger words go into the prompt; a converted checkpoint can be used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.studio.library.weight_requests import Tool
from diffstudio.ui.app import GENERATE, MODELS, Desktop
from diffstudio.ui.models.weight_tool_dialogs import ToolDialog
from diffstudio.ui.window import RailButton
from tests.models.headers import write_header
from tests.ui.desktop_helpers import PATIENCE_MS, close_desktop, drop_folder, open_desktop

pytestmark = pytest.mark.usefixtures("dressed")


@pytest.fixture
def desktop(qtbot: QtBot, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desktop]:
    monkeypatch.setattr(paths, "starter", lambda: home / "none")
    layer = "lora_unet_mid_block_attentions_0_proj_in"
    write_header(
        paths.checkpoints() / "loras" / "ink.safetensors",
        {f"{layer}.lora_down.weight": (4, 1280), f"{layer}.lora_up.weight": (1280, 4)},
        metadata={"modelspec.trigger_phrase": "sumi-e, brush"},
    )
    desktop = open_desktop(qtbot)
    yield desktop
    close_desktop(desktop)


def test_a_lora_and_its_words_go_into_the_prompt(desktop: Desktop, qtbot: QtBot) -> None:
    prompt = desktop.generate_room.panel.prompt
    prompt.set_text("red apple")
    room: Any = desktop.window.show_room(MODELS)
    assert room.choose(paths.checkpoints() / "loras" / "ink.safetensors")
    qtbot.mouseClick(room.details.trigger_words.chips[0], Qt.MouseButton.LeftButton)
    assert prompt.text() == "red apple, sumi-e" and desktop.window.current_room() == MODELS
    qtbot.mouseClick(room.details.trigger_words.chips[0], Qt.MouseButton.LeftButton)  # again: it is there already
    assert prompt.text() == "red apple, sumi-e"
    qtbot.mouseClick(room.details.use, Qt.MouseButton.LeftButton)
    assert desktop.window.current_room() == GENERATE and prompt.text().startswith("red apple, sumi-e <lora:ink:")
    prompt.undo()
    assert prompt.text() == "red apple, sumi-e"


def test_what_was_made_in_the_room_can_be_drawn_with(desktop: Desktop, qtbot: QtBot) -> None:
    room: Any = desktop.window.show_room(MODELS)
    assert room.choose(paths.checkpoints() / "tiny.safetensors")
    qtbot.waitUntil(room.details.tools[Tool.CONVERT].isVisible, timeout=PATIENCE_MS)
    qtbot.mouseClick(room.details.tools[Tool.CONVERT], Qt.MouseButton.LeftButton)
    sheet = next(sheet for sheet in room.findChildren(ToolDialog) if sheet.isVisible())
    qtbot.keyClick(sheet, Qt.Key.Key_Return)
    made = paths.checkpoints() / "tiny-fp16.safetensors"
    qtbot.waitUntil(lambda: room.chosen() is not None and room.chosen().path == made, timeout=PATIENCE_MS)
    assert room.message.text().startswith("tiny-fp16.safetensors was saved")
    qtbot.mouseClick(room.details.use, Qt.MouseButton.LeftButton)
    chosen = desktop.generate_room.panel.checkpoint.current()
    assert desktop.window.current_room() == GENERATE and chosen is not None and chosen.path == made


def test_a_lora_dropped_on_the_window_is_brought_in_and_named_in_the_prompt(
    desktop: Desktop, qtbot: QtBot, tmp_path: Path
) -> None:
    layer = "lora_unet_mid_block_attentions_0_proj_in"
    dropped = write_header(
        tmp_path / "elsewhere" / "brush.safetensors",
        {f"{layer}.lora_down.weight": (4, 1280), f"{layer}.lora_up.weight": (1280, 4)},
        metadata={"ss_output_name": "brush"},
    )
    prompt = desktop.generate_room.panel.prompt
    prompt.set_text("red apple")
    desktop.window.show_room(GENERATE)
    drop_folder(desktop.window, dropped)
    qtbot.waitUntil(lambda: prompt.text().startswith("red apple <lora:brush:"), timeout=PATIENCE_MS)
    assert "brush.safetensors was added to" in desktop.window.banner.text()
    assert any(model.name == "brush" for model in desktop.checkpoints)


def test_what_is_dropped_and_no_model_is_said(desktop: Desktop, qtbot: QtBot, tmp_path: Path) -> None:
    (tmp_path / "odd.safetensors").write_bytes(b"nothing")
    drop_folder(desktop.window, tmp_path / "odd.safetensors")
    qtbot.waitUntil(lambda: "odd.safetensors" in desktop.window.banner.text(), timeout=PATIENCE_MS)
    assert desktop.generate_room.panel.prompt.text() == ""


def test_the_keys_of_a_room_work_once_its_button_was_pressed(desktop: Desktop, qtbot: QtBot) -> None:
    desktop.window.activateWindow()
    button = next(button for button in desktop.window.rail.findChildren(RailButton) if button.text() == MODELS)
    button.setFocus()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    room: Any = desktop.window.room(MODELS)
    here = desktop.window.focusWidget()
    assert here is not None and (here is room or room.isAncestorOf(here))

"""The Models room in the window: models are added, used, renamed, trashed, converted, and lead to their runs."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QMessageBox
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.studio.library.weight_requests import Tool
from diffstudio.studio.requests import GenerateRequest
from diffstudio.ui.app import GENERATE, MODELS, TRAIN, Desktop
from diffstudio.ui.models.adding.link_dialog import LinkDialog
from diffstudio.ui.models.rename_dialog import RenameDialog
from diffstudio.ui.models.weight_tool_dialogs import ToolDialog
from diffstudio.ui.window import RailButton
from tests.models.headers import write_header
from tests.models.tiny import write_tiny_checkpoint
from tests.studio.library.file_server import FileServer
from tests.studio.library.test_link_download import lora, server
from tests.studio.library.test_model_files import peft_adapter
from tests.ui.desktop_helpers import PATIENCE_MS, close_desktop, drop_folder, open_desktop, quick_recipe

__all__ = ["lora", "server"]
LAYER = "lora_unet_mid_block_attentions_0_proj_in"
LORA = {f"{LAYER}.lora_down.weight": (4, 1280), f"{LAYER}.lora_up.weight": (1280, 4)}
pytestmark = pytest.mark.usefixtures("dressed")


@pytest.fixture
def desktop(qtbot: QtBot, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desktop]:
    monkeypatch.setattr(paths, "starter", lambda: home / "none")
    write_header(
        paths.checkpoints() / "loras" / "ink.safetensors", LORA, metadata={"modelspec.trigger_phrase": "sumi-e, brush"}
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
    dropped = write_header(tmp_path / "elsewhere" / "brush.safetensors", LORA, metadata={"ss_output_name": "brush"})
    prompt = desktop.generate_room.panel.prompt
    prompt.set_text("red apple")
    desktop.window.show_room(GENERATE)
    drop_folder(desktop.window, dropped)
    qtbot.waitUntil(lambda: prompt.text().startswith("red apple <lora:brush:"), timeout=PATIENCE_MS)
    assert "brush.safetensors was added to" in desktop.window.banner.text()
    assert any(model.name == "brush" for model in desktop.checkpoints)


def test_a_tokenizer_dropped_on_the_window_is_put_where_it_is_looked_for(
    desktop: Desktop, qtbot: QtBot, tmp_path: Path
) -> None:
    dropped = tmp_path / "elsewhere" / "tokenizer.json"
    dropped.parent.mkdir()
    dropped.write_text('{"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 1, "content": "<|im_start|>"}]}')
    drop_folder(desktop.window, dropped)
    qtbot.waitUntil(lambda: "tokenizer.json was added to" in desktop.window.banner.text(), timeout=PATIENCE_MS)
    place = paths.checkpoints() / "tokenizers" / "qwen"
    assert str(place) in desktop.window.banner.text() and (place / "tokenizer.json").is_file()


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


# The files of the models


def room_of(desktop: Desktop) -> Any:
    return desktop.window.show_room(MODELS)


def test_a_model_that_is_put_into_a_folder_appears_by_itself(desktop: Desktop, qtbot: QtBot) -> None:
    room = room_of(desktop)
    names = ("new", "deeper/newer")
    (paths.checkpoints() / "loras" / "deeper").mkdir()
    for name in names:
        path = write_header(paths.checkpoints() / "loras" / f"{name}.safetensors", LORA)
        qtbot.waitUntil(lambda path=path: room.model.row_of(path) is not None, timeout=PATIENCE_MS)


def test_a_folder_that_is_created_later_is_noticed(desktop: Desktop, qtbot: QtBot, tmp_path: Path) -> None:
    later = tmp_path / "drive" / "models"
    desktop.preferences.set_settings(replace(desktop.settings, model_folders=(later,)))
    qtbot.waitUntil(lambda: str(tmp_path) in desktop.model_library._watcher.watched(), timeout=PATIENCE_MS)
    path = write_header(later / "brush.safetensors", LORA)
    room = room_of(desktop)
    qtbot.waitUntil(lambda: room.model.row_of(path) is not None, timeout=PATIENCE_MS)


def test_a_renamed_lora_keeps_its_notes_and_everything_that_names_it_follows(
    desktop: Desktop, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert desktop.worker is not None
    old = paths.checkpoints() / "loras" / "ink.safetensors"
    old.with_name("ink.preview.png").write_bytes(b"")
    panel = desktop.generate_room.panel
    panel.prompt.set_text("red apple <lora:ink:0.7>")
    desktop.panel_state.save_preset("drawing")
    monkeypatch.setattr(desktop.worker._queue, "take", lambda: None)  # what is submitted waits
    job = desktop.worker.submit(GenerateRequest("pear <lora:ink:1>"))
    room = room_of(desktop)
    assert room.choose(old)
    room.details.notes.note.setPlainText("0.6 is enough")
    room.details.notes.set_starred(True)

    qtbot.keyClick(room.list, Qt.Key.Key_F2)
    dialog = next(each for each in room.findChildren(RenameDialog) if each.isVisible())
    qtbot.keyClicks(dialog.name, "brush")
    qtbot.keyClick(dialog.name, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: "ink.safetensors is now brush.safetensors" in room.message.text(), timeout=PATIENCE_MS)
    new = old.with_name("brush.safetensors")
    assert room.chosen().path == new and not old.exists() and new.with_name("brush.preview.png").exists()
    assert room.details.notes.note.toPlainText() == "0.6 is enough" and room.details.star.text() == "Starred"
    assert panel.prompt.text() == "red apple <lora:brush:0.7>" and not panel.loras.rows[0].suggestions
    preset = desktop.panel_state.presets.find("drawing")
    assert preset is not None and preset.state.request.prompt == "red apple <lora:brush:0.7>"
    qtbot.waitUntil(lambda: "<lora:brush:1>" in desktop.worker.pending()[0].request.prompt, timeout=PATIENCE_MS)
    desktop.worker._queue.remove(job)


def test_a_prompt_that_is_too_long_for_the_new_name_keeps_the_old_one_and_is_named(
    desktop: Desktop, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert desktop.worker is not None
    panel, long = desktop.generate_room.panel, "<lora:ink:1>".ljust(10_000, "x")
    panel.prompt.set_text(long)
    desktop.panel_state.save_preset("long")
    panel.prompt.set_text("<lora:ink:1>")
    monkeypatch.setattr(desktop.worker._queue, "take", lambda: None)  # what is submitted waits
    jobs = [desktop.worker.submit(GenerateRequest(prompt)) for prompt in (long, "pear <lora:ink:1>")]
    said: list[str] = []
    monkeypatch.setattr(desktop.generate_room, "show_message", lambda kind, text: said.append(text))
    room = room_of(desktop)
    ink = next(one for one in desktop.checkpoints if one.name == "ink")
    uses: list[str] = []
    pending, readers = desktop.worker.pending, list[threading.Thread]()
    with monkeypatch.context() as patch:
        patch.setattr(desktop.worker, "pending", lambda: (readers.append(threading.current_thread()), pending())[1])
        desktop.model_files.find_uses(ink, uses.extend)
        qtbot.waitUntil(lambda: bool(uses))
    assert "2 waiting jobs use it" in " ".join(uses)
    assert readers and threading.main_thread() not in readers
    room.rename_requested.emit(ink, "brush")
    qtbot.waitUntil(lambda: "is now brush.safetensors" in room.message.text(), timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: any("A waiting job keeps the old name ink" in text for text in said), timeout=PATIENCE_MS)
    assert any("The preset long keeps the old name ink" in text for text in said)
    assert [one.request.prompt for one in desktop.worker.pending()] == [long, "pear <lora:brush:1>"]
    assert panel.prompt.text() == "<lora:brush:1>"
    for job in jobs:
        desktop.worker._queue.remove(job)


@pytest.fixture
def system_trash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the system trash."""
    trash = tmp_path / "system-trash"
    trash.mkdir()
    monkeypatch.setattr("send2trash.send2trash", lambda path: shutil.move(path, trash))
    return trash


def test_an_adapter_goes_to_the_trash_with_its_folder(desktop: Desktop, qtbot: QtBot, system_trash: Path) -> None:
    room = room_of(desktop)
    weights = peft_adapter(paths.checkpoints() / "loras" / "cats")
    weights.with_name("adapter_model.png").write_bytes(b"")  # would be a sidecar of a file
    qtbot.waitUntil(lambda: room.choose(weights), timeout=PATIENCE_MS)
    room.file_actions.ask_to_trash()
    qtbot.waitUntil(lambda: bool(room.findChildren(QMessageBox)))
    box = room.findChildren(QMessageBox)[-1]
    assert box.text() == "Move cats to the trash?" and "adapter_model.png" not in box.informativeText()
    next(button for button in box.buttons() if button.text() == "Delete").click()
    qtbot.waitUntil(lambda: room.message.text() == "cats was moved to the trash.", timeout=PATIENCE_MS)
    assert {each.name for each in system_trash.iterdir()} == {"cats"}
    assert weights.parent.parent.is_dir()


def test_the_chosen_checkpoint_stays_chosen_under_its_new_name(desktop: Desktop, qtbot: QtBot) -> None:
    room, chooser = room_of(desktop), desktop.generate_room.panel.checkpoint
    tiny = chooser.current()
    assert tiny is not None
    desktop.generate_room.panel.sampling.steps.set_value(17)
    room.rename_requested.emit(tiny, "small")
    qtbot.waitUntil(lambda: "is now small.safetensors" in room.message.text(), timeout=PATIENCE_MS)
    current = chooser.current()
    assert current is not None and current.name == "small"
    assert desktop.generate_room.panel.sampling.steps.value() == 17
    assert not desktop.generate_room.banner.isVisible(), "nothing is missing"


def test_what_uses_a_model_is_named_before_it_goes_to_the_trash(
    desktop: Desktop, qtbot: QtBot, system_trash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert desktop.worker is not None
    path = paths.checkpoints() / "loras" / "ink.safetensors"
    path.with_name("ink.txt").write_text("notes")
    desktop.generate_room.panel.prompt.set_text("red apple <lora:ink:0.7>")
    desktop.panel_state.save_preset("drawing")
    monkeypatch.setattr(desktop.worker._queue, "take", lambda: None)  # what is submitted waits
    job = desktop.worker.submit(GenerateRequest("pear <lora:ink:1>"))
    room = room_of(desktop)
    assert room.choose(path)
    qtbot.keyClick(room.list, Qt.Key.Key_Delete)
    qtbot.waitUntil(lambda: bool(room.findChildren(QMessageBox)))
    box = room.findChildren(QMessageBox)[-1]
    for text in ("ink.txt", "One waiting job uses it", "Presets with it: drawing"):
        assert text in box.informativeText()
    next(button for button in box.buttons() if button.text() == "Delete").click()
    qtbot.waitUntil(lambda: "moved to the trash" in room.message.text(), timeout=PATIENCE_MS)
    assert "ink.safetensors and the file beside it were moved" in room.message.text()
    assert {each.name for each in system_trash.iterdir()} == {"ink.safetensors", "ink.txt"} and not path.exists()
    desktop.worker._queue.remove(job)


def test_a_folder_is_added_where_it_is(desktop: Desktop, qtbot: QtBot, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    write_header(folder / "brush.safetensors", LORA)
    room = room_of(desktop)
    drop_folder(room, folder)
    qtbot.waitUntil(lambda: "One model was found in" in room.message.text(), timeout=PATIENCE_MS)
    assert folder in desktop.settings.model_folders and (folder / "brush.safetensors").is_file()
    assert room.choose(folder / "brush.safetensors")
    drop_folder(room, folder)  # again
    qtbot.waitUntil(lambda: desktop.settings.model_folders == (folder,))


def test_a_downloaded_model_is_selected(desktop: Desktop, qtbot: QtBot, server: FileServer, lora: bytes) -> None:
    server.files["/brush.safetensors"] = lora
    room = room_of(desktop)
    room.activateWindow()
    qtbot.keyClick(room.list, Qt.Key.Key_L, Qt.KeyboardModifier.ControlModifier)
    dialog = next(each for each in room.findChildren(LinkDialog) if each.isVisible())
    qtbot.keyClicks(dialog.link, server.link("/brush.safetensors"))
    qtbot.keyClick(dialog.link, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: dialog.accept_button.text().startswith("Fetch"), timeout=PATIENCE_MS)
    qtbot.keyClick(dialog.link, Qt.Key.Key_Return)
    made = paths.checkpoints() / "loras" / "brush.safetensors"
    qtbot.waitUntil(lambda: room.chosen() is not None and room.chosen().path == made, timeout=PATIENCE_MS)
    assert "brush.safetensors was downloaded to" in room.message.text()


def test_the_checkpoint_of_a_run_leads_to_its_run(desktop: Desktop, qtbot: QtBot, home: Path) -> None:
    run = paths.runs() / "shapes"
    write_tiny_checkpoint(run / "checkpoints" / "latest.safetensors")
    quick_recipe().write(run / "recipe.toml")
    room = room_of(desktop)
    qtbot.mouseClick(room.rescan_button, Qt.MouseButton.LeftButton)
    latest = run / "checkpoints" / "latest.safetensors"
    qtbot.waitUntil(lambda: room.model.row_of(latest) is not None, timeout=PATIENCE_MS)
    assert room.choose(latest)
    qtbot.mouseClick(room.details.run, Qt.MouseButton.LeftButton)
    train: Any = desktop.window.room(TRAIN)
    assert desktop.window.current_room() == TRAIN and train.selected() == run

"""Making another file of a model in the room: the sheets, what is made beside the window, and how it is stopped."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QFileDialog
from pytestqt.qtbot import QtBot

from diffstudio.models.checkpoint import Checkpoint, Role
from diffstudio.models.library.library import Library
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.state_dicts.prefixes import EMA_WEIGHTS
from diffstudio.models.tools.spec import Method, Precision, ToolResult
from diffstudio.studio.library.annotations import Annotations
from diffstudio.studio.library.weight_requests import ConvertRequest, MergeRequest, Tool
from diffstudio.ui.models.room import ModelsRoom
from diffstudio.ui.models.weight_tool_dialogs import (
    ConvertDialog,
    ExportDialog,
    FuseLoraDialog,
    MergeDialog,
    PruneDialog,
    ToolDialog,
)
from tests.models.headers import write_header
from tests.models.tiny import write_tiny_checkpoint

PATIENCE_MS = 60_000  # torch is imported in here, on a machine that may be busy


@pytest.fixture
def models(tmp_path: Path, home: Path) -> Path:
    """A folder with two checkpoints trained here, a LoRA with its story, a pickle, and a file that is none."""
    folder = tmp_path / "models"
    for seed, name in enumerate(("one", "two")):
        write_tiny_checkpoint(folder / f"{name}.safetensors", seed=seed)
    torch.save({"state_dict": {"emb_params": torch.ones(2, 768)}}, folder / "lace.pt")
    (folder / "broken.safetensors").write_bytes(b"nothing")
    return folder


@pytest.fixture
def room(qtbot: QtBot, dressed: QApplication, models: Path) -> Iterator[ModelsRoom]:
    """Rescans as the window would."""
    library = Library([models])
    room = ModelsRoom(None, Annotations(), lambda: models)
    room.rescan_requested.connect(lambda: room.set_checkpoints(library.scan(), library.problems))
    qtbot.addWidget(room, before_close_func=lambda widget: widget.shut_down())
    room.resize(1100, 800)
    with qtbot.waitExposed(room):
        room.show()
    room.rescan_requested.emit()
    yield room


def opened(room: ModelsRoom, qtbot: QtBot, name: str, tool: Tool) -> ToolDialog:
    """The sheet that a click on a tool's button opens."""
    entry = next(entry for entry in room._checkpoints() if entry.name == name)
    room.choose(entry.path)
    button = room.details.tools[tool]
    qtbot.waitUntil(button.isVisible)
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    sheet = next(sheet for sheet in room.findChildren(ToolDialog) if sheet.isVisible())
    assert sheet.isModal() and sheet.windowTitle().endswith(entry.title)
    return sheet


def accept(sheet: ToolDialog, qtbot: QtBot) -> None:
    assert sheet.accept_button.isEnabled(), sheet.trouble.text()
    qtbot.mouseClick(sheet.accept_button, Qt.MouseButton.LeftButton)


def test_converted_and_then_chosen(room: ModelsRoom, qtbot: QtBot, models: Path) -> None:
    sheet = opened(room, qtbot, "one", Tool.CONVERT)
    assert isinstance(sheet, ConvertDialog) and sheet.name.text() == "one-fp16" and sheet.place.text() == str(models)
    assert "Needs about" in sheet.weight.text() and " free." in sheet.weight.text()
    with qtbot.waitSignal(room.tool_runner.made, timeout=PATIENCE_MS) as caught:
        accept(sheet, qtbot)
        assert (
            room.tool_runner.bar.isVisible() and room.tool_runner.bar.what.text() == "Converting: one-fp16.safetensors"
        )
    made: ToolResult = caught.args[0]
    assert made.path == models / "one-fp16.safetensors" and read_checkpoint(made.path).dtype == "F16"
    chosen = room.chosen()
    assert chosen is not None and chosen.path == made.path
    assert room.message.text().startswith("one-fp16.safetensors was made (") and str(models) in room.message.text()
    qtbot.waitUntil(lambda: not room.tool_runner.bar.isVisible())


def test_merged_between_two(room: ModelsRoom, qtbot: QtBot, models: Path) -> None:
    sheet = opened(room, qtbot, "one", Tool.MERGE)
    assert isinstance(sheet, MergeDialog) and sheet.second.value() == models / "two.safetensors"
    assert not sheet.method.isVisible() and not sheet.third.isVisible()  # there is nothing to take a difference from
    sheet.share._slider.setValue(25)
    assert sheet.sum.text() == "75% of one, 25% of two" and sheet.name.text() == "one-two-0.25"
    qtbot.keyClicks(sheet.name, "s")  # a name of one's own stays
    sheet.share._slider.setValue(30)
    assert sheet.name.text() == "one-two-0.25s"
    with qtbot.waitSignal(room.tool_runner.made, timeout=PATIENCE_MS) as caught:
        accept(sheet, qtbot)
    found = safetensors.torch.load_file(caught.args[0].path)
    a, b = (safetensors.torch.load_file(models / f"{name}.safetensors") for name in ("one", "two"))
    assert all(torch.equal(value, torch.lerp(a[name], b[name], 0.3)) for name, value in found.items())
    assert dict(room.details.model_facts.facts())["Merged from"] == "70% of one, 30% of two"


def test_adding_what_one_learnt(qtbot: QtBot, dressed: QApplication, room: ModelsRoom, models: Path) -> None:
    write_tiny_checkpoint(models / "three.safetensors", seed=2)
    room.rescan_requested.emit()
    sheet = opened(room, qtbot, "one", Tool.MERGE)
    assert isinstance(sheet, MergeDialog) and sheet.method.isVisible()
    wanted: list[object] = []
    sheet.wanted.connect(wanted.append)
    sheet.wanted.disconnect(room.tool_runner.carry_out)
    qtbot.mouseClick(sheet.method.chip(Method.ADD_DIFFERENCE), Qt.MouseButton.LeftButton)
    assert sheet.third.isVisible() and sheet.second.value() != sheet.third.value() and sheet.share.value() == 1
    sheet.third.set_value(sheet.second.value())
    sheet._follow()
    assert not sheet.accept_button.isEnabled() and "B and C are the same" in sheet.trouble.text()
    sheet.second.set_value(models / "two.safetensors")
    sheet.third.set_value(models / "three.safetensors")
    sheet._follow()
    assert sheet.sum.text() == "one + 1 × (two − three)"
    accept(sheet, qtbot)
    request = wanted[0]
    assert isinstance(request, MergeRequest) and [one.name for one in request.inputs] == ["one", "two", "three"]
    assert request.method is Method.ADD_DIFFERENCE and request.share == 1.0


def test_a_pickle_is_offered_a_safer_form(room: ModelsRoom, qtbot: QtBot, models: Path) -> None:
    room.choose(models / "lace.pt")
    qtbot.waitUntil(room.details.warning.isVisible)
    assert "was looked through" in room.details.warning.text()
    qtbot.mouseClick(room.details.warning.action, Qt.MouseButton.LeftButton)
    sheet = next(sheet for sheet in room.findChildren(ToolDialog) if sheet.isVisible())
    assert sheet.chosen_precision() is Precision.KEEP and sheet.place.text() == str(models / "embeddings")
    with qtbot.waitSignal(room.tool_runner.made, timeout=PATIENCE_MS) as caught:
        accept(sheet, qtbot)
    assert torch.equal(safetensors.torch.load_file(caught.args[0].path)["emb_params"], torch.ones(2, 768))
    assert not room.details.warning.isVisible()


def test_names_places_and_full_disks(
    room: ModelsRoom, qtbot: QtBot, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheet = opened(room, qtbot, "one", Tool.CONVERT)
    for name, why in (
        ("two", "That name is taken"),
        ("", "Enter a name"),
        ("a/b", "must not contain"),
        ("x.", "end with a full stop"),
    ):
        sheet.name.clear()
        qtbot.keyClicks(sheet.name, name)
        sheet._name_edited()
        assert why in sheet.trouble.text() and sheet.trouble.isVisible() and not sheet.accept_button.isEnabled()
        column = sheet.layout()  # all of it can be read
        assert column is not None and sheet.height() >= column.heightForWidth(sheet.width())
        assert sheet.trouble.height() >= sheet.trouble.heightForWidth(sheet.trouble.width())
    qtbot.keyClicks(sheet.name, "y")
    sheet.set_place(tmp_path / "elsewhere" / "deeper")
    assert sheet.accept_button.isEnabled() and sheet.target() == tmp_path / "elsewhere" / "deeper" / "x.y.safetensors"
    qtbot.mouseClick(sheet.change_place, Qt.MouseButton.LeftButton)
    dialog = next(dialog for dialog in sheet.findChildren(QFileDialog) if dialog.isVisible())
    dialog.fileSelected.emit(str(models))
    dialog.reject()
    assert sheet.place.text() == str(models)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))  # type: ignore[attr-defined]
    sheet._accept()
    assert "Not enough free space" in sheet.trouble.text() and sheet.isVisible() and not room.tool_runner.busy()
    qtbot.keyClick(sheet, Qt.Key.Key_Escape)
    assert not sheet.isVisible()


def test_what_cannot_be_used_offers_no_tools(room: ModelsRoom, qtbot: QtBot, models: Path) -> None:
    room.choose(models / "one.safetensors")
    qtbot.waitUntil(room.details.tools[Tool.CONVERT].isVisible)
    shown = [tool for tool, button in room.details.tools.items() if button.isVisible()]
    assert shown == [Tool.CONVERT, Tool.MERGE]  # nothing to prune, no pipeline in diffusers, no LoRA for it
    room.choose(models / "broken.safetensors")
    assert (
        not any(button.isVisible() for button in room.details.tools.values())
        and not room.details._making_title.isVisible()
    )


def large(folder: Path) -> Checkpoint:
    """Half a gigabyte of nothing."""
    shapes = {f"encoder.block.{number}.layer.0.SelfAttention.q.weight": (1024, 1024) for number in range(128)}
    return replace(
        read_checkpoint(write_header(folder / "large.safetensors", shapes | {"shared.weight": (100, 8)}, "F32")),
        role=Role.TEXT_ENCODER,
    )


def test_stopped_nothing_is_left_and_the_next_is_made(room: ModelsRoom, qtbot: QtBot, models: Path) -> None:
    checkpoint = large(models)
    room.tool_runner.carry_out(ConvertRequest(checkpoint, models / "short.safetensors", Precision.FP16))
    room.tool_runner.carry_out(
        ConvertRequest(read_checkpoint(models / "one.safetensors"), models / "next.safetensors", Precision.FP16)
    )
    qtbot.waitUntil(lambda: (room.tool_runner.bar.line.fraction() or 0) > 0.05, timeout=PATIENCE_MS)
    assert list(models.glob(".diffstudio-*.part"))
    with qtbot.waitSignals([room.tool_runner.stopped, room.tool_runner.made], timeout=PATIENCE_MS):
        qtbot.mouseClick(room.tool_runner.bar.stop, Qt.MouseButton.LeftButton)
    assert not {name for name in os.listdir(models) if name == "short.safetensors" or name.endswith(".part")}
    assert (models / "next.safetensors").is_file()
    qtbot.waitUntil(lambda: not room.tool_runner.bar.isVisible())


def test_closing_the_window_leaves_nothing_half(room: ModelsRoom, qtbot: QtBot, models: Path) -> None:
    room.tool_runner.carry_out(ConvertRequest(large(models), models / "short.safetensors", Precision.FP16))
    qtbot.waitUntil(lambda: (room.tool_runner.bar.line.fraction() or 0) > 0.05, timeout=PATIENCE_MS)
    room.shut_down()
    assert not list(models.glob("short*"))


def test_what_fails_says_why_in_the_room(room: ModelsRoom, qtbot: QtBot, models: Path) -> None:
    tensors = safetensors.torch.load_file(models / "two.safetensors")
    name = next(iter(tensors))
    tensors[name][0] = torch.nan
    metadata = dict(read_checkpoint(models / "two.safetensors").metadata)
    safetensors.torch.save_file(tensors, models / "burnt.safetensors", metadata)
    one, burnt = (read_checkpoint(models / f"{each}.safetensors") for each in ("one", "burnt"))
    with qtbot.waitSignal(room.tool_runner.failed, timeout=PATIENCE_MS):
        room.tool_runner.carry_out(MergeRequest((one, burnt), models / "x.safetensors"))
    assert f"{name} contains NaN values" in room.message.text() and not list(models.glob("x*"))


# ---- the other sheets ------------------------------------------------------------------------------------------------


def test_the_sheet_that_prunes(qtbot: QtBot, dressed: QApplication, models: Path) -> None:
    checkpoint = replace(read_checkpoint(models / "one.safetensors"), size_bytes=3_000_000_000)
    sheet = PruneDialog(checkpoint, models, {EMA_WEIGHTS: 1_000_000_000, "the trainer's notes": 8})
    qtbot.addWidget(sheet)
    sheet.show()
    assert "EMA copies of the weights: 1.0 GB" in sheet.lines.text() and "2.0 GB" in sheet.weight.text()
    qtbot.mouseClick(sheet.ema, Qt.MouseButton.LeftButton, pos=sheet.ema.rect().center() * 0.1)
    sheet.ema.setChecked(True)
    request = sheet.request()
    assert request.target == models / "one-pruned.safetensors" and getattr(request, "ema", False)
    without = PruneDialog(checkpoint, models, {"the trainer's notes": 8})
    qtbot.addWidget(without)
    without.show()
    assert not without.ema.isVisible()


def test_the_sheets_that_bake_and_export(qtbot: QtBot, dressed: QApplication, models: Path) -> None:
    checkpoint = replace(read_checkpoint(models / "one.safetensors"), family="sd1")
    lora = replace(checkpoint, role=Role.LORA, path=models / "ink.safetensors", name="ink", title="Ink")
    sheet = FuseLoraDialog(checkpoint, models, [checkpoint, lora])
    qtbot.addWidget(sheet)
    assert sheet.accept_button.text() == "Fuse" and sheet.name.text() == "one-ink"
    sheet.strength.set_value(0)
    sheet._follow()
    assert not sheet.accept_button.isEnabled()
    sheet.strength.set_value(0.6)
    assert getattr(sheet.request(), "loras", None) == ((lora, 0.6),)
    out = ExportDialog(checkpoint, models)
    qtbot.addWidget(out)
    assert out.target() == models / "one-diffusers" and out.request().target.suffix == ""


# ---- words, and what lies beside a file ----------------------------------------------------------------------------------


@pytest.fixture
def told(models: Path, room: ModelsRoom) -> Path:
    """A LoRA of another trainer, with Civitai's description beside it."""
    frequency = {"10_inkwash": {"inkwash": 40, "mountain": 30, "mist": 12}}
    path = write_header(
        models / "ink.safetensors",
        {
            "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": (4, 1280),
            "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": (1280, 4),
        },
        metadata={
            "ss_tag_frequency": json.dumps(frequency),
            "ss_base_model_version": "sd_v1",
            "ss_output_name": "ink-v3",
        },
    )
    (models / "ink.civitai.info").write_text(
        json.dumps({"trainedWords": ["sumi-e"], "description": "<b>Brush</b> and ink"})
    )
    (models / "ink.json").write_text(json.dumps({"preferred weight": 0.8}))
    from PySide6.QtGui import QImage

    picture = QImage(64, 64, QImage.Format.Format_RGB32)
    picture.fill(Qt.GlobalColor.red)
    assert picture.save(str(models / "ink.preview.png"))
    room.rescan_requested.emit()
    room.choose(path)
    return path


def test_words_are_shown_clicked_and_copied(room: ModelsRoom, qtbot: QtBot, told: Path) -> None:
    qtbot.waitUntil(lambda: room.details.words.words() == ["sumi-e", "inkwash"])
    assert room.details.tags.words() == ["mountain", "mist"]
    chip = room.details.tags.chips[0]
    assert "30 of its training images" in chip.toolTip() and chip.accessibleName() == "Add mountain to the prompt"
    with qtbot.waitSignal(room.trigger_words_requested) as caught:
        qtbot.mouseClick(chip, Qt.MouseButton.LeftButton)
    assert caught.args == ["mountain"] and "“mountain” is in the prompt now" in room.message.text()
    chip.setFocus()
    with qtbot.waitSignal(room.trigger_words_requested):
        qtbot.keyClick(chip, Qt.Key.Key_Space)
    qtbot.mouseClick(room.details.words.copy, Qt.MouseButton.LeftButton)
    assert QApplication.clipboard().text() == "sumi-e, inkwash"


def test_a_lora_goes_into_the_prompt(room: ModelsRoom, qtbot: QtBot, told: Path) -> None:
    assert room.details.use.text() == "Use in prompt" == room.details.use.accessibleName()
    for act in (
        lambda: qtbot.mouseClick(room.details.use, Qt.MouseButton.LeftButton),
        lambda: qtbot.keyClick(room.list, Qt.Key.Key_Return),
    ):
        with qtbot.waitSignal(room.use_in_prompt_requested) as caught:
            act()
        assert caught.args[0].path == told


def test_what_lies_beside_it_is_told_and_searched(room: ModelsRoom, qtbot: QtBot, told: Path) -> None:
    qtbot.waitUntil(lambda: room.details.about.text() == "Brush and ink")
    assert room.details.picture.image().pixelColor(10, 10) == Qt.GlobalColor.red
    assert dict(room.details.model_facts.facts())["Weight"] == "0.8, recommended by its author"
    training = dict(room.details.training_facts.facts())
    assert (training["Base model"], training["Output name"]) == ("sd_v1", "ink-v3")
    qtbot.keyClicks(room.filter.search, "brush sumi-e")
    qtbot.waitUntil(lambda: room.model.rowCount() == 1)
    assert room.chosen() is not None

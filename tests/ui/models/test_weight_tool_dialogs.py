"""The weight tools in the Models room: their dialogs, the files they write, and cancelling."""

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

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.types import Role
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
    """The dialog that a click on a tool's button opens."""
    entry = next(entry for entry in room._checkpoints() if entry.name == name)
    room.choose(entry.path)
    button = room.details.tools[tool]
    qtbot.waitUntil(button.isVisible)
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    dialog = next(dialog for dialog in room.findChildren(ToolDialog) if dialog.isVisible())
    assert dialog.isModal() and dialog.windowTitle().endswith(entry.title)
    return dialog


def accept(dialog: ToolDialog, qtbot: QtBot) -> None:
    assert dialog.accept_button.isEnabled(), dialog.problem.text()
    qtbot.mouseClick(dialog.accept_button, Qt.MouseButton.LeftButton)


def test_converted_and_then_chosen(room: ModelsRoom, qtbot: QtBot, models: Path) -> None:
    dialog = opened(room, qtbot, "one", Tool.CONVERT)
    assert (
        isinstance(dialog, ConvertDialog)
        and dialog.name.text() == "one-fp16"
        and dialog.folder_label.text() == str(models)
    )
    assert "Needs about" in dialog.size_note.text() and " free." in dialog.size_note.text()
    with qtbot.waitSignal(room.tool_runner.finished, timeout=PATIENCE_MS) as caught:
        accept(dialog, qtbot)
        assert (
            room.tool_runner.bar.isVisible() and room.tool_runner.bar.title.text() == "Converting: one-fp16.safetensors"
        )
    made: ToolResult = caught.args[0]
    assert made.path == models / "one-fp16.safetensors" and read_checkpoint(made.path).dtype == "F16"
    chosen = room.chosen()
    assert chosen is not None and chosen.path == made.path
    assert room.message.text().startswith("one-fp16.safetensors was saved (") and str(models) in room.message.text()
    qtbot.waitUntil(lambda: not room.tool_runner.bar.isVisible())


def test_merged_between_two(room: ModelsRoom, qtbot: QtBot, models: Path) -> None:
    dialog = opened(room, qtbot, "one", Tool.MERGE)
    assert isinstance(dialog, MergeDialog) and dialog.checkpoint_b.value() == models / "two.safetensors"
    assert (
        not dialog.method.isVisible() and not dialog.checkpoint_c.isVisible()
    )  # there is nothing to take a difference from
    dialog.multiplier._slider.setValue(25)
    assert dialog.formula.text() == "75% of one, 25% of two" and dialog.name.text() == "one-two-0.25"
    qtbot.keyClicks(dialog.name, "s")  # a name of one's own stays
    dialog.multiplier._slider.setValue(30)
    assert dialog.name.text() == "one-two-0.25s"
    with qtbot.waitSignal(room.tool_runner.finished, timeout=PATIENCE_MS) as caught:
        accept(dialog, qtbot)
    found = safetensors.torch.load_file(caught.args[0].path)
    a, b = (safetensors.torch.load_file(models / f"{name}.safetensors") for name in ("one", "two"))
    assert all(torch.equal(value, torch.lerp(a[name], b[name], 0.3)) for name, value in found.items())
    assert dict(room.details.model_table.facts())["Merged from"] == "70% of one, 30% of two"


def test_adding_what_one_learnt(qtbot: QtBot, dressed: QApplication, room: ModelsRoom, models: Path) -> None:
    write_tiny_checkpoint(models / "three.safetensors", seed=2)
    room.rescan_requested.emit()
    dialog = opened(room, qtbot, "one", Tool.MERGE)
    assert isinstance(dialog, MergeDialog) and dialog.method.isVisible()
    requests: list[object] = []
    dialog.requested.connect(requests.append)
    dialog.requested.disconnect(room.tool_runner.submit)
    qtbot.mouseClick(dialog.method.chip(Method.ADD_DIFFERENCE), Qt.MouseButton.LeftButton)
    assert (
        dialog.checkpoint_c.isVisible()
        and dialog.checkpoint_b.value() != dialog.checkpoint_c.value()
        and dialog.multiplier.value() == 1
    )
    dialog.checkpoint_c.set_value(dialog.checkpoint_b.value())
    dialog._refresh()
    assert not dialog.accept_button.isEnabled() and "B and C are the same" in dialog.problem.text()
    dialog.checkpoint_b.set_value(models / "two.safetensors")
    dialog.checkpoint_c.set_value(models / "three.safetensors")
    dialog._refresh()
    assert dialog.formula.text() == "one + 1 × (two − three)"
    accept(dialog, qtbot)
    request = requests[0]
    assert isinstance(request, MergeRequest) and [one.name for one in request.inputs] == ["one", "two", "three"]
    assert request.method is Method.ADD_DIFFERENCE and request.share == 1.0


def test_a_pickle_is_offered_a_safer_form(room: ModelsRoom, qtbot: QtBot, models: Path) -> None:
    room.choose(models / "lace.pt")
    qtbot.waitUntil(room.details.warning.isVisible)
    assert "is a pickle" in room.details.warning.text()
    qtbot.mouseClick(room.details.warning.action, Qt.MouseButton.LeftButton)
    dialog = next(dialog for dialog in room.findChildren(ToolDialog) if dialog.isVisible())
    assert dialog.chosen_precision() is Precision.KEEP and dialog.folder_label.text() == str(models / "embeddings")
    with qtbot.waitSignal(room.tool_runner.finished, timeout=PATIENCE_MS) as caught:
        accept(dialog, qtbot)
    assert torch.equal(safetensors.torch.load_file(caught.args[0].path)["emb_params"], torch.ones(2, 768))
    assert not room.details.warning.isVisible()


def test_names_places_and_full_disks(
    room: ModelsRoom, qtbot: QtBot, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialog = opened(room, qtbot, "one", Tool.CONVERT)
    for name, why in (
        ("two", "A file of that name already exists"),
        ("", "Enter a name"),
        ("a/b", "must not contain"),
        (".hidden", "begin or end with a full stop"),
        ("con", "cannot be used for a file"),
        ("x.", "begin or end with a full stop"),
    ):
        dialog.name.clear()
        qtbot.keyClicks(dialog.name, name)
        dialog._on_name_edited()
        assert why in dialog.problem.text() and dialog.problem.isVisible() and not dialog.accept_button.isEnabled()
        column = dialog.layout()  # all of it can be read
        assert column is not None and dialog.height() >= column.heightForWidth(dialog.width())
        assert dialog.problem.height() >= dialog.problem.heightForWidth(dialog.problem.width())
    qtbot.keyClicks(dialog.name, "y")
    dialog.set_folder(tmp_path / "elsewhere" / "deeper")
    assert dialog.accept_button.isEnabled() and dialog.target() == tmp_path / "elsewhere" / "deeper" / "x.y.safetensors"
    qtbot.mouseClick(dialog.change_folder, Qt.MouseButton.LeftButton)
    file_dialog = next(file_dialog for file_dialog in dialog.findChildren(QFileDialog) if file_dialog.isVisible())
    file_dialog.fileSelected.emit(str(models))
    file_dialog.reject()
    assert dialog.folder_label.text() == str(models)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))
    dialog._accept()
    assert "not enough free space" in dialog.problem.text() and dialog.isVisible() and not room.tool_runner.busy()
    qtbot.keyClick(dialog, Qt.Key.Key_Escape)
    assert not dialog.isVisible()


def test_what_cannot_be_used_offers_no_tools(room: ModelsRoom, qtbot: QtBot, models: Path) -> None:
    room.choose(models / "one.safetensors")
    qtbot.waitUntil(room.details.tools[Tool.CONVERT].isVisible)
    shown = [tool for tool, button in room.details.tools.items() if button.isVisible()]
    assert shown == [
        Tool.CONVERT,
        Tool.MERGE,
        Tool.FIT_STEPS,
    ]  # nothing to prune, no pipeline in diffusers, no LoRA for it
    room.choose(models / "broken.safetensors")
    assert (
        not any(button.isVisible() for button in room.details.tools.values())
        and not room.details._tools_title.isVisible()
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
    room.tool_runner.submit(ConvertRequest(checkpoint, models / "short.safetensors", Precision.FP16))
    room.tool_runner.submit(
        ConvertRequest(read_checkpoint(models / "one.safetensors"), models / "next.safetensors", Precision.FP16)
    )
    qtbot.waitUntil(lambda: (room.tool_runner.bar.line.fraction() or 0) > 0.05, timeout=PATIENCE_MS)
    assert list(models.glob(".diffstudio-*.part"))
    with qtbot.waitSignals([room.tool_runner.cancelled, room.tool_runner.finished], timeout=PATIENCE_MS):
        qtbot.mouseClick(room.tool_runner.bar.stop, Qt.MouseButton.LeftButton)
    assert not {name for name in os.listdir(models) if name == "short.safetensors" or name.endswith(".part")}
    assert (models / "next.safetensors").is_file()
    qtbot.waitUntil(lambda: not room.tool_runner.bar.isVisible())


def test_closing_the_window_leaves_nothing_half(room: ModelsRoom, qtbot: QtBot, models: Path) -> None:
    room.tool_runner.submit(ConvertRequest(large(models), models / "short.safetensors", Precision.FP16))
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
        room.tool_runner.submit(MergeRequest((one, burnt), models / "x.safetensors"))
    assert f"{name} contains NaN values" in room.message.text() and not list(models.glob("x*"))


# ---- the other dialogs -----------------------------------------------------------------------------------------------


def test_the_prune_dialog(qtbot: QtBot, dressed: QApplication, models: Path) -> None:
    checkpoint = replace(read_checkpoint(models / "one.safetensors"), size_bytes=3_000_000_000)
    dialog = PruneDialog(checkpoint, models, {EMA_WEIGHTS: 1_000_000_000, "the trainer's notes": 8})
    qtbot.addWidget(dialog)
    dialog.show()
    assert "EMA copies of the weights: 1.0 GB" in dialog.removed_list.text() and "2.0 GB" in dialog.size_note.text()
    qtbot.mouseClick(dialog.ema, Qt.MouseButton.LeftButton, pos=dialog.ema.rect().center() * 0.1)
    dialog.ema.setChecked(True)
    request = dialog.request()
    assert request.target == models / "one-pruned.safetensors" and getattr(request, "ema", False)
    without = PruneDialog(checkpoint, models, {"the trainer's notes": 8})
    qtbot.addWidget(without)
    without.show()
    assert not without.ema.isVisible()


def test_the_fuse_and_export_dialogs(qtbot: QtBot, dressed: QApplication, models: Path) -> None:
    checkpoint = replace(read_checkpoint(models / "one.safetensors"), family="sd1")
    lora = replace(checkpoint, role=Role.LORA, path=models / "ink.safetensors", name="ink", title="Ink")
    dialog = FuseLoraDialog(checkpoint, models, [checkpoint, lora])
    qtbot.addWidget(dialog)
    assert dialog.accept_button.text() == "Fuse" and dialog.name.text() == "one-ink"
    dialog.weight.set_value(0)
    dialog._refresh()
    assert not dialog.accept_button.isEnabled()
    dialog.weight.set_value(0.6)
    assert getattr(dialog.request(), "loras", None) == ((lora, 0.6),)
    out = ExportDialog(checkpoint, models)
    qtbot.addWidget(out)
    assert out.target() == models / "one-diffusers" and out.request().target.suffix == ""


# ---- trigger words and sidecars --------------------------------------------------------------------------------------


@pytest.fixture
def lora_with_sidecars(models: Path, room: ModelsRoom) -> Path:
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


def test_trigger_words_are_shown_clicked_and_copied(room: ModelsRoom, qtbot: QtBot, lora_with_sidecars: Path) -> None:
    qtbot.waitUntil(lambda: room.details.trigger_words.words() == ["sumi-e", "inkwash"])
    assert room.details.training_tags.words() == ["mountain", "mist"]
    chip = room.details.training_tags.chips[0]
    assert "30 of its training images" in chip.toolTip() and chip.accessibleName() == "Add mountain to the prompt"
    with qtbot.waitSignal(room.trigger_words_requested) as caught:
        qtbot.mouseClick(chip, Qt.MouseButton.LeftButton)
    assert caught.args == ["mountain"] and "“mountain” was added to the prompt" in room.message.text()
    chip.setFocus()
    with qtbot.waitSignal(room.trigger_words_requested):
        qtbot.keyClick(chip, Qt.Key.Key_Space)
    qtbot.mouseClick(room.details.trigger_words.copy, Qt.MouseButton.LeftButton)
    assert QApplication.clipboard().text() == "sumi-e, inkwash"


def test_a_lora_goes_into_the_prompt(room: ModelsRoom, qtbot: QtBot, lora_with_sidecars: Path) -> None:
    assert room.details.use.text() == "Use in prompt" == room.details.use.accessibleName()
    for act in (
        lambda: qtbot.mouseClick(room.details.use, Qt.MouseButton.LeftButton),
        lambda: qtbot.keyClick(room.list, Qt.Key.Key_Return),
    ):
        with qtbot.waitSignal(room.use_in_prompt_requested) as caught:
            act()
        assert caught.args[0].path == lora_with_sidecars


def test_sidecars_are_shown_and_searched(room: ModelsRoom, qtbot: QtBot, lora_with_sidecars: Path) -> None:
    qtbot.waitUntil(lambda: room.details.description.text() == "Brush and ink")
    assert room.details.thumbnail.image().pixelColor(10, 10) == Qt.GlobalColor.red
    assert dict(room.details.model_table.facts())["Weight"] == "0.8, recommended by its author"
    training = dict(room.details.training_table.facts())
    assert (training["Base model"], training["Output name"]) == ("sd_v1", "ink-v3")
    qtbot.keyClicks(room.filter.search, "brush sumi-e")
    qtbot.waitUntil(lambda: room.model.rowCount() == 1)
    assert room.chosen() is not None

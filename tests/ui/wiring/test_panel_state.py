"""Settings undone, redone, reset, and saved as presets, as a person does it in the room."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QLineEdit, QMenu, QMessageBox, QWidget
from pytestqt.qtbot import QtBot

from diffstudio.models.detection.types import Role
from diffstudio.studio.panel_state import PanelState
from diffstudio.studio.presets import read_presets
from diffstudio.studio.requests import GenerateRequest
from diffstudio.studio.stored_values import StoredValues
from diffstudio.ui.generate.room import GenerateRoom
from diffstudio.ui.generate.sections import settings_bar
from diffstudio.ui.widgets.inputs.number_fields import DecimalField
from diffstudio.ui.widgets.inputs.sliders import LabelledSlider
from diffstudio.ui.wiring.file_writer import FileWriter
from diffstudio.ui.wiring.panel_state import PanelStateController, capture, show
from tests.ui.accessibility import accessibility_problems
from tests.ui.samples import checkpoint

pytestmark = pytest.mark.usefixtures("dressed", "home")
CTRL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier
LARGE = checkpoint("xl", family="sdxl", width=1024, height=1024, metadata={})


@pytest.fixture
def make(qtbot: QtBot) -> Iterator[Callable[[], PanelStateController]]:
    """A room with its controller, as often as asked: as after a restart, since they share the files."""
    made: list[tuple[PanelStateController, FileWriter]] = []

    def make_it() -> PanelStateController:
        for before, writer in made:
            before.close()
            writer.close()
        made.clear()
        room, writer = GenerateRoom(), FileWriter()
        qtbot.addWidget(room)
        room.panel.background_work_requested.connect(lambda work, done: done(work()))
        controller = PanelStateController(room, writer)
        made.append((controller, writer))
        room.resize(1360, 880)
        room.show()
        qtbot.waitExposed(room)
        controller.restore()
        return controller

    yield make_it
    for controller, writer in made:
        controller.close()
        writer.close()


@pytest.fixture
def controller(make: Callable[[], PanelStateController]) -> PanelStateController:
    controller = make()
    room_of(controller).set_checkpoints([checkpoint(), LARGE])
    return controller


def room_of(controller: PanelStateController) -> GenerateRoom:
    return controller._room


def type_number(qtbot: QtBot, slider: LabelledSlider, text: str) -> DecimalField:
    field = slider.findChild(DecimalField)
    assert field is not None
    field.setFocus()
    field.selectAll()
    qtbot.keyClicks(field, text)
    qtbot.keyClick(field, Qt.Key.Key_Return)
    return field


def choose(menu: QMenu, text: str) -> None:
    next(action for action in menu.actions() if action.text() == text).trigger()


def test_settings_are_undone_and_redone_by_keyboard_and_button(qtbot: QtBot, controller: PanelStateController) -> None:
    panel = room_of(controller).panel
    bar, steps = panel.settings_bar, panel.sampling.steps
    usual = steps.value()
    assert not bar.undo_button.isEnabled() and not bar.redo_button.isEnabled()
    field = type_number(qtbot, steps, "31")
    qtbot.waitUntil(bar.undo_button.isEnabled)
    type_number(qtbot, panel.sampling.cfg_scale, "9")
    qtbot.keyClick(field, Qt.Key.Key_Z, CTRL)  # the field has nothing to undo itself
    assert (steps.value(), panel.sampling.cfg_scale.value()) == (31, 4.0)
    qtbot.keyClick(panel.sampling.sampler.combo, Qt.Key.Key_Z, CTRL)
    assert steps.value() == usual and "Set by hand" not in steps.toolTip()
    assert not bar.undo_button.isEnabled()
    qtbot.keyClick(panel.sampling.sampler.combo, Qt.Key.Key_Z, CTRL | SHIFT)
    assert steps.value() == 31 and "Set by hand" in steps.toolTip()
    bar.redo_button.click()
    assert panel.sampling.cfg_scale.value() == 9.0 and not bar.redo_button.isEnabled()
    bar.undo_button.click()
    panel.choose(LARGE)  # something else is done: what was undone is gone
    qtbot.waitUntil(lambda: not bar.redo_button.isEnabled())
    bar.undo_button.click()
    assert panel.checkpoint.current() == checkpoint() and steps.value() == 31


def test_undo_in_a_text_field_is_of_the_text(qtbot: QtBot, controller: PanelStateController) -> None:
    panel = room_of(controller).panel
    type_number(qtbot, panel.sampling.steps, "31")
    panel.prompt.setFocus()
    qtbot.keyClicks(panel.prompt, "red")
    qtbot.keyClick(panel.prompt, Qt.Key.Key_Z, CTRL)
    assert panel.prompt.text() == "" and panel.sampling.steps.value() == 31
    qtbot.keyClick(panel.prompt, Qt.Key.Key_Z, CTRL)  # nothing is left to undo in it
    assert panel.sampling.steps.value() == 31
    field = panel.sampling.steps.findChild(DecimalField)
    assert field is not None
    field.setFocus()
    field.selectAll()
    qtbot.keyClicks(field, "5")
    qtbot.keyClick(field, Qt.Key.Key_Z, CTRL)  # what is being typed
    assert field.value() == 31


def test_a_prompt_that_is_typed_is_one_change(qtbot: QtBot, controller: PanelStateController) -> None:
    panel = room_of(controller).panel
    type_number(qtbot, panel.sampling.steps, "31")
    controller._record()
    for word in ("red ", "apple ", "tree"):
        qtbot.keyClicks(panel.prompt, word)
        controller._record()
    controller.undo()
    assert panel.prompt.text() == "" and panel.sampling.steps.value() == 31
    controller.redo()
    assert panel.prompt.text() == "red apple tree"


def test_loaded_settings_are_undone_in_one_step(controller: PanelStateController) -> None:
    room = room_of(controller)
    before = capture(room.panel)
    room.use_settings(GenerateRequest("ghost", "bad", "xl", 9, 12, width=512, height=768, enlarge=2.0))
    assert "Loaded: prompt, negative prompt, checkpoint, seed, steps" in room.panel.loaded_line.taken.text()
    controller.undo()
    assert capture(room.panel).without_drawn_seed() == before.without_drawn_seed()
    assert not room.panel.loaded_line.isVisible() and not room.banner.isVisible()
    controller.redo()
    assert room.panel.request().enlarge == 2.0 and room.panel.request().seed == 9


def test_what_was_not_taken_of_an_image_is_named(controller: PanelStateController) -> None:
    room = room_of(controller)
    room.use_settings(GenerateRequest("a <lora:glow:1>", checkpoint="starter", steps=150, vae="soft", clip_skip=2))
    text = room.panel.loaded_line.not_taken.text()
    assert room.panel.loaded_line.taken.isVisible()
    assert "Changed: steps 150 → 100, clip skip 2 → none." in text
    assert "Not loaded: VAE “soft”, LoRA “glow”." in text
    room.panel.submit()
    assert not room.panel.loaded_line.isVisible()


def test_reset_to_the_defaults_of_the_checkpoint(qtbot: QtBot, controller: PanelStateController) -> None:
    panel = room_of(controller).panel
    panel.choose(LARGE)
    usual = panel.request()
    type_number(qtbot, panel.sampling.steps, "31")
    qtbot.keyClicks(panel.prompt, "apple")
    panel.size_control.swap.click()
    panel.size_control.shapes.chosen.emit((512, 768))
    choose(panel.settings_bar.menu(), settings_bar.RESET)
    request = panel.request()
    assert (request.steps, request.width, request.height) == (usual.steps, 1024, 1024)
    assert request.prompt == "apple"
    controller.undo()
    assert (panel.request().steps, panel.request().width) == (31, 512)


def test_presets_are_saved_applied_renamed_and_deleted(
    qtbot: QtBot, controller: PanelStateController, make: Callable[[], PanelStateController]
) -> None:
    panel = room_of(controller).panel
    type_number(qtbot, panel.sampling.steps, "31")
    qtbot.keyClicks(panel.prompt, "apple")
    assert [entry.text() for entry in panel.settings_bar.menu().actions()][0] == "No presets yet"
    dialog = controller.open_save_dialog()
    assert not dialog.save_button.isEnabled()
    qtbot.keyClicks(dialog.name, "Fast & <b>loose</b>")
    assert dialog.note.text() == ""
    dialog.save_button.click()
    dialog = controller.open_save_dialog()
    qtbot.keyClicks(dialog.name, "Settings only")
    dialog.with_prompts.setChecked(False)
    qtbot.keyClick(dialog.name, Qt.Key.Key_Return)
    assert [each.text() for each in panel.settings_bar.menu().actions()][:2] == [
        "Fast && <b>loose</b>",
        "Settings only",
    ]
    panel.prompt.set_text("rocket")
    panel.choose(LARGE)
    panel.sampling.reset()
    choose(panel.settings_bar.menu(), "Settings only")
    assert (panel.request().prompt, panel.request().steps, panel.request().checkpoint) == ("rocket", 31, "starter")
    choose(panel.settings_bar.menu(), "Fast && <b>loose</b>")
    assert panel.request().prompt == "apple" and "Loaded: prompt" in panel.loaded_line.taken.text()
    controller.undo()
    assert panel.request().prompt == "rocket"

    controller = make()  # after a restart
    room_of(controller).set_checkpoints([checkpoint(), LARGE])
    edit = controller.open_edit_dialog()
    assert accessibility_problems(edit) == []
    rename_in(qtbot, edit.list, edit.rename_button, "Settings only")
    qtbot.waitUntil(lambda: "already a preset" in edit.note.text())
    assert edit.list.item(0).text() == "Fast & <b>loose</b>"
    rename_in(qtbot, edit.list, edit.rename_button, "Quick")
    qtbot.waitUntil(lambda: edit.note.text() == "")
    assert [preset.name for preset in controller.presets.presets] == ["Quick", "Settings only"]
    edit.list.setCurrentRow(1)
    edit.delete_button.click()
    box = edit.findChild(QMessageBox)
    assert box is not None
    next(button for button in box.buttons() if button.text() == "Delete").click()
    edit.accept()
    make()
    assert [preset.name for preset in read_presets().state.presets] == ["Quick"]


def rename_in(qtbot: QtBot, view: QWidget, button: QWidget, text: str) -> None:
    qtbot.waitUntil(lambda: not view.findChildren(QLineEdit))  # the last editor is gone
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    editor = view.findChild(QLineEdit)
    assert editor is not None
    editor.selectAll()
    qtbot.keyClicks(editor, text)
    qtbot.keyClick(editor, Qt.Key.Key_Return)


def test_everything_in_the_panel_is_kept(qtbot: QtBot, controller: PanelStateController, tmp_path: Path) -> None:
    for name in ("photo.png", "mask.png"):
        Image.new("L", (64, 64), 255).save(tmp_path / name)
    panel = room_of(controller).panel
    request = GenerateRequest(
        " with spaces ", "n", "xl", 5, 7, width=512, height=768, count=3, clip_skip=3, init=tmp_path / "photo.png",
        strength=0.5, mask=tmp_path / "mask.png", feather=3, masked_only=True, padding=8,
    )  # fmt: skip
    state = PanelState(request, True, frozenset({"hires_fix"}), frozenset({"steps", "size"}), hires_scale=1.5)
    state = PanelState.from_stored(StoredValues(state.to_json()))
    assert show(panel, state) and capture(panel) == state
    odd = {"prompt": "x" * 10_001, "seed": "12 apples"}
    invalid = PanelState(GenerateRequest(checkpoint="starter", width=64, height=64), True, typed=odd, hires_scale=3.0)
    assert show(panel, invalid) and capture(panel) == invalid
    assert not panel.button.isEnabled()


def test_a_checkpoint_that_is_missing_is_named_and_comes_back(
    qtbot: QtBot, controller: PanelStateController, make: Callable[[], PanelStateController]
) -> None:
    room = room_of(controller)
    room.choose_checkpoint(LARGE)
    type_number(qtbot, room.panel.sampling.steps, "31")
    qtbot.keyClicks(room.panel.prompt, "apple")
    controller = make()
    room = room_of(controller)
    assert room.panel.prompt.text() == "apple"  # before any checkpoint is known
    room.set_checkpoints([checkpoint()])
    assert "“xl” is missing" in room.banner.text()
    assert (room.panel.sampling.steps.value(), room.panel.prompt.text()) == (31, "apple")
    controller = make()  # nothing was chosen meanwhile
    room = room_of(controller)
    room.set_checkpoints([checkpoint()])
    room.set_checkpoints([checkpoint(), LARGE])  # its drive is connected
    assert room.panel.checkpoint.current() == LARGE and not room.banner.isVisible()
    assert room.panel.size_control.requested_size() == (1024, 1024)
    controller = make()
    room = room_of(controller)
    room.set_checkpoints([checkpoint()])
    qtbot.keyClicks(room.panel.prompt, " tree")
    room.set_checkpoints([checkpoint(), LARGE])
    assert room.panel.checkpoint.current() == checkpoint()  # somebody is working with it


def test_prompts_are_kept_where_there_is_no_checkpoint(qtbot: QtBot, make: Callable[[], PanelStateController]) -> None:
    room = room_of(make())
    room.set_checkpoints([])
    qtbot.keyClicks(room.panel.prompt, "apple")
    controller = make()
    room = room_of(controller)
    room.set_checkpoints([LARGE])
    assert room.panel.request().prompt == "apple" and room.panel.request().steps == 25
    assert not room.banner.isVisible()


def test_what_is_set_before_the_first_scan_stays(qtbot: QtBot, make: Callable[[], PanelStateController]) -> None:
    room = room_of(make())
    room.set_checkpoints([checkpoint()])
    type_number(qtbot, room.panel.sampling.cfg_scale, "9")
    qtbot.keyClicks(room.panel.prompt, "apple")
    room = room_of(make())
    qtbot.keyClicks(room.panel.prompt, " tree")
    type_number(qtbot, room.panel.sampling.steps, "31")
    room.set_checkpoints([checkpoint()])
    request = room.panel.request()
    assert (request.prompt, request.steps, request.guidance) == ("apple tree", 31, 9.0)


def test_nothing_is_followed_once_it_is_closed(controller: PanelStateController) -> None:
    """A scan of the folders that ends as the window closes changes the panel once more."""
    controller.close()
    room_of(controller).panel.prompt.set_text("too late")
    assert not [timer for timer in controller.findChildren(QTimer) if timer.isActive()]


SD1 = checkpoint("sd1", family="sd1", width=512, height=512, metadata={})
CANNY = checkpoint("canny", family="sd1", role=Role.CONTROLNET, metadata={})
VAE = checkpoint("soft", family="sd1", role=Role.VAE, metadata={})


@pytest.mark.parametrize("kind", ["in the library", "elsewhere"])
def test_a_vae_that_was_named_by_its_path_is_there_after_a_restart(
    make: Callable[[], PanelStateController], tmp_path: Path, kind: str
) -> None:
    elsewhere = tmp_path / "other.safetensors"
    elsewhere.write_bytes(b"")
    named, expected = (VAE.path, "soft") if kind == "in the library" else (elsewhere, str(elsewhere))
    controller = make()
    room_of(controller).set_checkpoints([SD1, VAE])
    show(room_of(controller).panel, PanelState(GenerateRequest("a cat", checkpoint="sd1", vae=str(named))))
    assert capture(room_of(controller).panel).request.vae == expected
    room_of(controller).panel.changed.emit()
    again = make()
    room_of(again).set_checkpoints([SD1, VAE])
    assert room_of(again).panel.sampling.vae.value() == expected
    assert not room_of(again).banner.isVisible(), "it does not count as missing"


def test_a_controlnet_that_does_not_fit_is_kept_for_the_next_checkpoint(
    make: Callable[[], PanelStateController], tmp_path: Path
) -> None:
    Image.new("RGB", (16, 16), "red").save(tmp_path / "edges.png")
    controller = make()
    models = [SD1, LARGE, CANNY]
    panel = room_of(controller).panel
    room_of(controller).set_checkpoints(models)
    panel.choose(SD1)
    card = panel.controlnets.add_image(tmp_path / "edges.png")
    assert card
    panel.controlnets.cards[0].scale.set_value(0.4)
    panel.choose(LARGE)
    assert capture(panel).request.controls == () and len(capture(panel).hidden_controls) == 1
    panel.changed.emit()
    again = make()
    panel = room_of(again).panel
    room_of(again).set_checkpoints(models)
    assert panel.checkpoint.current() == LARGE and not panel.controlnets.uses()
    panel.choose(SD1)
    (use,) = panel.controlnets.uses()
    assert (use.network, use.image, use.scale) == ("canny", tmp_path / "edges.png", 0.4)


def test_hidden_controlnets_that_cannot_be_read_are_left_out() -> None:
    values = PanelState(GenerateRequest("a cat")).to_json() | {"hidden_controls": [{"scale": "large"}, 7]}
    assert PanelState.from_stored(StoredValues(values)).hidden_controls == ()
    assert PanelState.from_stored(StoredValues(values | {"hidden_controls": None})).hidden_controls == ()


def test_settings_used_before_the_first_scan_wait_for_it(
    qtbot: QtBot, controller: PanelStateController, make: Callable[[], PanelStateController]
) -> None:
    room_of(controller).panel.prompt.set_text("kept")
    room = room_of(make())  # as after a restart: what was kept is shown by the first scan, too
    room.use_settings(GenerateRequest("first", checkpoint="nowhere"))
    room.use_settings(GenerateRequest("second", checkpoint=LARGE.name, steps=31))
    assert room.banner.text() == "These settings are loaded as soon as your models are found."
    room.set_checkpoints([checkpoint(), LARGE])
    panel = room.panel
    assert panel.checkpoint.current() == LARGE and panel.sampling.steps.value() == 31
    assert panel.prompt.text() == "second" and not room.banner.isVisible(), room.banner.text()
    room.use_settings(GenerateRequest("third", checkpoint="nowhere"))
    assert "“nowhere” is missing" in room.banner.text()


def test_a_preset_chosen_before_the_first_scan_waits_for_it(
    controller: PanelStateController, make: Callable[[], PanelStateController]
) -> None:
    room_of(controller).panel.choose(LARGE)
    controller.save_preset("large")
    room_of(controller).panel.choose(checkpoint())
    again = make()
    again.apply_preset("large")
    room_of(again).set_checkpoints([checkpoint(), LARGE])
    assert room_of(again).panel.checkpoint.current() == LARGE
    assert not room_of(again).banner.isVisible(), room_of(again).banner.text()


def test_undo_goes_on_with_a_small_latent_checkpoint(qtbot: QtBot, controller: PanelStateController) -> None:
    room = room_of(controller)
    room.set_checkpoints([checkpoint("small", family="sd1", width=64, height=64, metadata={})])
    bar, steps = room.panel.settings_bar, room.panel.sampling.steps
    controller._record()
    for text in ("31", "32", "33"):
        type_number(qtbot, steps, text)
        controller._record()
    for value in (32, 31):
        bar.undo_button.click()
        assert steps.value() == value


def test_undo_goes_back_past_a_step_whose_checkpoint_is_gone(qtbot: QtBot, controller: PanelStateController) -> None:
    room = room_of(controller)
    bar, steps = room.panel.settings_bar, room.panel.sampling.steps
    type_number(qtbot, steps, "31")
    controller._record()
    room.choose_checkpoint(LARGE)
    controller._record()
    type_number(qtbot, steps, "33")
    controller._record()
    room.set_checkpoints([checkpoint()])
    controller._record()
    for _ in range(3):
        bar.undo_button.click()
    assert steps.value() == 31 and bar.redo_button.isEnabled()

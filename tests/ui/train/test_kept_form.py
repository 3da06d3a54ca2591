"""The form for a new run after a restart of the program."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.studio.runs.form_state import FormState, read_form, save_form
from diffstudio.studio.runs.runs import Runs
from diffstudio.training.distributed import cluster
from diffstudio.training.distributed.cluster import Cluster
from diffstudio.training.recipe.optimiser_recipe import OptimiserName
from diffstudio.training.recipe_choice import AUTO, named_recipes
from diffstudio.training.recipe_from_checkpoint import STARTER
from diffstudio.ui.train.room import TrainRoom
from diffstudio.ui.wiring.file_writer import FileWriter

Open = Callable[[], TrainRoom]


@pytest.fixture
def restart(qtbot: QtBot, runs: Runs) -> Open:
    """Opens the room as the program does, after closing the one before."""
    opened: list[tuple[TrainRoom, FileWriter]] = []

    def close(widget: QWidget) -> None:
        for room, writer in opened:
            writer.close()
            room.shut_down()
            room.hide()
        opened.clear()

    def make() -> TrainRoom:
        if opened:
            close(opened[0][0])
        writer = FileWriter()
        room = TrainRoom(runs, writer.write)
        opened.append((room, writer))
        qtbot.addWidget(room, before_close_func=close)
        room.resize(1280, 800)
        room.show()
        qtbot.waitExposed(room)
        return room

    return make


def ready(qtbot: QtBot, room: TrainRoom) -> None:
    qtbot.waitUntil(lambda: room.new_panel.start.isVisible())


def choose(qtbot: QtBot, room: TrainRoom, folder: Path) -> None:
    room.inspect(folder)
    ready(qtbot, room)


def test_the_folder_the_recipe_and_the_time_are_there_again(
    qtbot: QtBot, restart: Open, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "own_address", lambda: "192.168.1.2")
    room = restart()
    choose(qtbot, room, pictures)
    panel = room.new_panel
    assert panel.recipe.value() == AUTO
    panel.recipe.setCurrentIndex(2)
    panel.recipe.chosen.emit(panel.recipe.value())
    panel.minutes.field.setValue(45)
    panel.optimiser.combo.setCurrentIndex(1)
    panel.optimiser.value_changed.emit(panel.optimiser.value())
    panel.run_name.setText("toys at night")
    panel.devices.machines.set_value(2)
    panel.devices.machines.value_changed.emit(2)
    before = panel.run_settings()
    assert before is not None and before.recipe.optimiser.name is OptimiserName.ADAMW and before.cluster.machines == 2

    room = restart()
    ready(qtbot, room)
    assert room.new_panel.run_settings() == before and not room.message.isVisible()
    assert room.new_panel.devices.command.isVisible() and not room.new_panel.changed_note.isVisible()


def test_settings_changed_by_hand_and_the_start_are_there_again(qtbot: QtBot, restart: Open, pictures: Path) -> None:
    room = restart()
    choose(qtbot, room, pictures)
    panel = room.new_panel
    assert panel.start_from.set_value("four-styles")
    panel.start_from.value_changed.emit("four-styles")
    settings = panel.run_settings()
    assert settings is not None and settings.recipe.run.start_from == "four-styles"
    assert "starts from the weights of Four styles · emoji 128" in settings.recipe_choice.why
    panel.start_from.set_value(STARTER)
    panel.start_from.value_changed.emit(STARTER)
    dialog = panel.open_all_settings()
    assert dialog is not None
    recipe = dialog.recipe()
    dialog.recipe_chosen.emit(replace(recipe, run=replace(recipe.run, batch=3)))
    dialog.close()
    before = panel.run_settings()

    room = restart()
    ready(qtbot, room)
    assert room.new_panel.run_settings() == before and before is not None and before.recipe.run.batch == 3
    assert room.new_panel.changed_note.isVisible() and room.new_panel.start_from.value() == STARTER


def test_a_folder_that_is_gone_is_named_and_there_again_when_it_is_back(
    qtbot: QtBot, restart: Open, pictures: Path
) -> None:
    choose(qtbot, restart(), pictures)
    elsewhere = pictures.rename(pictures.with_name("elsewhere"))
    room = restart()
    qtbot.waitUntil(room.message.isVisible)
    assert f"{pictures}: the folder does not exist" in room.message.text()
    assert room.folder_view.currentWidget() is room.folder_view.empty

    shutil.move(elsewhere, pictures)
    ready(qtbot, restart())


def test_of_another_folder_the_recipe_and_the_time_are_kept(qtbot: QtBot, restart: Open, pictures: Path) -> None:
    save_form(FormState(pictures / "cars", "tiny", None, minutes=30.0, start_from="none", name="cars"))
    room = restart()
    room.inspect(pictures)  # before the runs were read: dropped on the window
    ready(qtbot, room)
    settings = room.new_panel.run_settings()
    assert settings is not None and settings.folder == pictures
    assert (room.new_panel.recipe.value(), settings.minutes) == ("tiny", 30.0)
    assert (settings.start_from, settings.name) == (None, "")
    qtbot.waitUntil(lambda: read_form().state.folder == pictures)


def test_a_checkpoint_chosen_before_the_folder_is_shown_stays_chosen(
    qtbot: QtBot, restart: Open, pictures: Path
) -> None:
    save_form(FormState(pictures, "tiny", named_recipes()["tiny"], start_from="none"))
    room = restart()
    room.new_panel.start_with(Path(STARTER))  # as "Start from this…" does
    ready(qtbot, room)
    settings = room.new_panel.run_settings()
    assert settings is not None and settings.start_from == settings.recipe.run.start_from == STARTER


def test_what_is_missing_is_named(qtbot: QtBot, restart: Open, pictures: Path) -> None:
    tiny = named_recipes()["tiny"]
    save_form(FormState(pictures, "gone", tiny, start_from="/gone.safetensors", cluster=Cluster(1, 1000)))
    room = restart()
    qtbot.waitUntil(room.message.isVisible)
    text = room.message.text()
    assert "There is no recipe gone any more" in text and "/gone.safetensors is not there any more" in text
    assert "devices" in text and "changes to the settings" in text
    assert room.new_panel.recipe.value() == AUTO and room.new_panel.start.isEnabled()


def test_a_run_that_is_going_on_comes_first(
    qtbot: QtBot, restart: Open, pictures: Path, behave: Callable[..., None]
) -> None:
    behave(steps=1_000_000, seconds=0.005)
    room = restart()
    choose(qtbot, room, pictures)
    room.new_panel.run_name.setText("toys at night")
    qtbot.mouseClick(room.new_panel.start, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: room.selected() is not None)
    run = room.selected()

    room = restart()
    qtbot.waitUntil(lambda: room.selected() == run)
    assert room.folder_controller.is_idle()
    qtbot.mouseClick(room.runs_list.new_run, Qt.MouseButton.LeftButton)
    ready(qtbot, room)
    settings = room.new_panel.run_settings()
    assert settings is not None and (settings.folder, settings.name) == (pictures, "")


def test_a_damaged_file_is_named(restart: Open) -> None:
    paths.training_form_file().write_text("{")
    room = restart()
    assert room.message.isVisible() and "The settings of the Train room could not be read" in room.message.text()


def test_a_cancelled_folder_is_not_inspected_again(qtbot: QtBot, restart: Open, pictures: Path) -> None:
    room = restart()
    choose(qtbot, room, pictures)
    qtbot.waitUntil(lambda: read_form().state.folder == pictures)
    room.inspect(pictures)
    room.folder_view.cancel_requested.emit()
    qtbot.waitUntil(lambda: read_form().state.folder is None)
    room = restart()
    qtbot.waitUntil(lambda: room._refreshed_once)
    assert room.folder_controller.is_idle()

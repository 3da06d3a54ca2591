"""The Train room in use: folders, clicks, keys, and what the window shows."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent, QGuiApplication, QImage
from PySide6.QtWidgets import (
    QAbstractScrollArea,
    QApplication,
    QComboBox,
    QGraphicsView,
    QLineEdit,
    QMenu,
    QMessageBox,
    QScrollArea,
    QWidget,
)
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.errors import StorageProblem
from diffstudio.studio.requests import TrainRequest
from diffstudio.studio.runs.notes import LONGEST_NOTE, read_note
from diffstudio.studio.runs.runs import Runs
from diffstudio.training.distributed import cluster
from diffstudio.training.recipe import Recipe
from diffstudio.training.recipe.network_recipe import NetworkName
from diffstudio.training.recipe.objective_recipe import NoiseLevelsName, ObjectiveName
from diffstudio.training.recipe.optimiser_recipe import OptimiserName
from diffstudio.training.recipe_choice import RecipeChoice, read_choice
from diffstudio.training.recipe_from_checkpoint import FROM_SCRATCH, STARTER
from diffstudio.training.run.events import (
    RunCrossValidated,
    RunEvent,
    RunFinished,
    RunHeldOut,
    RunStarted,
    RunStep,
    RunStopped,
)
from diffstudio.training.run.run_folder import RunFolder, RunRequest, Status
from diffstudio.ui.train import run_actions
from diffstudio.ui.train.recipe_options import TwoLevels
from diffstudio.ui.train.room import TrainRoom
from diffstudio.ui.train.run.panel import Action
from diffstudio.ui.train.run.sample_prompts_dialog import SamplePromptsDialog
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.images.image_thumbnail import ImageThumbnail
from tests.ui import walk

PATIENCE_MS = 30_000


def drop(room: TrainRoom, path: Path) -> bool:
    """Drag a thing from a file manager over the room and let go; whether the room wanted it."""
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    copy, left, none = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    enter = QDragEnterEvent(QPoint(500, 300), copy, data, left, none)
    enter.ignore()
    QApplication.sendEvent(room, enter)
    if not enter.isAccepted():
        return False
    event = QDropEvent(QPointF(500, 300), copy, data, left, none)
    QApplication.sendEvent(room, event)
    QApplication.processEvents()  # it is taken once the drop has returned
    return event.isAccepted()


def inspected(room: TrainRoom, qtbot: QtBot, folder: Path) -> None:
    assert drop(room, folder)
    qtbot.waitUntil(lambda: room.new_panel.start.isVisible(), timeout=PATIENCE_MS)


def started(room: TrainRoom, qtbot: QtBot, folder: Path) -> Path:
    inspected(room, qtbot, folder)
    qtbot.mouseClick(room.new_panel.start, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: room.selected() is not None or room.message.isVisible(), timeout=PATIENCE_MS)
    path = room.selected()
    assert path is not None, room.message.text()
    return path


def status(room: TrainRoom) -> Status | None:
    summary = room.summary()
    return summary.status if summary is not None else None


def reaches(room: TrainRoom, qtbot: QtBot, *wanted: Status) -> None:
    qtbot.waitUntil(lambda: status(room) in wanted, timeout=PATIENCE_MS)


def test_an_empty_room_invites_and_has_nothing_to_press_but_that(room: TrainRoom) -> None:
    assert room.folder_view.currentWidget() is room.folder_view.empty
    assert room.folder_view.empty.button is not None and room.folder_view.empty.button.isVisible()
    assert not room.new_panel.start.isVisible()
    assert not room.runs_list.new_run.isVisible()
    assert room.runs_list.empty_note.isVisible()


def test_the_button_opens_a_dialog_and_its_answer_is_inspected(room: TrainRoom, qtbot: QtBot, pictures: Path) -> None:
    from PySide6.QtWidgets import QFileDialog

    assert room.folder_view.empty.button is not None
    qtbot.mouseClick(room.folder_view.empty.button, Qt.MouseButton.LeftButton)
    (dialog,) = room.findChildren(QFileDialog)
    assert dialog.fileMode() is QFileDialog.FileMode.Directory
    dialog.fileSelected.emit(str(pictures))
    dialog.close()
    qtbot.waitUntil(lambda: room.new_panel.start.isVisible(), timeout=PATIENCE_MS)


def test_a_dropped_folder_is_inspected_and_what_is_wrong_is_named(
    room: TrainRoom, qtbot: QtBot, pictures: Path
) -> None:
    inspected(room, qtbot, pictures)
    found = room.folder_view.report_view
    assert found.title.text() == "toys"
    assert "9 images" in found.sentence.text() and "2 classes" in found.sentence.text()
    assert "cars 5" in found.groups.text() and "balls 4" in found.groups.text()
    assert "1 unreadable, skipped" in found.warnings.banner.text()
    assert "1 too small, skipped" in found.warnings.banner.text()
    assert not found.warnings.list.isVisible()
    qtbot.mouseClick(found.warnings.banner.action, Qt.MouseButton.LeftButton)
    assert found.warnings.list.isVisible()
    lines = [found.warnings.list.item(row).text() for row in range(found.warnings.list.count())]
    assert any("broken.png" in line and "skipped: " in line for line in lines)
    assert any("tiny.png" in line and "too small" in line for line in lines)
    assert any("copy.png" in line and "duplicate of" in line and "0.png" in line for line in lines)
    qtbot.waitUntil(lambda: found._flow.count() == 9, timeout=PATIENCE_MS)
    assert not room.new_panel.card.thumbs[0].image().isNull()
    first = found._flow.itemAt(0)
    assert first is not None and "balls" in first.widget().toolTip() or "0.png" in first.widget().toolTip()


def test_a_dropped_picture_is_left_to_the_window(room: TrainRoom, pictures: Path) -> None:
    assert not drop(room, pictures / "cars" / "0.png")
    assert room.folder_view.currentWidget() is room.folder_view.empty


@pytest.mark.qt_log_ignore("grabbing the keyboard", extend=True)  # the offscreen platform, about itself
def test_dropped_pictures_are_copied_into_the_folder_that_is_chosen(
    room: TrainRoom, qtbot: QtBot, pictures: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(pictures / "cars", folder)
    inspected(room, qtbot, folder)
    before = len(list(folder.iterdir()))
    assert drop(room, pictures / "balls" / "0.png")
    qtbot.waitUntil(lambda: "1 image copied into" in room.message.text(), timeout=PATIENCE_MS)
    assert room.message.isVisible() and len(list(folder.iterdir())) == before + 1
    flow = room.folder_view.report_view._flow
    qtbot.waitUntil(lambda: flow.count() == 6, timeout=PATIENCE_MS)
    thumb = flow.itemAt(0).widget()
    assert isinstance(thumb, ImageThumbnail) and thumb.target.path is not None
    with qtbot.waitSignal(room.image_actions.menu_requested) as asked:
        thumb.menu_requested.emit(thumb.target, QPoint(5, 5))
    assert asked.args[0] is thumb.target


@pytest.mark.parametrize(
    ("fill", "said"),
    [
        (lambda folder: None, "is empty"),
        (lambda folder: (folder / "a.txt").write_text("words"), "no images"),
        (lambda folder: (folder / "a.png").write_bytes(b"not one"), "its only image cannot be used"),
        (lambda folder: folder.rmdir(), "does not exist"),
    ],
)
def test_a_folder_that_cannot_be_used_is_said_in_the_window(
    room: TrainRoom, qtbot: QtBot, tmp_path: Path, fill: Callable[[Path], None], said: str
) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    fill(folder)
    room.inspect(folder)
    qtbot.waitUntil(lambda: room.message.isVisible(), timeout=PATIENCE_MS)
    assert said in room.message.text()
    assert "Traceback" not in room.message.text()
    assert room.folder_view.currentWidget() is room.folder_view.empty
    assert not room.new_panel.start.isVisible()


def test_inspection_shows_progress_and_can_be_cancelled(
    room: TrainRoom, qtbot: QtBot, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffstudio.training.data.folder_report import InspectionProgress
    from diffstudio.ui.train.folder import folder_inspector

    closed = []

    def endless(folder: Path) -> Iterator[InspectionProgress]:
        try:
            done = 0
            while True:
                done += 1
                yield InspectionProgress(min(done, 99_999), 100_000, Path(f"{done}.png"))
                time.sleep(0.002)
        finally:
            closed.append(True)

    monkeypatch.setattr(folder_inspector, "inspect_folder", endless)
    room.inspect(pictures)
    inspecting = room.folder_view.progress_view
    qtbot.waitUntil(lambda: "of 100,000 images" in inspecting.count.text(), timeout=PATIENCE_MS)
    assert inspecting.line.fraction() is not None
    qtbot.mouseClick(inspecting.cancel, Qt.MouseButton.LeftButton)
    assert room.folder_view.currentWidget() is room.folder_view.empty
    qtbot.waitUntil(lambda: bool(closed), timeout=PATIENCE_MS)
    assert not room.message.isVisible()


def test_from_a_folder_to_a_checkpoint(
    room: TrainRoom, qtbot: QtBot, pictures: Path, behave: Callable[..., None]
) -> None:
    """The main job: drop, start, watch the loss and the samples, generate from what came out."""
    behave(steps=150, seconds=0.02, sample_every=25)
    ready: list[Path] = []
    wanted: list[Path] = []
    room.checkpoint_ready.connect(ready.append)
    room.generate_requested.connect(wanted.append)
    path = started(room, qtbot, pictures)
    assert path.name == "toys"
    assert list(room.runs_list.cards()) == [path]
    assert "Closing the window does not stop the run" in room.run_view.note.text()
    view = room.run_view
    qtbot.waitUntil(lambda: "images/s" in view.status.text(), timeout=PATIENCE_MS)
    assert view.status.text().startswith("Step ") and "left" in view.status.text()
    qtbot.waitUntil(lambda: view.chart._plot is not None, timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: not view.samples.ema.image().isNull(), timeout=PATIENCE_MS)
    assert view.samples.ema.count() == 8
    qtbot.waitUntil(view.generate.isVisible, timeout=PATIENCE_MS)  # from the first checkpoint on

    reaches(room, qtbot, Status.FINISHED)
    qtbot.waitUntil(
        lambda: view.outcome.isVisible(), timeout=PATIENCE_MS
    )  # without an outcome, and so without evidence
    assert "It learned" in view.outcome.text()
    assert room.runs_list.cards()[path].status() == "finished"
    assert not view.stop.isVisible()
    assert view.note.text() == ""
    assert path / "checkpoints" / "latest.safetensors" in ready
    assert room.run_panel.button.text() == "Generate with this"
    qtbot.mouseClick(room.run_panel.button, Qt.MouseButton.LeftButton)
    assert wanted == [path / "checkpoints" / "latest.safetensors"]
    assert "held out" in view.chart.accessibleDescription()
    assert room.runs_list.learning.isVisible()


def colour_of(image: QImage, tile: int) -> tuple[int, int, int] | None:
    """None before the sheet is read: Qt warns of a question about a pixel that is not there."""
    if image.isNull():
        return None
    colour = image.pixelColor(16 * tile + 8, 8)
    return colour.red(), colour.green(), colour.blue()


def test_samples_through_time(room: TrainRoom, qtbot: QtBot, pictures: Path, behave: Callable[..., None]) -> None:
    behave(steps=40, seconds=0.01, sample_every=10)
    started(room, qtbot, pictures)
    reaches(room, qtbot, Status.FINISHED)
    samples = room.run_view.samples
    qtbot.waitUntil(lambda: samples.slider.maximum() == 3, timeout=PATIENCE_MS)
    assert samples.slider.value() == 3, "the newest are shown until a person goes back"
    qtbot.waitUntil(lambda: colour_of(samples.ema.image(), 2) == (40, 40, 200), timeout=PATIENCE_MS)

    samples.slider.setFocus()
    qtbot.keyClick(samples.slider, Qt.Key.Key_Home)
    qtbot.waitUntil(lambda: colour_of(samples.ema.image(), 2) == (40, 10, 200), timeout=PATIENCE_MS)
    current = samples.current()
    assert current is not None and current.step == 10
    room.refresh()
    qtbot.wait(50)
    assert samples.slider.value() == 0, "looking at the runs does not drag a person to the newest"

    qtbot.mouseClick(samples.chips.chip("raw"), Qt.MouseButton.LeftButton)
    assert samples.raw.isVisible() and not samples.ema.isVisible()
    assert colour_of(samples.raw.image(), 2) == (40, 40, 40)
    qtbot.mouseClick(samples.chips.chip("both"), Qt.MouseButton.LeftButton)
    assert samples.raw.isVisible() and samples.ema.isVisible()
    middle = samples.ema.tiles()[3].center().toPoint()
    assert samples.ema.prompt_at(middle) == "thing 3"


def test_pause_resume_and_stop(room: TrainRoom, qtbot: QtBot, pictures: Path, behave: Callable[..., None]) -> None:
    behave(steps=1_000_000, seconds=0.005, sample_every=1_000_000)
    started(room, qtbot, pictures)
    reaches(room, qtbot, Status.TRAINING)
    qtbot.waitUntil(lambda: room.run_panel.button.isEnabled(), timeout=PATIENCE_MS)
    assert room.run_panel.button.text() == "Pause training"
    qtbot.mouseClick(room.run_panel.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: room.run_panel.button.text() == "Pausing after this step…" or status(room) is Status.PAUSED)
    reaches(room, qtbot, Status.PAUSED)
    assert room.run_panel.button.text() == "Resume training"
    assert "paused" in room.run_view.status.text()
    qtbot.mouseClick(room.run_panel.button, Qt.MouseButton.LeftButton)
    reaches(room, qtbot, Status.TRAINING)
    qtbot.mouseClick(room.run_view.stop, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not room.run_view.stop.isEnabled() or status(room) is Status.STOPPED)
    reaches(room, qtbot, Status.STOPPED)
    assert "Stopped at step" in room.run_view.outcome.text()
    assert room.run_panel.button.text() == "Resume training"
    qtbot.mouseClick(room.run_panel.button, Qt.MouseButton.LeftButton)
    reaches(room, qtbot, Status.TRAINING)
    assert room.run_view.stop.isEnabled()


def test_closing_the_window_does_not_end_the_run_and_reopening_finds_it(
    room: TrainRoom,
    make_room: Callable[[], TrainRoom],
    runs: Runs,
    qtbot: QtBot,
    pictures: Path,
    behave: Callable[..., None],
) -> None:
    behave(steps=1_000_000, seconds=0.005)
    path = started(room, qtbot, pictures)
    reaches(room, qtbot, Status.TRAINING)
    before = room.summary()
    assert before is not None
    room.close()
    room.shut_down()
    second = make_room()
    qtbot.waitUntil(lambda: second.selected() == path, timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: (s := second.summary()) is not None and s.step > before.step, timeout=PATIENCE_MS)
    now = second.summary()
    assert now is not None and now.pid == before.pid
    qtbot.mouseClick(second.run_view.stop, Qt.MouseButton.LeftButton)
    reaches(second, qtbot, Status.STOPPED)


def test_a_failed_run_says_why_and_shows_the_end_of_its_log(
    room: TrainRoom, qtbot: QtBot, pictures: Path, behave: Callable[..., None]
) -> None:
    behave(steps=30, end="fail")
    started(room, qtbot, pictures)
    reaches(room, qtbot, Status.FAILED)
    qtbot.waitUntil(lambda: room.run_view.log.isVisible(), timeout=PATIENCE_MS)
    assert room.run_view.outcome.text() == "The loss is no longer a number. Lower the learning rate."
    assert room.run_view.log.toPlainText().endswith("ValueError: loss is nan")


def test_a_run_that_never_began_can_be_tried_again(
    room: TrainRoom, qtbot: QtBot, pictures: Path, behave: Callable[..., None]
) -> None:
    behave(end="refuse")
    first = started(room, qtbot, pictures)
    reaches(room, qtbot, Status.FAILED)
    assert room.run_view.outcome.text() == "There are no pictures in the folder. Choose another one."
    assert room.run_view.outcome.action.text() == "Try again"
    assert room.run_panel.button.text() == Action.TRY_AGAIN
    behave(steps=20)
    qtbot.mouseClick(room.run_view.outcome.action, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: room.selected() not in (None, first), timeout=PATIENCE_MS)
    reaches(room, qtbot, Status.FINISHED)
    assert len(room.runs_list.cards()) == 2


def test_a_killed_run_is_resumed_with_one_click(
    room: TrainRoom, qtbot: QtBot, pictures: Path, behave: Callable[..., None]
) -> None:
    behave(steps=60, end="vanish", sample_every=5)
    started(room, qtbot, pictures)
    reaches(room, qtbot, Status.INTERRUPTED)
    assert room.run_view.outcome.action.text() == "Resume"
    behave(steps=60)
    qtbot.mouseClick(room.run_view.outcome.action, Qt.MouseButton.LeftButton)
    reaches(room, qtbot, Status.FINISHED)


def test_a_run_whose_images_were_moved_is_resumed_where_they_are_now(
    room: TrainRoom,
    runs: Runs,
    qtbot: QtBot,
    pictures: Path,
    behave: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from PySide6.QtWidgets import QFileDialog

    behave(steps=60, end="vanish", sample_every=5)
    started(room, qtbot, pictures)
    reaches(room, qtbot, Status.INTERRUPTED)
    moved = pictures.rename(pictures.with_name("moved"))
    asked: list[list[str]] = []
    launch = runs._launch
    monkeypatch.setattr(
        runs, "_launch", lambda run, arguments, request: asked.append(arguments) or launch(run, arguments, request)
    )
    for verb in ("Cancel", "Choose folder…"):
        qtbot.mouseClick(room.run_view.outcome.action, Qt.MouseButton.LeftButton)
        qtbot.waitUntil(lambda: len(room.findChildren(QMessageBox)) == 1, timeout=PATIENCE_MS)
        (box,) = room.findChildren(QMessageBox)
        assert "is not there any more" in box.text() and str(pictures) in box.informativeText() and not asked
        qtbot.mouseClick(
            next(each for each in box.buttons() if each.text().replace("&", "") == verb), Qt.MouseButton.LeftButton
        )
        qtbot.waitUntil(lambda: not room.findChildren(QMessageBox), timeout=PATIENCE_MS)
    (dialog,) = room.findChildren(QFileDialog)
    behave(steps=60)
    dialog.fileSelected.emit(str(moved))
    dialog.reject()
    reaches(room, qtbot, Status.FINISHED)
    assert [arguments[-2:] for arguments in asked] == [["--folder", str(moved)]]


def test_what_is_asked_for_is_what_is_trained(
    room: TrainRoom, runs: Runs, qtbot: QtBot, pictures: Path, behave: Callable[..., None]
) -> None:
    behave(steps=5)
    inspected(room, qtbot, pictures)
    panel = room.new_panel
    assert panel.recipe_reason.text(), "the choice made for the person is explained"
    shown = panel.run_settings()
    path = started(room, qtbot, pictures)
    asked = json.loads((path / "process.json").read_text())["request"]
    assert (asked["recipe"], asked["minutes"]) == (str(path / "chosen.toml"), 120)
    assert shown is not None and read_choice(path / "chosen.toml") == shown.recipe_choice
    qtbot.waitUntil(lambda: (path / "recipe.toml").is_file(), timeout=PATIENCE_MS)
    assert RunFolder(path).recipe() == shown.recipe

    inspected(room, qtbot, pictures)
    panel.image_size.set_value(48)
    panel.optimiser.set_value(OptimiserName.ADAMW)
    panel.noise_levels.set_value(NoiseLevelsName.COSINE)
    panel.augmentations.set_value(("rotation",))
    panel.minutes.field.setFocus()
    panel.minutes.field.selectAll()
    qtbot.keyClicks(panel.minutes.field, "1 h 30 min")
    qtbot.keyClick(panel.minutes.field, Qt.Key.Key_Return)
    panel.run_name.setText("with turns: 48")
    qtbot.keyClick(room.runs_list, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)  # anywhere in the room
    qtbot.waitUntil(lambda: room.selected() is not None, timeout=PATIENCE_MS)
    second = room.selected()
    assert second is not None and second.name == "with turns 48"
    asked = json.loads((second / "process.json").read_text())["request"]
    assert asked["minutes"] == 90
    qtbot.waitUntil(lambda: (second / "recipe.toml").is_file(), timeout=PATIENCE_MS)
    recipe = runs.summary(room.summary().run).run.recipe()  # type: ignore[union-attr]
    assert recipe.data.size == 48
    assert recipe.optimiser.name is OptimiserName.ADAMW
    assert recipe.objective.noise_levels is NoiseLevelsName.COSINE
    assert (recipe.data.flips, recipe.data.translation) == (0, 0)
    assert recipe.data.rotation_degrees > 0


def test_a_run_of_two_machines_shows_the_command_for_the_other_until_it_joins(
    room: TrainRoom, qtbot: QtBot, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_NOWHERE", (cluster.LOCAL, 9))
    inspected(room, qtbot, pictures)
    qtbot.keyClick(room.new_panel.devices.machines.combo, Qt.Key.Key_Down)
    command = room.new_panel.devices.command.text()
    path = started(room, qtbot, pictures)
    asked = json.loads((path / "process.json").read_text())["request"]
    assert (asked["processes"], asked["machines"], asked["port"]) == (1, 2, cluster.PORT)
    reaches(room, qtbot, Status.WAITING)
    view = room.run_view
    qtbot.waitUntil(lambda: view.outcome.isVisible(), timeout=PATIENCE_MS)
    assert view.status.text().endswith("waiting for 1 more machine")
    assert view.outcome.text() == f"To go on, enter this there: {command}"
    qtbot.mouseClick(view.outcome.action, Qt.MouseButton.LeftButton)
    assert QGuiApplication.clipboard().text() == command
    qtbot.mouseClick(view.stop, Qt.MouseButton.LeftButton)
    reaches(room, qtbot, Status.STOPPED)
    assert "enter this there" not in view.outcome.text()


def test_little_time_suits_another_recipe_and_says_so(room: TrainRoom, qtbot: QtBot, pictures: Path) -> None:
    inspected(room, qtbot, pictures)
    panel = room.new_panel
    panel.set_accelerator(False)
    panel.start_from.set_value(FROM_SCRATCH)  # the starter suits small folders however long they train
    panel.start_from.value_changed.emit(FROM_SCRATCH)
    much = panel.recipe_reason.text()
    panel.minutes.slider.setValue(0)
    assert panel.minutes.value() == 1
    assert panel.recipe_reason.text() != much
    choice = panel.run_settings()
    assert choice is not None and choice.recipe.data.size < 64
    assert panel.image_size.value() == choice.recipe.data.size


def test_two_levels_are_a_size_on_offer(room: TrainRoom, qtbot: QtBot, pictures: Path) -> None:
    inspected(room, qtbot, pictures)
    panel = room.new_panel
    assert (
        panel.image_size.set_value(TwoLevels(64, 2)) and panel.image_size.combo.currentText() == "128 px in two levels"
    )
    panel.image_size.value_changed.emit(TwoLevels(64, 2))
    settings = panel.run_settings()
    assert settings is not None and settings.recipe.prepared.size == 128 and settings.recipe.upper.factor == 2
    assert "smaller than 128 px" in panel.upscale_note.text() and panel.start.isEnabled()


def test_the_estimate_is_of_what_was_measured(
    room: TrainRoom, runs: Runs, qtbot: QtBot, pictures: Path, behave: Callable[..., None]
) -> None:
    inspected(room, qtbot, pictures)
    assert "images seen" not in room.new_panel.estimate.text()
    choice = room.new_panel.run_settings()
    assert choice is not None
    choice.recipe.write(pictures.parent / "same.toml")
    behave(steps=5)
    run = runs.start(TrainRequest(folder=pictures, recipe=str(pictures.parent / "same.toml")))
    qtbot.waitUntil(lambda: runs.summary(run).status is Status.FINISHED, timeout=PATIENCE_MS)
    inspected(room, qtbot, pictures)
    qtbot.waitUntil(
        lambda: "About 460,000 images seen" in room.new_panel.estimate.text(), timeout=PATIENCE_MS
    )  # 64 a second


def test_two_clicks_start_one_run_and_the_window_does_not_wait_for_it(
    room: TrainRoom, runs: Runs, qtbot: QtBot, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspected(room, qtbot, pictures)
    threads: list[threading.Thread] = []

    def slow(*_: object, **__: object) -> None:
        threads.append(threading.current_thread())
        time.sleep(0.2)
        raise StorageProblem("The run folder cannot be created")

    monkeypatch.setattr(runs, "start", slow)
    for _ in range(2):
        qtbot.mouseClick(room.new_panel.start, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(room.message.isVisible, timeout=PATIENCE_MS)
    assert len(threads) == 1 and threads[0] is not threading.main_thread()

    def started_again() -> bool:
        """The first start ends a moment after its message is shown."""
        qtbot.mouseClick(room.new_panel.start, Qt.MouseButton.LeftButton)
        return len(threads) == 2

    qtbot.waitUntil(started_again, timeout=PATIENCE_MS)


def test_a_full_disk_is_one_sentence(
    room: TrainRoom, runs: Runs, qtbot: QtBot, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspected(room, qtbot, pictures)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    qtbot.mouseClick(room.new_panel.start, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(room.message.isVisible, timeout=PATIENCE_MS)
    monkeypatch.undo()
    assert "the disk is full" in room.message.text()
    assert room.selected() is None, "the form stays as it was"


def test_a_run_whose_folder_is_deleted_leaves_the_list(
    room: TrainRoom, qtbot: QtBot, pictures: Path, behave: Callable[..., None]
) -> None:
    behave(steps=5)
    path = started(room, qtbot, pictures)
    reaches(room, qtbot, Status.FINISHED)
    shutil.rmtree(path)
    qtbot.waitUntil(lambda: not room.runs_list.cards(), timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: room.selected() is None, timeout=PATIENCE_MS)


def test_a_run_is_removed_with_the_keyboard_after_a_question(
    room: TrainRoom, qtbot: QtBot, pictures: Path, behave: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("send2trash.send2trash", shutil.rmtree)
    behave(steps=4000)
    path = started(room, qtbot, pictures)
    reaches(room, qtbot, Status.TRAINING)
    assert not room.run_view.remove.isEnabled()
    assert "stop it first" in room.run_view.remove.toolTip()
    room.runs_list.cards()[path].setFocus()
    qtbot.keyClick(room.runs_list.cards()[path], Qt.Key.Key_Delete)
    assert "Stop it first" in room.message.text()
    assert not room.findChildren(QMessageBox)

    qtbot.mouseClick(room.run_view.stop, Qt.MouseButton.LeftButton)
    reaches(room, qtbot, Status.STOPPED)
    qtbot.waitUntil(room.run_view.remove.isEnabled)

    def answer(text: str) -> None:
        (box,) = room.findChildren(QMessageBox)
        assert path.name in box.text()
        assert "checkpoints" in box.informativeText()
        qtbot.mouseClick(
            next(button for button in box.buttons() if button.text().strip("&") == text), Qt.MouseButton.LeftButton
        )
        qtbot.waitUntil(lambda: not room.findChildren(QMessageBox))

    qtbot.mouseClick(room.run_view.remove, Qt.MouseButton.LeftButton)
    answer("Cancel")
    assert path.is_dir()
    room.activateWindow()  # as a window manager does when a dialog has gone
    qtbot.waitUntil(room.isActiveWindow)
    with qtbot.waitSignal(room.run_removed, timeout=PATIENCE_MS) as removed:
        qtbot.keyClick(room.runs_list.cards()[path], Qt.Key.Key_Delete)
        answer("Remove")
    assert removed.args == [path]
    qtbot.waitUntil(lambda: not room.runs_list.cards() and room.selected() is None, timeout=PATIENCE_MS)
    assert pictures.is_dir()


def test_runs_are_walked_by_keyboard(
    room: TrainRoom, runs: Runs, qtbot: QtBot, pictures: Path, behave: Callable[..., None]
) -> None:
    behave(steps=3)
    for _ in range(2):
        runs.start(TrainRequest(folder=pictures))
    qtbot.waitUntil(
        lambda: [card.status() for card in room.runs_list.cards().values()] == ["finished"] * 2, timeout=PATIENCE_MS
    )
    qtbot.keyClick(room, Qt.Key.Key_N, Qt.KeyboardModifier.ControlModifier)
    first, second = room.runs_list.cards().values()
    room.activateWindow()
    first.setFocus()
    qtbot.keyClick(first, Qt.Key.Key_Down)
    assert second.hasFocus()
    qtbot.keyClick(second, Qt.Key.Key_Return)
    assert room.selected() == list(room.runs_list.cards())[1]
    qtbot.keyClick(room, Qt.Key.Key_N, Qt.KeyboardModifier.ControlModifier)
    assert room.selected() is None
    qtbot.waitUntil(lambda: not any(summary.alive for summary in runs.list()), timeout=PATIENCE_MS)


def _inside(widget: QWidget, *kinds: type[QWidget]) -> bool:
    """Part of a thing that has its name as a whole."""
    parent = widget.parentWidget()
    return parent is not None and (isinstance(parent, kinds) or _inside(parent, *kinds))


def test_everything_that_takes_the_keyboard_has_a_name_and_a_tooltip(
    room: TrainRoom, qtbot: QtBot, pictures: Path, behave: Callable[..., None]
) -> None:
    behave(steps=20)
    started(room, qtbot, pictures)
    reaches(room, qtbot, Status.FINISHED)
    nameless = []
    for widget in room.findChildren(QWidget):
        takes_keys = bool(widget.focusPolicy() & Qt.FocusPolicy.TabFocus)
        inner = widget.objectName().startswith("qt_") or _inside(widget, QComboBox, QMenu, QGraphicsView)
        named = widget.accessibleName() and (widget.toolTip() or isinstance(widget, QAbstractScrollArea))
        if takes_keys and not inner and not named:
            nameless.append(f"{type(widget).__name__} in {type(widget.parent()).__name__}")
    assert not nameless


@pytest.mark.parametrize("cast", ["dark", "light"])
def test_it_fits_a_small_window_with_long_names(
    room: TrainRoom, runs: Runs, qtbot: QtBot, pictures: Path, behave: Callable[..., None], cast: str
) -> None:
    app = QApplication.instance()
    assert isinstance(app, QApplication)
    theme.apply(app, cast)
    behave(steps=20)
    inspected(room, qtbot, pictures)
    room.new_panel.run_name.setText("a name as long as a name can be and 猫 then some words more than that")
    qtbot.mouseClick(room.new_panel.start, Qt.MouseButton.LeftButton)
    reaches(room, qtbot, Status.FINISHED)
    qtbot.waitUntil(lambda: room.run_view.chart._plot is not None, timeout=PATIENCE_MS)
    room.resize(1000, 620)
    qtbot.wait(20)
    assert room.width() == 1000 and room.height() == 620, "nothing forces the window larger"
    for part in (room.run_panel.button, room.run_view.open, room.run_view.samples.slider, room.run_view.chart):
        corner = part.mapTo(room, part.rect().bottomRight())
        assert room.rect().contains(corner), part
    assert room.run_view.title.shown_text().endswith("…")
    background = theme.colour("background")
    assert room.grab().toImage().pixelColor(320, 610) == background


def test_a_low_window_leaves_the_height_to_charts_and_has_one_row_of_buttons(
    room: TrainRoom, qtbot: QtBot, pictures: Path, behave: Callable[..., None]
) -> None:
    behave(steps=20)
    started(room, qtbot, pictures)
    reaches(room, qtbot, Status.FINISHED)
    opened: list[bool] = []
    view = room.run_view
    view.open_folder_requested.disconnect(room._open_folder)
    view.open_folder_requested.connect(lambda: opened.append(True))
    room.resize(800, 470)
    walk.settle()
    assert view.buttons.height() <= theme.scaled(40) and view.longer.isVisible() and not view.open.isVisible()
    menu = view.buttons.open_menu()
    entry = next(one for one in menu.actions() if one.text() == "Open folder")
    entry.trigger()
    menu.close()
    assert opened == [True]
    room.resize(1366, 768)
    walk.settle()
    assert view.open.isVisible() and view.remove.isVisible()


def test_a_picture_of_the_folder_that_went_away_is_left_out(
    room: TrainRoom, qtbot: QtBot, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffstudio.ui.train.folder import folder_inspector

    def gone(path: Path, *_: object) -> QImage | None:
        path.unlink(missing_ok=True)
        return None

    monkeypatch.setattr(folder_inspector, "as_seen", gone)
    inspected(room, qtbot, pictures)
    qtbot.waitUntil(lambda: not (pictures / "cars" / "3.png").exists(), timeout=PATIENCE_MS)
    assert room.folder_view.report_view._flow.count() == 0
    assert room.new_panel.start.isVisible()


def recorded(runs: Runs, pictures: Path, name: str, *events: RunEvent) -> RunFolder:
    """A run that ended with these events."""
    recipe = Recipe()
    run = RunFolder.create(runs.folder / name, recipe, pictures)
    run.append(RunStarted(0, 10, 1, 1000, 8, 2, "cpu", "float32", 1, "why"))
    for event in events:
        run.append(event)
    return run


def test_runs_are_laid_over_each_other_and_have_notes(
    room: TrainRoom, runs: Runs, qtbot: QtBot, pictures: Path
) -> None:
    measured = [RunStep(step, 10, step, 1 / step, 1.0, 1e-3, 5.0, 1.0, 1.0) for step in range(1, 11)]
    one = recorded(runs, pictures, "one", *measured, RunStopped(10))
    two = recorded(runs, pictures, "two", *measured, RunStopped(10))
    room.refresh()
    qtbot.waitUntil(lambda: len(room.runs_list.cards()) == 2, timeout=PATIENCE_MS)
    room.select(one.path)
    qtbot.waitUntil(lambda: not room.run_view.chart.chart().is_empty(), timeout=PATIENCE_MS)
    room.run_view.chart._toggle(two.path, True)
    qtbot.waitUntil(
        lambda: [line.name for line in room.run_view.chart.chart().lines][-1] == "two, smoothed", timeout=PATIENCE_MS
    )
    room.run_panel.note.setPlainText("half the rate")
    room.select(two.path)  # which saves it
    qtbot.waitUntil(lambda: read_note(one).text == "half the rate", timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: room.run_panel.note.toPlainText() == "", timeout=PATIENCE_MS)
    assert read_note(two).text == ""
    room.select(one.path)
    qtbot.waitUntil(lambda: room.run_panel.note.toPlainText() == "half the rate", timeout=PATIENCE_MS)


def full_disk(run: RunFolder, note: str) -> None:
    raise StorageProblem("The disk is full")


def two_runs(room: TrainRoom, runs: Runs, qtbot: QtBot, pictures: Path) -> tuple[RunFolder, RunFolder]:
    """The first of which is shown."""
    one, two = (recorded(runs, pictures, name, RunStopped(10)) for name in ("one", "two"))
    room.refresh()
    qtbot.waitUntil(lambda: len(room.runs_list.cards()) == 2, timeout=PATIENCE_MS)
    room.select(one.path)
    qtbot.waitUntil(lambda: room.run_panel._run == one, timeout=PATIENCE_MS)
    return one, two


def test_a_note_that_cannot_be_saved_stays_in_its_field(
    room: TrainRoom, runs: Runs, qtbot: QtBot, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = two_runs(room, runs, qtbot, pictures)
    note = room.run_panel.note
    with monkeypatch.context() as patched:
        patched.setattr(run_actions, "write_note", full_disk)
        note.setPlainText("half the rate")
        note.save()
        qtbot.waitUntil(lambda: "The disk is full" in room.message.text(), timeout=PATIENCE_MS)
        room.run_panel.show_note(one, read_note(one))
        assert note.toPlainText() == "half the rate"
    room.select(two.path)
    qtbot.waitUntil(lambda: read_note(one).text == "half the rate", timeout=PATIENCE_MS)


def test_a_note_that_cannot_be_saved_when_another_run_is_chosen_is_there_when_its_run_is_shown_again(
    room: TrainRoom, runs: Runs, qtbot: QtBot, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = two_runs(room, runs, qtbot, pictures)
    note = room.run_panel.note
    with monkeypatch.context() as patched:
        patched.setattr(run_actions, "write_note", full_disk)
        note.setPlainText("half the rate")
        room.select(two.path)
        qtbot.waitUntil(lambda: "The disk is full" in room.message.text(), timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: note.toPlainText() == "", timeout=PATIENCE_MS)
    room.select(one.path)
    qtbot.waitUntil(lambda: read_note(one).text == "half the rate", timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: note.toPlainText() == "half the rate", timeout=PATIENCE_MS)
    assert read_note(two).text == ""


def test_a_note_that_is_not_shown_completely_is_not_replaced(
    room: TrainRoom, runs: Runs, qtbot: QtBot, pictures: Path
) -> None:
    """As one that was written with another program."""
    long = "x" * (LONGEST_NOTE + 1)
    run, other = (recorded(runs, pictures, name, RunStopped(10)) for name in ("one", "two"))
    (run.path / "notes.txt").write_text(long)
    room.refresh()
    qtbot.waitUntil(lambda: len(room.runs_list.cards()) == 2, timeout=PATIENCE_MS)
    room.select(run.path)
    panel = room.run_panel
    qtbot.waitUntil(panel.note_problem.isVisible, timeout=PATIENCE_MS)
    assert "longer than 10,000 characters" in panel.note_problem.text()
    qtbot.keyClicks(panel.note, "y")
    room.select(other.path)
    qtbot.waitUntil(lambda: not panel.note_problem.isVisible(), timeout=PATIENCE_MS)
    assert panel.note.toPlainText() == "" and not panel.note.isReadOnly()
    assert (run.path / "notes.txt").read_text() == long


def test_a_run_that_copies_is_not_shown_as_a_success(room: TrainRoom, runs: Runs, qtbot: QtBot, pictures: Path) -> None:
    finished = RunFinished(10, "checkpoints/latest.safetensors", False, "It copies.", "copying", ("3 copies",), 5)
    run = recorded(runs, pictures, "copies", RunHeldOut(10, 0.5), finished)
    room.refresh()
    qtbot.waitUntil(lambda: run.path in room.runs_list.cards(), timeout=PATIENCE_MS)
    assert room.runs_list.cards()[run.path].status() == "finished · copying"
    room.select(run.path)
    verdict = room.runs_list.learning
    qtbot.waitUntil(verdict.isVisible, timeout=PATIENCE_MS)
    assert verdict.text.text() == "It copies." and "3 copies" in verdict.evidence.text()
    assert not room.run_view.outcome.isVisible(), "it is said once, beside its evidence"
    card = room.runs_list.cards()[run.path]
    qtbot.waitUntil(lambda: verdict.y() > card.geometry().bottom(), timeout=PATIENCE_MS)
    room.select(None)
    qtbot.waitUntil(lambda: not verdict.isVisible(), timeout=PATIENCE_MS)


def test_the_verdict_is_below_the_card_that_was_chosen_which_does_not_move(
    room: TrainRoom, runs: Runs, qtbot: QtBot, pictures: Path
) -> None:
    room.resize(1200, 400)
    evidence = tuple(f"Evidence number {number}" for number in range(20))
    finished = RunFinished(10, "checkpoints/latest.safetensors", False, "It copies.", "copying", evidence, 5)
    made = [recorded(runs, pictures, f"run {number}", RunHeldOut(10, 0.5), finished) for number in range(4)]
    room.refresh()
    qtbot.waitUntil(lambda: made[-1].path in room.runs_list.cards(), timeout=PATIENCE_MS)
    first, *_, last = room.runs_list.cards().items()
    column, verdict = room.runs_list, room.runs_list.learning
    (area,) = column.findChildren(QScrollArea)  # one scroll bar
    bar = area.verticalScrollBar()
    for path, card in (first, last):
        top = card.mapTo(column, QPoint()).y()
        room.select(path)
        qtbot.waitUntil(lambda: verdict.isVisible() and len(verdict.evidence.text()) > 100, timeout=PATIENCE_MS)
        qtbot.waitUntil(lambda card=card: verdict.y() > card.geometry().bottom(), timeout=PATIENCE_MS)
        qtbot.wait(50)
        assert card.mapTo(column, QPoint()).y() == top or bar.value() in (bar.minimum(), bar.maximum())
        qtbot.waitUntil(lambda: bar.maximum() > 0, timeout=PATIENCE_MS)


def test_a_cross_validation_is_shown_by_its_step_and_offers_no_samples(
    room: TrainRoom, runs: Runs, qtbot: QtBot, pictures: Path
) -> None:
    folds = [
        RunStep(40, 400, 640, 0.5, 1.0, 1e-3, 20.0, 8.0, 90.0, 0.1, splits=4),
        RunHeldOut(40, 0.4, splits=4, low=0.3, high=0.5),
    ]
    run = recorded(runs, pictures, "few", *folds)
    summary = replace(runs.summary(run), status=Status.TRAINING)
    view = room.run_view
    view.show_run(summary, None, "")
    assert view.status.text().startswith("Cross-validation over 4 folds, step 40 of 400")
    assert view.stop.isVisibleTo(view)
    for button in (view.sample_now, view.save_now):
        assert button.isVisibleTo(view) and not button.isEnabled()
        assert button.toolTip().startswith("Not during the cross-validation")
    run.append(RunCrossValidated(0, 4, 16, 40, 400, 0.4, 0.3, 0.5, (40,), (0.4,), "Cross-validated"))
    summary = replace(runs.summary(run), status=Status.TRAINING)
    assert (summary.folds, summary.step, summary.steps) == (0, 0, 40)
    view.show_run(summary, None, "")
    assert view.status.text().startswith("Step 0 of 40")
    for button in (view.sample_now, view.save_now):
        assert button.isVisibleTo(view) and button.isEnabled() and "after the current step" in button.toolTip()


def test_samples_and_checkpoints_can_be_asked_for(
    room: TrainRoom, qtbot: QtBot, pictures: Path, behave: Callable[..., None]
) -> None:
    behave(steps=4000, seconds=0.02)
    run = RunFolder(started(room, qtbot, pictures))
    reaches(room, qtbot, Status.TRAINING)
    qtbot.waitUntil(room.run_view.sample_now.isVisible, timeout=PATIENCE_MS)
    qtbot.mouseClick(room.run_view.sample_now, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: run.asked()[RunRequest.SAMPLE] == 1, timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: "Samples will be generated" in room.message.text(), timeout=PATIENCE_MS)
    qtbot.mouseClick(room.run_view.save_now, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: run.asked()[RunRequest.SAVE] == 1, timeout=PATIENCE_MS)
    room.run_view.prompts_requested.emit()
    (dialog,) = room.findChildren(SamplePromptsDialog)
    dialog.prompts.setPlainText(" a red car \n\na ball")
    dialog.accept_button.click()
    qtbot.waitUntil(lambda: run.prompts() == ("a red car", "a ball"), timeout=PATIENCE_MS)
    assert run.asked()[RunRequest.SAMPLE] == 2
    qtbot.waitUntil(lambda: "after the current step" in room.message.text(), timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: not room.message.isVisible(), timeout=PATIENCE_MS)  # once it is done
    room.run_view.stop_requested.emit()
    reaches(room, qtbot, Status.STOPPED)
    qtbot.waitUntil(lambda: not room.run_view.sample_now.isVisible(), timeout=PATIENCE_MS)


def test_a_recipe_changed_by_hand_is_trained_with(room: TrainRoom, qtbot: QtBot, pictures: Path) -> None:
    inspected(room, qtbot, pictures)
    panel = room.new_panel
    assert "of memory" in panel.estimate.text()
    dialog = panel.open_all_settings()
    assert dialog is not None
    before = panel.estimate.text()
    batch = dialog.fields["run.batch"]
    assert isinstance(batch, QLineEdit)
    batch.setText("512")
    dialog.accept_button.click()
    settings = panel.run_settings()
    assert settings is not None and settings.recipe.run.batch == 512 and panel.changed_note.isVisible()
    assert panel.estimate.text() != before  # it needs more memory
    panel.minutes.set_value(5.0)
    panel.minutes.value_changed.emit(5.0)
    settings = panel.run_settings()
    assert settings is not None and settings.recipe.run.batch == 512  # the automatic recipe does not replace it
    panel.recipe.chosen.emit(panel.recipe.value())
    settings = panel.run_settings()
    assert settings is not None and settings.recipe.run.batch != 512 and not panel.changed_note.isVisible()


def test_sizes_that_do_not_go_together_cannot_be_started(room: TrainRoom, qtbot: QtBot, pictures: Path) -> None:
    inspected(room, qtbot, pictures)
    panel = room.new_panel
    settings = panel.run_settings()
    assert settings is not None
    panel._use_recipe(replace(settings.recipe, network=replace(settings.recipe.network, patch=7)))
    assert "patch of 7 px" in panel.problem.text() and not panel.start.isEnabled()


def test_images_of_extreme_shapes_are_named_as_soon_as_the_folder_is_read(
    room: TrainRoom, qtbot: QtBot, tmp_path: Path
) -> None:
    """And with the remedy where none can be used: not only once Start was pressed. The remedy works."""
    for number in range(3):
        Image.new("RGB", (640, 20 + number), (80 * number, 0, 0)).save(tmp_path / f"strip-{number}.png")
    inspected(room, qtbot, tmp_path)
    panel, warnings = room.new_panel, room.folder_view.report_view.warnings
    assert (
        "none of its 3 images can be used" in panel.problem.text()
        and "Set the recipe's fit to pad" in panel.problem.text()
    )
    assert panel.problem.isVisible() and not panel.start.isEnabled()
    assert panel.recipe_reason.text().endswith(". With its own settings it can use none of the images.")
    assert "3 of other channels or shape" in warnings.banner.text() and warnings.isVisible()
    assert "strip-0.png" in warnings.list.item(0).text() and "3.1% would be left" in warnings.list.item(0).text()
    settings = panel.run_settings()
    assert settings is not None
    panel._use_recipe(replace(settings.recipe, data=replace(settings.recipe.data, fit="pad")))
    assert not panel.problem.text() and panel.start.isEnabled() and not warnings.isVisible()


def test_a_run_that_ended_can_be_trained_longer_and_be_started_from(
    room: TrainRoom, runs: Runs, qtbot: QtBot, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = RunFinished(10, "checkpoints/latest.safetensors", True, "It learned.", "learning", (), 10)
    run = recorded(runs, pictures, "toys", finished)
    run.state_file.write_bytes(b"")
    shutil.copyfile(paths.starter(), run.latest_checkpoint)
    room.refresh()
    qtbot.waitUntil(lambda: run.path in room.runs_list.cards(), timeout=PATIENCE_MS)
    room.select(run.path)
    qtbot.waitUntil(room.run_view.longer.isVisible, timeout=PATIENCE_MS)
    asked: list[tuple[str, float | None]] = []
    monkeypatch.setattr(runs, "train_longer", lambda run, *, minutes=None: asked.append((run.name, minutes)))
    room.run_view.longer_menu.actions()[1].trigger()
    qtbot.waitUntil(lambda: asked == [("toys", 15.0)], timeout=PATIENCE_MS)
    assert "15 min" in room.run_view.longer_menu.actions()[1].text()

    qtbot.mouseClick(room.run_view.start_from, Qt.MouseButton.LeftButton)
    assert room.selected() is None
    qtbot.waitUntil(room.new_panel.start.isVisible, timeout=PATIENCE_MS)  # its folder is inspected
    settings = room.new_panel.run_settings()
    assert settings is not None and settings.start_from == str(run.latest_checkpoint)
    requests: list[tuple[TrainRequest, RecipeChoice]] = []
    monkeypatch.setattr(runs, "start", lambda request, choice, *, name: (requests.append((request, choice)), run)[1])
    room.new_panel.start.click()
    qtbot.waitUntil(lambda: bool(requests), timeout=PATIENCE_MS)
    (request, choice), *_ = requests
    assert request.start_from == choice.recipe.run.start_from == str(run.latest_checkpoint)
    assert request.folder == pictures
    qtbot.waitUntil(lambda: room.new_panel.start_from.value() is None, timeout=PATIENCE_MS)
    settings = room.new_panel.run_settings()
    assert settings is not None and settings.recipe.run.start_from == STARTER  # the next run is automatic again


def test_the_recipe_starts_from_what_is_chosen(room: TrainRoom, qtbot: QtBot, pictures: Path, tmp_path: Path) -> None:
    inspected(room, qtbot, pictures)
    panel = room.new_panel
    checkpoint, broken = tmp_path / "mine.safetensors", tmp_path / "broken.safetensors"
    shutil.copyfile(paths.starter(), checkpoint)
    broken.write_bytes(b"")
    panel.offer_checkpoints([(checkpoint, "mine"), (broken, "broken")])

    def recipe_from(value: str | None) -> Recipe:
        panel.start_from.set_value(value)
        panel.start_from.value_changed.emit(value)
        settings = panel.run_settings()
        assert settings is not None
        return settings.recipe

    assert recipe_from(None).run.start_from == STARTER
    scratch = recipe_from(FROM_SCRATCH)
    assert scratch.run.start_from == ""
    panel.recipe.set_value("small")
    panel.recipe.chosen.emit("small")
    rate = recipe_from(FROM_SCRATCH).optimiser.learning_rate
    started = recipe_from(str(checkpoint))
    assert started.run.start_from == str(checkpoint) and started.optimiser.learning_rate == rate / 2
    recipe_from(str(broken))
    assert "broken" in panel.problem.text() and not panel.start.isEnabled()
    panel.recipe.set_value("auto")
    panel.recipe.chosen.emit("auto")
    assert not panel.start.isEnabled()
    panel.offer_checkpoints([(checkpoint, "mine")])  # the other one was removed
    settings = panel.run_settings()
    assert settings is not None and settings.recipe.run.start_from == STARTER and panel.start.isEnabled()
    panel.start_with(checkpoint)
    panel.minutes.set_value(5.0)
    panel.minutes.value_changed.emit(5.0)
    settings = panel.run_settings()
    assert settings is not None and settings.recipe.run.start_from == str(checkpoint)


def test_a_gan_is_offered_no_noise_levels_and_no_muon(room: TrainRoom, qtbot: QtBot, pictures: Path) -> None:
    inspected(room, qtbot, pictures)
    panel = room.new_panel
    panel.recipe.set_value("gan")
    panel.recipe.chosen.emit("gan")
    settings = panel.run_settings()
    assert settings is not None and settings.recipe.objective.kind is ObjectiveName.GAN
    assert panel.noise_levels.isHidden() and panel.optimiser.value() is OptimiserName.ADAM
    assert not panel.optimiser.set_value(OptimiserName.MUON) and panel.start.isEnabled()
    panel.recipe.set_value("tiny")
    panel.recipe.chosen.emit("tiny")
    assert not panel.noise_levels.isHidden() and panel.optimiser.value() is OptimiserName.MUON


def test_a_unet_is_offered_beside_the_others_without_muon(room: TrainRoom, qtbot: QtBot, pictures: Path) -> None:
    inspected(room, qtbot, pictures)
    panel = room.new_panel
    panel.recipe.set_value("unet")
    panel.recipe.chosen.emit("unet")
    settings = panel.run_settings()
    assert settings is not None and settings.recipe.network.kind is NetworkName.UNET and panel.start.isEnabled()
    assert not panel.noise_levels.isHidden() and panel.optimiser.value() is OptimiserName.ADAMW
    assert not panel.optimiser.set_value(OptimiserName.MUON) and "memory" in panel.estimate.text()
    assert "or to compare networks" in panel.recipe_reason.text()


def test_a_finished_run_is_tuned_to_few_steps(
    room: TrainRoom, runs: Runs, qtbot: QtBot, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Start from this…, then the recipe; without a checkpoint the recipe says what is missing."""
    for picture in pictures.rglob("*.png"):
        picture.with_suffix(".txt").write_text("red apple, fruit", encoding="utf-8")
    finished = RunFinished(10, "checkpoints/latest.safetensors", True, "It learned.", "learning", (), 10)
    run = recorded(runs, pictures, "toys", finished)
    shutil.copyfile(paths.starter(), run.latest_checkpoint)
    room.refresh()
    qtbot.waitUntil(lambda: run.path in room.runs_list.cards(), timeout=PATIENCE_MS)
    room.select(run.path)
    qtbot.mouseClick(room.run_view.start_from, Qt.MouseButton.LeftButton)
    panel = room.new_panel
    qtbot.waitUntil(panel.start.isVisible, timeout=PATIENCE_MS)
    panel.recipe.set_value("few-steps")
    panel.recipe.chosen.emit("few-steps")
    settings = panel.run_settings()
    assert settings is not None and panel.start.isEnabled() and not panel.problem.text()
    recipe = settings.recipe
    assert recipe.few_steps.enabled and recipe.few_steps.guidance == 3.0 and recipe.data.size == 64
    assert "It distils Starter · emoji 64 with that checkpoint's own settings" in panel.recipe_reason.text()
    assert "keeps the image size" in panel.image_size.combo.toolTip() and not panel.noise_levels.isVisible()
    dialog = panel.open_all_settings()
    assert dialog is not None and "few_steps.segments" in dialog.fields and "few_steps.teacher" not in dialog.fields
    dialog.reject()
    requests: list[TrainRequest] = []
    monkeypatch.setattr(runs, "start", lambda request, choice, *, name: (requests.append(request), run)[1])
    panel.start.click()
    qtbot.waitUntil(lambda: bool(requests), timeout=PATIENCE_MS)
    assert requests[0].start_from == str(run.latest_checkpoint)

    qtbot.waitUntil(lambda: panel.start_from.value() is None, timeout=PATIENCE_MS)
    assert "needs a checkpoint" in panel.problem.text() and not panel.start.isEnabled()
    assert not panel.problem.isHidden() and panel.problem.parent() is panel.start.parent(), "at the button"
    panel.start_from.set_value(FROM_SCRATCH)
    panel.start_from.value_changed.emit(FROM_SCRATCH)
    assert "needs a checkpoint" in panel.problem.text()
    panel.recipe.set_value("small")
    panel.recipe.chosen.emit("small")
    assert panel.start.isEnabled() and panel.image_size.combo.isEnabled()

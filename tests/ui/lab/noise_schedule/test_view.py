"""The page Noise schedule in use: models, comparisons, images from a worker in a thread, runs, and saved schedules."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QContextMenuEvent, QGuiApplication
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.models import loading
from diffstudio.models.fitted_steps.stored import store
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.model import Model
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.curves.curve import NoiseCurve
from diffstudio.studio.curves.presets import preset_curves
from diffstudio.studio.curves.saved import NamedCurve, find_curve, save_curve
from diffstudio.studio.jobs.live_tasks import LiveTasks
from diffstudio.training.recipe import Recipe, read_recipe
from diffstudio.training.run.events import RunHeldOut, RunStarted
from diffstudio.training.run.run_folder import RunFolder
from diffstudio.ui.lab.noise_schedule.view import THIS_CURVE, NoiseScheduleView
from diffstudio.ui.widgets import theme
from tests.models.fitted_steps.some_ladders import ladder
from tests.models.tiny import write_tiny_checkpoint
from tests.studio.evaluations.small_models import write_checkpoint
from tests.ui import walk
from tests.ui.accessibility import accessibility_problems

CPU = torch.device("cpu")
PATIENCE_MS = 30_000
STEEP = NoiseCurve(((0.0, 9.0), (0.3, 2.0), (1.0, -9.0)))


@pytest.fixture
def live() -> Iterator[LiveTasks]:
    """Tasks with a thread that computes them, as the worker does."""
    changed, over = threading.Condition(), threading.Event()
    tasks = LiveTasks(changed)
    models: dict[str, Model] = {}

    def load(checkpoint: str, cancelled: Callable[[], bool]) -> Model:
        if checkpoint not in models:
            models[checkpoint] = loading.load(read_checkpoint(Path(checkpoint)), CPU)
        return models[checkpoint]

    def work() -> None:
        while not over.is_set():
            with changed:
                changed.wait_for(lambda: tasks.may_run() or over.is_set(), 0.05)
            tasks.run(load)

    thread = threading.Thread(target=work)
    thread.start()
    yield tasks
    over.set()
    thread.join()


@pytest.fixture
def view(live: LiveTasks, qtbot: QtBot, dressed: QApplication) -> Iterator[NoiseScheduleView]:
    view = NoiseScheduleView()
    qtbot.addWidget(view)
    view.use(live)
    view.resize(660, 430)
    view.show()
    qtbot.waitExposed(view)
    yield view
    view.shut_down()


def offer(view: NoiseScheduleView, *names: str) -> Path:
    """Offer tiny models; the path of the first."""
    found = [write_tiny_checkpoint(paths.checkpoints() / f"{name}.safetensors") for name in names]
    view.offer([read_checkpoint(path) for path in found])
    return found[0]


def drawn(view: NoiseScheduleView, qtbot: QtBot, count: int = 2) -> None:
    """Wait until the newest images are shown."""
    qtbot.waitUntil(lambda: not view.answers.busy and len(view.images.thumbnails()) == count, timeout=PATIENCE_MS)


def shown_notes(view: NoiseScheduleView) -> str:
    return view.warnings.text()


def test_without_a_model_it_says_what_is_needed(view: NoiseScheduleView, qtbot: QtBot) -> None:
    view.offer([])
    assert not view.canvas.isVisible() and not view.answers.busy
    offer(view, "tiny")
    assert view.canvas.isVisible() and view.controls.model.value().endswith("tiny.safetensors")


def test_images_follow_the_curve_and_the_newest_counts(view: NoiseScheduleView, qtbot: QtBot) -> None:
    offer(view, "tiny")
    view.controls.steps.set_value(3)
    view.controls.steps.value_changed.emit(3)
    drawn(view, qtbot)
    before = [thumbnail.target.image.copy() for thumbnail in view.images.thumbnails()]
    for name in ("cosine", "edm", "linear"):
        view.canvas.set_curve(preset_curves()[name])
    drawn(view, qtbot)
    qtbot.waitUntil(lambda: view.images.thumbnails()[0].target.image != before[0], timeout=PATIENCE_MS)
    assert view.images.thumbnails()[1].target.image == before[1], "the image that it is compared with stays"
    (task, _) = view._images[THIS_CURVE]
    assert task.spacing == preset_curves()["linear"] and task.steps == 3
    view.controls.compared.set_value("")
    view.controls.compared.value_changed.emit("")
    drawn(view, qtbot, 1)
    view.controls.draw.setChecked(False)
    assert not view.images.isVisible() and not view.answers.busy


def test_images_have_the_menu_of_every_image(view: NoiseScheduleView, qtbot: QtBot) -> None:
    offer(view, "tiny")
    drawn(view, qtbot)
    with qtbot.waitSignal(view.menu_requested) as asked:
        QApplication.sendEvent(
            view.images.thumbnails()[0], QContextMenuEvent(QContextMenuEvent.Reason.Mouse, QPoint(1, 1), QPoint(5, 5))
        )
    assert asked.args[0].image is not None


def test_what_cannot_be_drawn_is_said(view: NoiseScheduleView, qtbot: QtBot) -> None:
    there = read_checkpoint(write_tiny_checkpoint(paths.checkpoints() / "tiny.safetensors"))
    view.offer([replace(there, path=paths.checkpoints() / "gone.safetensors")])
    qtbot.waitUntil(lambda: view.image_problem.isVisible(), timeout=PATIENCE_MS)
    assert "There is no checkpoint" in view.image_problem.text()


def test_no_image_of_other_settings_stays_beside_what_failed(view: NoiseScheduleView, qtbot: QtBot) -> None:
    offer(view, "tiny")
    drawn(view, qtbot)
    assert view.images.thumbnails()
    there = read_checkpoint(paths.checkpoints() / "tiny.safetensors")
    view.offer([replace(there, path=paths.checkpoints() / "gone.safetensors")])
    qtbot.waitUntil(lambda: view.image_problem.isVisible(), timeout=PATIENCE_MS)
    assert not view.images.thumbnails()
    offer(view, "tiny")
    drawn(view, qtbot)
    assert view.images.thumbnails() and not view.image_problem.isVisible()


def test_a_typed_point_is_taken_or_refused_with_a_sentence(view: NoiseScheduleView, qtbot: QtBot) -> None:
    offer(view, "tiny")
    view.canvas.set_curve(STEEP)
    view.canvas.choose(1)
    fields = view.fields
    assert (fields.time.value(), fields.log_snr.value()) == (0.3, 2.0)
    fields.log_snr.setValue(4.0)
    assert view.curve().points[1] == (0.3, 4.0)
    fields.log_snr.setValue(12.0)
    assert view.curve().points[1] == (0.3, 4.0) and "does not fall" in view._problem
    assert "does not fall" in shown_notes(view)
    fields.log_snr.setValue(4.0)
    fields.time.setValue(1.0)
    assert "two points at time 1" in shown_notes(view)
    fields.time.setValue(1.5)
    assert "time 1.5 is not between 0 and 1" in shown_notes(view)
    fields.undo.click()
    assert view.curve() == STEEP and "time 1.5" not in shown_notes(view)
    view.canvas.undo()
    assert view.curve() == preset_curves()["flow"] and not fields.undo.isEnabled()
    view.canvas.set_curve(STEEP)
    view.canvas.choose(0)
    assert not fields.time.isEnabled() and not fields.remove.isEnabled()
    fields.add.click()
    assert len(view.curve().points) == 4
    fields.remove.click()
    assert view.curve() == STEEP


def test_presets_the_model_and_saved_schedules_are_offered(view: NoiseScheduleView, qtbot: QtBot) -> None:
    save_curve(NamedCurve("steep", STEEP))
    (paths.schedules() / "broken.json").write_text("{")
    heard: list[tuple[str, str]] = []
    view.message.connect(lambda kind, text: heard.append((kind, text)))
    view.hide()
    view.show()
    assert heard and heard[0][0] == "warn" and "broken.json" in heard[0][1]
    offer(view, "tiny")
    start = view.fields.start
    for key, expected in (
        ("preset cosine", preset_curves()["cosine"]),
        ("saved steep", STEEP),
        ("model", view.fields._of_model),
    ):
        start.set_value(key)
        start.value_changed.emit(key)
        assert view.curve() == expected
    assert view.fields.name.text() == "steep"
    view.canvas.choose(1)
    view.canvas.setFocus()
    qtbot.keyClick(view.canvas, Qt.Key.Key_Up)
    assert start.combo.currentText() == "Drawn by hand"
    view.fields.undo.click()
    assert start.combo.currentText() in ("Of the model", "Flow")


def test_a_schedule_is_saved_replaced_and_deleted(view: NoiseScheduleView, qtbot: QtBot, tmp_path: Path) -> None:
    heard: list[tuple[str, str]] = []
    view.message.connect(lambda kind, text: heard.append((kind, text)))
    offer(view, "tiny")
    view.canvas.set_curve(STEEP)
    fields = view.fields
    assert not fields.save.isEnabled()
    qtbot.keyClicks(fields.name, "mine")
    fields.save.click()
    assert find_curve("mine") == NamedCurve("mine", STEEP) and heard[-1][0] == "good"
    assert fields.start.combo.currentText() == "mine" and fields.delete.isEnabled()
    for name in ("Karras", "a/b"):
        fields.name.setText(name)
        fields.save.click()
        assert heard[-1][0] == "bad" and "cannot be called" in heard[-1][1]
    fields.copy.click()
    recipe = tmp_path / "mine.toml"
    recipe.write_text(f"[objective]\n{QGuiApplication.clipboard().text()}")
    assert read_recipe(recipe).objective.noise_curve == STEEP.pairs
    fields.name.setText("mine")
    fields.delete.click()
    assert find_curve("mine") is None and not fields.delete.isEnabled() and "keep its points" in heard[-1][1]


def test_fitted_steps_are_shown_where_there_are_some(view: NoiseScheduleView, qtbot: QtBot) -> None:
    path = offer(view, "tiny")
    store(read_checkpoint(path), [ladder("euler", 4)])
    view.offer([read_checkpoint(path)])
    view.controls.sampler.set_value("euler")
    view.controls.steps.set_value(4)
    view.controls.steps.value_changed.emit(4)
    assert [one.name for one in view.schedule().steps][-1] == "Fitted"  # type: ignore[union-attr]
    drawn(view, qtbot, 3)
    view.controls.steps.set_value(5)
    view.controls.steps.value_changed.emit(5)
    assert "Fitted" not in [one.name for one in view.schedule().steps]  # type: ignore[union-attr]


def test_the_losses_of_its_run_are_below_the_curve(view: NoiseScheduleView, qtbot: QtBot) -> None:
    run = RunFolder.create(paths.runs() / "flowers", Recipe(), paths.data())
    run.append(RunStarted(0, 10, 1, 1, 1, 1, "cpu", "float32", 1, ""))
    run.append(RunHeldOut(100, 1.0, levels=(0.25, 0.75), level_losses=(1.0, 0.4)))
    none = RunFolder.create(paths.runs() / "empty", Recipe(), paths.data())
    made = write_tiny_checkpoint(run.latest_checkpoint)
    view.offer([read_checkpoint(made)])
    qtbot.waitUntil(lambda: view.schedule().losses is not None, timeout=PATIENCE_MS)  # type: ignore[union-attr]
    assert view.controls.run.value() == run.path
    assert any("Loss" in file.text for file in view.save.files())
    with qtbot.waitSignal(view.message) as heard:
        view.controls.run.set_value(none.path)
        view.controls.run.value_changed.emit(none.path)
    assert "empty has no held-out losses" in heard.args[1]
    view.controls.run.set_value(None)
    view.controls.run.value_changed.emit(None)
    assert view.schedule().losses is None  # type: ignore[union-attr]


def test_what_a_model_takes_is_offered(view: NoiseScheduleView, qtbot: QtBot, tmp_path: Path) -> None:
    by_class = read_checkpoint(write_checkpoint(tmp_path / "by class.safetensors"))
    nothing = read_checkpoint(write_checkpoint(tmp_path / "nothing.safetensors", Conditioning.NONE))
    starter = read_checkpoint(paths.starter())
    damaged = replace(starter, path=tmp_path / "x.safetensors", metadata={})
    view.controls.draw.setChecked(False)
    view.offer([by_class, nothing, starter, damaged])
    view.controls.draw.setChecked(False)
    controls = view.controls
    assert controls.kind.isVisible() and not controls.prompt.isVisible() and controls.sampling().prompt  # type: ignore[union-attr]
    for one in (nothing, starter, damaged):
        controls.model.set_value(str(one.path))
        controls.model.value_changed.emit(str(one.path))
        controls.draw.setChecked(False)
        assert controls.prompt.isVisible() is (one is not nothing) and controls.guidance.isVisible() is (
            one is not nothing
        )
        assert not controls.kind.isVisible()
    assert "cannot be shown" in shown_notes(view) and view.schedule().steps == ()  # type: ignore[union-attr]
    controls.model.set_value(str(starter.path))
    controls.model.value_changed.emit(str(starter.path))
    assert controls.prompt.text() and "cannot be shown" not in shown_notes(view)


def test_the_readout_follows_the_pointer_and_the_point(view: NoiseScheduleView, qtbot: QtBot) -> None:
    offer(view, "tiny")
    view.canvas.set_curve(STEEP)
    view.canvas.pointed.emit(0.3)
    assert "Time 0.300 · log-SNR 2.00" in view.readout.text()
    view.canvas.pointed.emit(None)
    assert "Time 0.000 · log-SNR 9.00" in view.readout.text()


@pytest.mark.parametrize("name", ["dark", "light"])
def test_everything_has_a_name_and_fits(
    view: NoiseScheduleView, qtbot: QtBot, dressed: QApplication, name: str
) -> None:
    theme.apply(dressed, name)
    offer(view, "tiny")
    drawn(view, qtbot)
    assert accessibility_problems(view) == []
    assert walk.clipped(view) == [] and walk.pushed_out(view) == [] and walk.hard_to_read(view) == []
    walk.lengthen(view, set())
    walk.settle()
    assert walk.clipped(view) == [] and walk.pushed_out(view) == []

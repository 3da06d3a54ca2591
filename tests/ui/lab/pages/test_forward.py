"""The page Forward process in use: the slider, schedules of families and checkpoints, images that are dropped."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QContextMenuEvent
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.library.library import Library
from diffstudio.studio.curves.forward import SCHEDULES, family_schedule, level_at
from diffstudio.ui.lab.pages import forward
from diffstudio.ui.lab.pages.forward import ForwardView
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.images.drag_and_drop import DroppedItem, DroppedKind
from tests.ui import walk
from tests.ui.accessibility import accessibility_problems

FRAME_SECONDS = 0.033


@pytest.fixture
def view(qtbot: QtBot, dressed: QApplication) -> Iterator[ForwardView]:
    view = ForwardView()
    qtbot.addWidget(view)
    view.resize(700, 900)
    view.show()
    qtbot.waitExposed(view)
    yield view
    view.shut_down()


def pixels(view: ForwardView, part: str) -> np.ndarray:  # type: ignore[type-arg]
    image = view.images[part].image()
    return np.array([[image.pixelColor(x, y).red() for x in range(0, 128, 8)] for y in range(0, 128, 8)])


def test_the_slider_goes_from_the_image_to_noise(view: ForwardView, qtbot: QtBot) -> None:
    assert "t 0.3, alpha 0.7, sigma 0.3" in view.figures.text()
    view.slider.setFocus()
    view.slider._slider.setFocus()
    qtbot.keyClick(view.slider._slider, Qt.Key.Key_Home)
    assert np.array_equal(pixels(view, "state"), pixels(view, "clean")) and "log-SNR ∞" in view.figures.text()
    qtbot.keyClick(view.slider._slider, Qt.Key.Key_End)
    assert "alpha 0, sigma 1" in view.figures.text()
    noise = pixels(view, "noise")
    assert np.corrcoef(pixels(view, "state").ravel(), noise.ravel())[0, 1] > 0.9
    view.again.click()
    assert not np.array_equal(pixels(view, "noise"), noise)


def test_schedules_of_families_and_of_checkpoints(view: ForwardView, qtbot: QtBot) -> None:
    view.schedule.set_value("edm")
    view.schedule.combo.chosen.emit("edm")
    assert "alpha 1," in view.figures.text() and view.plot.choice.itemText(1) == "Log-SNR over time"
    starter = next(one for one in Library().scan() if one.name == "starter")
    view.offer([starter])
    path = str(starter.path)
    view.schedule.set_value(path)
    view.schedule.combo.chosen.emit(path)
    assert "alpha 0.7, sigma 0.3" in view.figures.text()


def test_a_checkpoint_whose_schedule_cannot_be_read_is_named(
    view: ForwardView, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    starter = next(one for one in Library().scan() if one.name == "starter")
    monkeypatch.setattr(Checkpoint, "json", lambda self, key: {"kind": "odd"})
    view.offer([starter])
    view.schedule.set_value(str(starter.path))
    with qtbot.waitSignal(view.message) as caught:
        view.schedule.combo.chosen.emit(str(starter.path))
    assert caught.args[0] == "bad" and view.schedule.value() == "flow" and "alpha 0.7" in view.figures.text()


def test_images_are_dropped_and_bad_ones_named(view: ForwardView, qtbot: QtBot, tmp_path: Path) -> None:
    Image.new("LA", (600, 300), (0, 255)).save(tmp_path / "black.png")
    item = DroppedItem(DroppedKind.IMAGE, tmp_path / "black.png")
    assert view.drop_text([item]) and not view.drop_text([DroppedItem(DroppedKind.FOLDER, tmp_path)])
    view.take([item])
    qtbot.waitUntil(lambda: view.images["clean"].image().width() == 256)
    assert view.images["clean"].image().height() == 128 and pixels(view, "clean").max() == 0
    (tmp_path / "bad.png").write_bytes(b"no image")
    with qtbot.waitSignal(view.message) as caught:
        view.take([DroppedItem(DroppedKind.IMAGE, tmp_path / "bad.png")])
    assert "bad.png" in caught.args[1]
    event = QContextMenuEvent(QContextMenuEvent.Reason.Keyboard, QPoint(), QPoint())
    with qtbot.waitSignal(view.menu_requested) as asked:
        QApplication.sendEvent(view.images["state"], event)
    assert asked.args[0].image.width() == 256


def test_moving_the_slider_answers_within_a_frame(view: ForwardView) -> None:
    """Of this thread's own time, with painting; a factor of two for slow machines."""
    taken = []
    for value in range(0, 100, 9):
        start = time.thread_time()
        view.slider.set_value(value)
        view.slider.value_changed.emit(value)
        view.images["state"].repaint()
        view.plot.canvas.repaint()
        taken.append(time.thread_time() - start)
    assert statistics.median(taken) < 2 * FRAME_SECONDS


@pytest.mark.parametrize("colours", ["dark", "light"])
def test_nothing_is_cut_off_or_without_a_name_in_a_narrow_window(
    view: ForwardView, dressed: QApplication, colours: str
) -> None:
    theme.apply(dressed, colours)
    view.resize(600, 1000)
    walk.settle()
    assert accessibility_problems(view) == []
    assert walk.clipped(view) == [] and walk.pushed_out(view) == [] and walk.hard_to_read(view) == []


def test_the_schedule_of_a_deleted_checkpoint_goes_with_it(view: ForwardView, tmp_path: Path) -> None:
    starter = Library().find("starter")
    cosine = replace(starter, metadata={**starter.metadata, "diffstudio.schedule": json.dumps(SCHEDULES[3][2])})
    view.offer([cosine])
    view.schedule.set_value(str(starter.path))
    view.schedule.combo.chosen.emit(view.schedule.value())
    assert view.level == level_at(family_schedule("cosine"), view.level.t)
    view.offer([])
    assert view.schedule.value() == "flow" and "t 0.3, alpha 0.7, sigma 0.3" in view.figures.text()


def test_the_image_that_was_opened_last_is_shown(
    view: ForwardView, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("slow.png", 40), ("quick.png", 200)):
        Image.new("L", (64, 64), value).save(tmp_path / name)
    release, read = threading.Event(), forward.read_thumbnail

    def slowly(path: Path, side: int) -> Image.Image:
        if path.name == "slow.png":
            release.wait(10)
        return read(path, side)

    monkeypatch.setattr(forward, "read_thumbnail", slowly)
    view.open(tmp_path / "slow.png")
    view.open(tmp_path / "quick.png")
    qtbot.waitUntil(lambda: bool(np.allclose(view.clean, view.clean.flat[0])))
    shown = view.clean.copy()
    release.set()
    qtbot.wait(300)
    assert shown.mean() > 0 and np.array_equal(view.clean, shown)

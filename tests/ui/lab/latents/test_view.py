"""The page Latent space in use: sliders, ends, images and models, answered by a worker in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QContextMenuEvent
from PySide6.QtWidgets import QApplication, QFileDialog
from pytestqt.qtbot import QtBot

from diffstudio.errors import BadRequest
from diffstudio.models import loading
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.model import Model
from diffstudio.networks.autoencoder import Autoencoder
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.evaluations.latents.tasks import LatentImages
from diffstudio.studio.jobs.live_tasks import LiveTasks
from diffstudio.ui.lab.latents.view import LatentSpaceView
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.images.drag_and_drop import DroppedItem, DroppedKind
from tests.models.families.test_one_call import written
from tests.models.tiny import write_tiny_checkpoint
from tests.ui import walk
from tests.ui.accessibility import accessibility_problems

CPU = torch.device("cpu")
PATIENCE_MS = 30_000


@pytest.fixture
def live() -> Iterator[LiveTasks]:
    """Tasks with a thread that computes them, as the worker does."""
    changed, over = threading.Condition(), threading.Event()
    tasks = LiveTasks(changed)
    models: dict[str, Model] = {}

    def load(checkpoint: str, cancelled: Callable[[], bool]) -> Model:
        if checkpoint not in models:
            models[checkpoint] = loading.load(read_checkpoint(Path(checkpoint)), CPU)
            if isinstance(network := models[checkpoint].network, Autoencoder) and "old" not in checkpoint:
                network.set_directions(torch.randn(60, 48, generator=torch.Generator().manual_seed(0)) * 2)
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
def view(live: LiveTasks, qtbot: QtBot, dressed: QApplication) -> Iterator[LatentSpaceView]:
    view = LatentSpaceView()
    qtbot.addWidget(view)
    view.use(live)
    view.resize(660, 700)
    view.show()
    qtbot.waitExposed(view)
    yield view
    view.shut_down()


def offer(view: LatentSpaceView, folder: Path, *kinds: str, conditioning: Conditioning = Conditioning.CLASS) -> None:
    names = [written(folder / f"{kind}.safetensors", kind[:3], conditioning) for kind in kinds]
    names.append(write_tiny_checkpoint(folder / "diffusion.safetensors"))
    view.offer([read_checkpoint(name) for name in names])


def answer(qtbot: QtBot, view: LatentSpaceView, do: Callable[[], object]) -> LatentImages:
    """What is shown after `do`, once nothing is computed any more."""
    heard: list[Any] = []
    view.shown.connect(heard.append)
    do()
    qtbot.waitUntil(lambda: bool(heard) and not view.answers.busy, timeout=PATIENCE_MS)
    view.shown.disconnect(heard.append)
    found = heard[-1]
    assert isinstance(found, LatentImages)
    return found


def test_a_direction_moves_the_image_and_reset_brings_it_back(
    view: LatentSpaceView, qtbot: QtBot, tmp_path: Path
) -> None:
    first = answer(qtbot, view, lambda: offer(view, tmp_path, "vae"))
    assert [view.model.value()] == list(view._checkpoints) and view.kind.isVisible() and not view.prompt.isVisible()
    assert len(view.points.thumbnails()) == 1 and len(view.between.thumbnails()) == 7
    slider = view.directions.slider(0)._slider
    slider.setFocus()

    def move() -> None:
        for _ in range(10):
            qtbot.keyClick(slider, Qt.Key.Key_Right)

    moved = answer(qtbot, view, move)
    assert view.directions.amounts() == ((0, 1.0),) and not np.array_equal(moved.image, first.image)
    assert np.array_equal(moved.between[-1], first.between[-1])  # the other end stays
    back = answer(qtbot, view, view.directions.reset.click)
    assert view.directions.amounts() == () and np.array_equal(back.image, first.image)
    view.directions.more.click()
    assert view.directions.slider(31).isVisible() and not view.directions.more.isVisible()


def test_seeds_classes_and_truncation_change_what_is_shown(view: LatentSpaceView, qtbot: QtBot, tmp_path: Path) -> None:
    first = answer(qtbot, view, lambda: offer(view, tmp_path, "gan"))
    assert (
        not view.directions.isVisible() and not view.first.choose.isVisible() and "no directions" in view.about.text()
    )
    other = answer(qtbot, view, lambda: view.first.seed.setValue(5))
    assert not np.array_equal(first.image, other.image) and np.array_equal(first.between[-1], other.between[-1])
    ends = answer(qtbot, view, view.last.dice.click)
    assert np.array_equal(ends.image, other.image) and not np.array_equal(ends.between[-1], other.between[-1])
    view.kind.set_value("blue")
    of_class = answer(qtbot, view, lambda: view.kind.value_changed.emit("blue"))
    assert not np.array_equal(of_class.image, other.image)
    usual = answer(qtbot, view, lambda: view.truncation._slider.setValue(0))
    assert np.array_equal(usual.image, usual.between[-1])  # without noise all seeds are one image


def test_an_image_that_is_dropped_is_reconstructed(view: LatentSpaceView, qtbot: QtBot, tmp_path: Path) -> None:
    answer(qtbot, view, lambda: offer(view, tmp_path, "vae"))
    Image.effect_noise((40, 24), 80).convert("RGB").save(tmp_path / "a.png")
    item = DroppedItem(DroppedKind.IMAGE, tmp_path / "a.png")
    assert view.drop_text([item]) == "Drop to reconstruct the image"
    found = answer(qtbot, view, lambda: view.take([item]))
    names = [one.accessibleName() for one in view.points.thumbnails()]
    assert names == ["Original", "Reconstruction"] and not view.first.seed.isVisible()
    assert found.original is not None and found.original.shape == (16, 16, 3)
    view.directions.slider(0).set_value(2)
    answer(qtbot, view, view.directions.changed.emit)
    assert [one.accessibleName() for one in view.points.thumbnails()] == [*names, "Moved"]
    view.first.remove.setFocus()
    answer(qtbot, view, view.first.remove.click)
    assert view.first.image() is None and view.first.seed.hasFocus()


def test_an_image_that_cannot_be_read_is_named(view: LatentSpaceView, qtbot: QtBot, tmp_path: Path) -> None:
    answer(qtbot, view, lambda: offer(view, tmp_path, "vae"))
    (tmp_path / "no.png").write_bytes(b"text")
    view.first.choose.click()
    dialog = view.first.findChild(QFileDialog)
    assert dialog is not None
    dialog.fileSelected.emit(str(tmp_path / "no.png"))
    dialog.reject()
    qtbot.waitUntil(lambda: "no.png" in view.problem.text(), timeout=PATIENCE_MS)
    assert view.problem.isVisible() and view.points.thumbnails() == []
    answer(qtbot, view, view.first.remove.click)
    assert not view.problem.isVisible()


def test_another_model_shows_what_it_has(view: LatentSpaceView, qtbot: QtBot, tmp_path: Path) -> None:
    answer(qtbot, view, lambda: offer(view, tmp_path, "vae-old", "gan", conditioning=Conditioning.TEXT))
    assert view.prompt.isVisible() and not view.kind.isVisible() and "no directions" in view.about.text()
    image = answer(qtbot, view, lambda: qtbot.keyClicks(view.prompt, "a red square")).image
    assert not np.array_equal(image, answer(qtbot, view, view.prompt.clear).image)
    gan = next(path for path in view._checkpoints if "gan" in path)
    view.model.set_value(gan)
    answer(qtbot, view, lambda: view.model.value_changed.emit(gan))
    assert view.drop_text([DroppedItem(DroppedKind.IMAGE, tmp_path / "a.png")]) == ""
    offer(view, tmp_path, "gan", conditioning=Conditioning.TEXT)
    assert view.model.value() == gan  # it stays chosen


def test_without_such_a_model_the_page_says_how_to_get_one(view: LatentSpaceView, tmp_path: Path) -> None:
    offer(view, tmp_path)
    assert view._empty.isVisible() and "Train" in view._empty.text.text() and not view.answers.busy


def test_a_hidden_page_asks_for_nothing_until_it_is_shown(
    live: LiveTasks, qtbot: QtBot, dressed: QApplication, tmp_path: Path
) -> None:
    view = LatentSpaceView()
    qtbot.addWidget(view)
    view.use(live)
    offer(view, tmp_path, "gan")
    assert not view.answers.busy
    answer(qtbot, view, view.show)
    view.shut_down()


def test_images_have_the_menu_of_every_image(view: LatentSpaceView, qtbot: QtBot, tmp_path: Path) -> None:
    answer(qtbot, view, lambda: offer(view, tmp_path, "gan"))
    thumbnail = view.between.thumbnails()[3]
    with qtbot.waitSignal(view.menu_requested) as asked:
        QApplication.sendEvent(
            thumbnail, QContextMenuEvent(QContextMenuEvent.Reason.Keyboard, QPoint(5, 5), QPoint(5, 5))
        )
    assert asked.args is not None and asked.args[0].image.width() == 16


def test_work_that_takes_long_shows_its_line(view: LatentSpaceView, qtbot: QtBot) -> None:
    view.answers.busy_changed.emit(True)
    assert not view.line.isVisible()
    qtbot.waitUntil(view.line.isVisible)
    view.answers.busy_changed.emit(False)
    assert not view.line.isVisible()
    view.answers.failed.emit(str(BadRequest("It is too large")))
    assert view.problem.text() == "It is too large."


@pytest.mark.parametrize("colours", ["dark", "light"])
def test_nothing_is_cut_off_or_without_a_name_in_a_narrow_window(
    view: LatentSpaceView, qtbot: QtBot, dressed: QApplication, tmp_path: Path, colours: str
) -> None:
    answer(qtbot, view, lambda: offer(view, tmp_path, "vae"))
    theme.apply(dressed, colours)
    view.resize(531, 1400)  # of a window of 880 x 470 px, with all that is scrolled to
    walk.settle()
    assert accessibility_problems(view) == []
    assert walk.clipped(view) == [] and walk.pushed_out(view) == [] and walk.hard_to_read(view) == []
    walk.lengthen(view, set())
    walk.settle()
    assert walk.clipped(view) == [] and walk.pushed_out(view) == []

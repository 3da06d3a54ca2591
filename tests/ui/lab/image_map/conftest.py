"""A job with a map of 20 images on a grid, and a worker's tasks in a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from diffstudio.models import loading
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.model import Model
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.views.image_map import ImageMapView, read_image_map
from diffstudio.studio.jobs.live_tasks import LiveTasks
from diffstudio.ui.lab.image_map.view import ImageMapResultView
from tests.models.families.test_one_call import written
from tests.studio.evaluations.views.test_image_map import HELD_OUT, TRAINING, example


@pytest.fixture
def image_map(tmp_path: Path) -> ImageMapView:
    """Its training images are red, the held-out ones blue and the samples green; one sample was not kept."""
    for count, folder, colour, first in (
        (TRAINING, "photos/red", "red", 0),
        (HELD_OUT, "photos/blue", "blue", 0),
        (3, "job/images", "green", 1),
    ):
        (tmp_path / folder).mkdir(parents=True)
        for place in range(first, first + count):
            name = f"{place:02d}.png" if colour == "red" else f"{place}.png"
            Image.new("RGB", (16, 16), colour).save(tmp_path / folder / name)
    written(tmp_path / "tiny.safetensors", "gan")
    return read_image_map(JobFolder(tmp_path / "job"), example(tmp_path / "photos", tmp_path / "tiny.safetensors"))


@pytest.fixture
def live() -> Iterator[LiveTasks]:
    """Tasks with a thread that computes them, as the worker does."""
    changed, over = threading.Condition(), threading.Event()
    tasks = LiveTasks(changed)

    def load(checkpoint: str, cancelled: Callable[[], bool]) -> Model:
        return loading.load(read_checkpoint(Path(checkpoint)), torch.device("cpu"))

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
def view(image_map: ImageMapView, live: LiveTasks, qtbot: QtBot, dressed: QApplication) -> Iterator[ImageMapResultView]:
    view = ImageMapResultView()
    qtbot.addWidget(view)
    view.use(live)
    view.resize(640, 1300)
    view.show_result(image_map)
    view.show()
    qtbot.waitExposed(view)
    view.activateWindow()
    qtbot.waitUntil(view.isActiveWindow)
    yield view
    view.shut_down()

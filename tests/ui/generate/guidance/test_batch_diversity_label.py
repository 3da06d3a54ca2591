"""The diversity of a batch in the Generate room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pytestqt.qtbot import QtBot

from diffstudio.studio.batch_diversity import BatchDiversity
from diffstudio.studio.events import Finished, ImageSaved, Started
from diffstudio.studio.requests import GenerateRequest
from diffstudio.ui.generate.guidance.batch_diversity_label import BatchDiversityLabel
from diffstudio.ui.generate.room import GenerateRoom
from tests.ui.samples import picture

pytestmark = pytest.mark.usefixtures("dressed")


class Background:
    """Keeps work until it is run."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []

    def __call__(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self.waiting.append((work, done))

    def run(self) -> None:
        work, done = self.waiting.pop(0)
        done(work())


def written(folder: Path, count: int) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [folder / f"{number}.png" for number in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return paths


def test_a_batch_is_measured_once_and_says_how_to_read_it(qtbot: QtBot, tmp_path: Path) -> None:
    background = Background()
    label = BatchDiversityLabel(background)
    qtbot.addWidget(label)
    paths = written(tmp_path, 3)
    label.show_batch(paths)
    assert label.isHidden() and len(background.waiting) == 1
    background.run()
    assert not label.isHidden() and label.text().startswith("Diversity 1.") and label.text().endswith(" of 3")
    assert "3 that they have nothing in common" in label.toolTip() and label.accessibleName() == label.text()
    label.show_batch(paths[:1])
    assert label.isHidden()
    label.show_batch(paths)
    assert not label.isHidden() and not background.waiting


def test_what_comes_too_late_or_cannot_be_measured_is_not_shown(qtbot: QtBot, tmp_path: Path) -> None:
    background = Background()
    label = BatchDiversityLabel(background)
    qtbot.addWidget(label)
    paths = written(tmp_path, 2)
    label.show_batch(paths)
    label.show_batch([])
    background.waiting[0][1](BatchDiversity(2, 1.5, 0.2))
    assert label.isHidden()
    label.show_batch([*paths, tmp_path / "gone.png"])
    background.waiting.pop(0)
    background.run()
    assert label.isHidden()


@pytest.mark.parametrize("count", [1, 2])
def test_the_room_measures_finished_batches_of_two_or_more(qtbot: QtBot, tmp_path: Path, count: int) -> None:
    room = GenerateRoom()
    qtbot.addWidget(room)
    asked: list[Callable[[], Any]] = []
    room.panel.background_work_requested.connect(lambda work, done: asked.append(work))
    paths = written(tmp_path, count)
    room.handle_event(Started(1, GenerateRequest("a", count=count, width=16, height=16)))
    for index, path in enumerate(paths):
        room.handle_event(ImageSaved(1, index, path, picture(index)))
    before = len(asked)
    room.handle_event(Finished(1, 1.0))
    assert len(asked) - before == (1 if count > 1 else 0)
    assert room.diversity.isHidden()

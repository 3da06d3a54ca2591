"""A Train room with runs whose processes imitate training."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image
from pytestqt.qtbot import QtBot

from diffstudio.studio.runs.runs import Runs
from diffstudio.ui.train.room import TrainRoom
from diffstudio.ui.widgets import icons, theme

FAKE = (sys.executable, str(Path(__file__).resolve().parents[2] / "studio" / "fake_training.py"))
PATIENCE_MS = 60_000  # a busy machine starts processes slowly


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Eight pictures in two groups, half of them captioned; a broken one, a copy, a tiny one, and a text."""
    folder = tmp_path / "toys"
    for group, colour in (("cars", (200, 30, 30)), ("balls", (30, 30, 200))):
        (folder / group).mkdir(parents=True)
        for index in range(4):
            picture = Image.new("RGB", (48, 40), colour)
            picture.paste((255, 255, 255), (index * 9, index * 5, index * 9 + 14, index * 5 + 12))
            picture.save(folder / group / f"{index}.png")
            if index % 2:
                (folder / group / f"{index}.txt").write_text(f"{group} number {index}")
    whole = (folder / "cars" / "0.png").read_bytes()
    (folder / "cars" / "broken.png").write_bytes(whole[:60])
    (folder / "cars" / "copy.png").write_bytes(whole)
    Image.new("RGB", (3, 3)).save(folder / "tiny.png")
    (folder / "notes.md").write_text("nothing")
    return folder


@pytest.fixture
def behave(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """How the pretended training goes: see fake_training.py."""

    def set_behaviour(**how: Any) -> None:
        monkeypatch.setenv("FAKE_TRAINING", json.dumps(how))

    return set_behaviour


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    runs = Runs(tmp_path / "runs", command=FAKE)
    yield runs
    for summary in runs.list():
        if summary.pid is not None:
            psutil.Process(summary.pid).kill()
    deadline = time.monotonic() + 30
    while any(summary.alive for summary in runs.list()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def make_room(qtbot: QtBot, runs: Runs) -> Iterator[Callable[[], TrainRoom]]:
    """Opens a window with nothing but the room; every room is shut down at the end."""
    from PySide6.QtWidgets import QApplication

    app = QApplication.instance()
    assert isinstance(app, QApplication)
    icons.load_fonts()
    theme.apply(app, "dark")
    opened: list[TrainRoom] = []

    def make() -> TrainRoom:
        room = TrainRoom(runs)
        opened.append(room)
        qtbot.addWidget(room, before_close_func=lambda room: room.shut_down())
        room.resize(1280, 800)
        room.show()
        qtbot.waitExposed(room)
        return room

    yield make


@pytest.fixture
def room(make_room: Callable[[], TrainRoom]) -> TrainRoom:
    return make_room()

"""The Lab with jobs whose processes imitate measuring."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from diffstudio.studio.evaluations.jobs import LabJobs
from diffstudio.ui.lab.room import LabRoom
from tests.studio.evaluations.lab_process import lab_jobs


@pytest.fixture
def result(tmp_path: Path) -> dict[str, Any]:
    """The result of an evaluation of two subjects; its training images are there."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (16, 16), "red" if name == "a" else "blue").save(folder / f"{name}.png")

    def figure(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 0.1, "high": value + 0.1}

    def row(name: str, value: float) -> dict[str, Any]:
        return {"name": name, "count": 100} | {
            key: figure(value) for key in ("frechet_distance", "precision", "recall", "copies")
        }

    def details(name: str) -> dict[str, Any]:
        pairs = [
            {"image": "seed 3", "training": "a.png", "ratio": 0.1, "copy": True, "file": ""},
            {"image": "seed 4", "training": "b.png", "ratio": 0.9, "copy": False, "file": "images/gone.png"},
        ]
        return {
            "name": name,
            "images": 100,
            "sampling": {"sampler": "heun"},
            "memorisation": {"copies": figure(0.5)},
            "loss_gap_by_noise_level": [{"noise_level": 0.1 * level} | figure(level) for level in (1, 2, 3)],
            "nearest": pairs if name == "tiny" else [],
            "copies": [],
            "agreement_by_label": {"cat": 0.5, "dog": 0.9},
            "agreement_chance": 0.1,
        }

    return {
        "format": 1,
        "folder": str(folder),
        "features": "EfficientNet-Lite0",
        "resizing": "to 224 px",
        "counts": {"training": 200, "held_out": 100},
        "rows": [row("real images (training part)", 0.3), row("tiny", 0.6), row("made", 0.7)],
        "problem": "",
        "details": [details("tiny"), details("made")],
        "notes": ["3 images were left out."],
        "how_to_read": "Lower is better.",
    }


@pytest.fixture
def lab(tmp_path: Path, result: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[LabJobs]:
    """Jobs that end with the result of `result`."""
    file = tmp_path / "result.json"
    file.write_text(json.dumps(result))
    monkeypatch.setenv("DIFFSTUDIO_TEST_RESULT", str(file))
    with lab_jobs(tmp_path) as jobs:
        yield jobs


@pytest.fixture
def make_room(qtbot: QtBot, lab: LabJobs, dressed: QApplication) -> Iterator[Callable[[], LabRoom]]:
    """Opens a window with nothing but the room; every room is shut down at the end."""
    opened: list[LabRoom] = []

    def make() -> LabRoom:
        room = LabRoom(lab)
        opened.append(room)
        qtbot.addWidget(room)
        room.resize(1200, 700)
        room.show()
        qtbot.waitExposed(room)
        room.activateWindow()  # so that its shortcuts work
        qtbot.waitUntil(room.isActiveWindow)
        return room

    yield make
    for room in opened:
        room.shut_down()

"""The disk space of runs and prepared images, shown and cleared."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.studio.runs.runs import Runs
from diffstudio.ui.train.disk_dialog import DiskDialog
from diffstudio.ui.train.room import TrainRoom
from tests.ui.train.conftest import PATIENCE_MS

MB = 10**6


@pytest.fixture
def dialog(room: TrainRoom, runs: Runs, qtbot: QtBot) -> DiskDialog:
    """Opened by its button, with two runs and a prepared file."""
    for name, size in (("small", 1), ("large", 3)):
        (runs.folder / name).mkdir(parents=True)
        (runs.folder / name / "state.pt").write_bytes(bytes(size * MB))
    paths.prepared_images().mkdir(parents=True)
    (paths.prepared_images() / "a.npy").write_bytes(bytes(2 * MB))
    qtbot.mouseClick(room.runs_list.disk, Qt.MouseButton.LeftButton)
    (found,) = room.findChildren(DiskDialog)
    qtbot.waitUntil(found.clear.isEnabled, timeout=PATIENCE_MS)
    return found


def rows(dialog: DiskDialog) -> list[str]:
    return [dialog.list.item(row).text() for row in range(dialog.list.count())]


def test_runs_are_listed_and_prepared_images_are_cleared(dialog: DiskDialog, qtbot: QtBot, runs: Runs) -> None:
    assert rows(dialog) == ["large  –  3.0 MB", "small  –  1.0 MB"]
    assert dialog.prepared.text() == "Prepared images: 2.0 MB"
    assert dialog.free.text().startswith("Runs together: 4.0 MB. Free: ")
    qtbot.mouseClick(dialog.clear, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: dialog.prepared.text() == "Prepared images: 0 B (2.0 MB deleted)", timeout=PATIENCE_MS)
    assert not dialog.clear.isEnabled() and not list(paths.prepared_images().iterdir())
    assert (runs.folder / "large" / "state.pt").exists()
    qtbot.mouseClick(dialog.close_button, Qt.MouseButton.LeftButton)
    assert not dialog.isVisible()


def test_without_runs_it_says_so(qtbot: QtBot, tmp_path: Path) -> None:
    dialog = DiskDialog(tmp_path / "runs")
    qtbot.addWidget(dialog)
    dialog.show()
    qtbot.waitUntil(lambda: rows(dialog) == ["No runs"], timeout=PATIENCE_MS)
    assert not dialog.clear.isEnabled() and dialog.prepared.text() == "Prepared images: 0 B"
    dialog.reject()

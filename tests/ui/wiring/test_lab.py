"""The jobs of the Lab in the whole window: in the queue's list, in their room, in the manual, and after a restart."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.studio.evaluations.jobs import JobStatus, LabJobs
from diffstudio.studio.jobs.live_tasks import LiveTasks
from diffstudio.studio.settings import Settings
from diffstudio.ui.app import Desktop
from diffstudio.ui.lab.room import LabRoom
from diffstudio.ui.wiring.navigation import GENERATE, LAB
from tests.models.tiny import write_tiny_checkpoint
from tests.studio.evaluations.lab_process import lab_jobs

PATIENCE_MS = 30_000


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabJobs]:
    with lab_jobs(tmp_path) as jobs:
        yield jobs


@pytest.fixture
def desktop(qtbot: QtBot, lab: LabJobs) -> Iterator[Desktop]:
    """A window that starts no services of its own."""
    desktop = Desktop(Settings())
    desktop.window.first_painted.disconnect()
    qtbot.addWidget(desktop.window)
    desktop.lab._lab = lab
    desktop.lab.start(LiveTasks(threading.Condition()))
    desktop.window.show()
    qtbot.waitExposed(desktop.window)
    yield desktop
    desktop.close()


def test_a_job_is_in_the_queues_list_and_shown_by_a_click(
    desktop: Desktop, lab: LabJobs, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = desktop.generate_room.right.jobs
    assert queue.lab_jobs == [] and queue.empty.isVisible()
    job = lab.start("evaluate", ["wait"], "Photos")  # as an earlier window did
    qtbot.waitUntil(lambda: lab.list()[0].status is JobStatus.RUNNING, timeout=PATIENCE_MS)
    desktop.lab.refresh()
    qtbot.waitUntil(lambda: len(queue.lab_jobs) == 1, timeout=PATIENCE_MS)
    assert not queue.empty.isVisible()
    queue.lab_jobs[0].setFocus()
    qtbot.keyClick(queue.lab_jobs[0], Qt.Key.Key_Return)
    assert desktop.window.current_room() == LAB
    room = desktop.window.room(LAB)
    assert isinstance(room, LabRoom) and room.selected() == job.path
    assert desktop.help.open_manual().current_page() == "lab.md"
    told: list[str] = []
    monkeypatch.setattr(desktop.notifications, "notify", lambda title, text: told.append(title))
    (job.path / "go").touch()
    qtbot.waitUntil(lambda: lab.list()[0].status is JobStatus.FINISHED, timeout=PATIENCE_MS)
    desktop.window.show_room(GENERATE)

    def is_gone() -> bool:
        desktop.lab.refresh()
        return queue.lab_jobs == []

    qtbot.waitUntil(is_gone, timeout=PATIENCE_MS)
    assert told == ["Photos: finished"] and queue.empty.isVisible()


def test_the_room_offers_the_checkpoints_of_the_library(desktop: Desktop, qtbot: QtBot) -> None:
    room = desktop.window.show_room(LAB)
    assert isinstance(room, LabRoom)
    desktop.model_library.rescan()
    combo = (
        room.form_view("evaluate").form.fields[1].findChildren(type(room.form_view("evaluate").form.fields[1].combo))[0]
    )
    qtbot.waitUntil(combo.isEnabled, timeout=PATIENCE_MS)  # the starter


def test_jobs_and_forms_of_the_lab_follow_a_renamed_model_and_are_named_before_it_is_deleted(
    desktop: Desktop, lab: LabJobs, qtbot: QtBot
) -> None:
    path = write_tiny_checkpoint(paths.checkpoints() / "tiny.safetensors")
    job = lab.start("evaluate", [str(path), "turn"], "Photos")
    qtbot.waitUntil(lambda: lab.list()[0].status is JobStatus.WAITING, timeout=PATIENCE_MS)
    room = desktop.window.show_room(LAB)
    assert isinstance(room, LabRoom)
    desktop.model_library.rescan()
    qtbot.waitUntil(lambda: any(one.name == "tiny" for one in desktop.checkpoints), timeout=PATIENCE_MS)
    tiny = next(one for one in desktop.checkpoints if one.name == "tiny")
    form = room.form_view("reverse")
    form.form.fill([str(path)])
    uses: list[str] = []
    desktop.model_files.find_uses(tiny, uses.extend)
    qtbot.waitUntil(lambda: bool(uses), timeout=PATIENCE_MS)
    assert uses == ["Lab jobs that use it, and may fail without it: Photos."]

    desktop.model_library.rename(tiny, "small")
    new = str(path.with_stem("small"))
    qtbot.waitUntil(lambda: job.request().arguments[0] == new, timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: any(one.name == "small" for one in desktop.checkpoints), timeout=PATIENCE_MS)
    assert form.form.arguments() == [new] and form.start.isEnabled()
    qtbot.waitUntil(lambda: lab.list()[0].status is JobStatus.WAITING, timeout=PATIENCE_MS)
    (job.path / "go").touch()
    qtbot.waitUntil(lambda: lab.list()[0].status is JobStatus.FINISHED, timeout=PATIENCE_MS)

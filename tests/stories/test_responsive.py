"""Training and making pictures at the same time: the window goes on answering, and the two take turns."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QObject, Qt, QTimer
from pytestqt.qtbot import QtBot

from diffstudio.models.memory.lease import Lease
from diffstudio.studio.events import Cancelled, Stepped
from diffstudio.studio.requests import TrainRequest
from diffstudio.training.run.events import RunResumed, RunStarted, RunStep, RunWaiting
from diffstudio.training.run.run_folder import RunFolder
from diffstudio.ui.app import TRAIN, Desktop
from tests.training.conftest import write_pictures
from tests.ui.desktop_helpers import (
    PATIENCE_MS,
    EventRecorder,
    close_desktop,
    end_training,
    events_of,
    open_desktop,
    recipe_file,
)

pytestmark = [pytest.mark.usefixtures("dressed"), pytest.mark.timeout(600)]
BEAT_MS = 10
BEATS = 150  # in each room: the job, of 1,000 steps, must outlast them also beside another test
MANY_PICTURES = 64
LONGEST_GAP_SECONDS = 1.0  # loose: other programs may have the machine


class Heartbeat(QObject):
    """How long the window's event loop was away between two beats of a timer, in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.gaps: list[float] = []
        self._last = time.perf_counter()
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._beat)
        self._timer.start(BEAT_MS)

    def _beat(self) -> None:
        now = time.perf_counter()
        self.gaps.append(now - self._last)
        self._last = now

    def stop(self) -> None:
        self._timer.stop()

    def summary(self) -> str:
        gaps = sorted(self.gaps)
        shares = ", ".join(
            f"{share}% under {1000 * gaps[min(len(gaps) - 1, len(gaps) * share // 100)]:.0f} ms"
            for share in (50, 95, 99)
        )
        return f"{len(gaps)} beats of {BEAT_MS} ms: {shares}, longest {1000 * gaps[-1]:.0f} ms"


@pytest.fixture
def desktop(qtbot: QtBot) -> Iterator[Desktop]:
    desktop = open_desktop(qtbot)
    yield desktop
    close_desktop(desktop)
    end_training()


@pytest.fixture
def run(qtbot: QtBot, desktop: Desktop, tmp_path: Path) -> RunFolder:
    """A run that steps, in its own process."""
    assert desktop.runs is not None
    recipe = recipe_file(tmp_path)
    run = desktop.runs.start(TrainRequest(write_pictures(tmp_path / "shapes"), recipe=str(recipe)))
    qtbot.waitUntil(lambda: bool(events_of(run, RunStep)), timeout=PATIENCE_MS)
    return run


def ask_for_pictures(qtbot: QtBot, desktop: Desktop) -> EventRecorder:
    """More steps than any machine gets through in the time of a test, with a preview each; until the first is done."""
    ears, panel = EventRecorder(desktop), desktop.generate_room.panel
    panel.sampling.steps.set_value(1000)
    panel.count.set_value(MANY_PICTURES)
    panel.submit()
    qtbot.waitUntil(ears.heard(Stepped), timeout=PATIENCE_MS)
    return ears


def test_the_window_answers_while_it_trains_and_makes_pictures(
    qtbot: QtBot, desktop: Desktop, run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    desktop.window.show_room(TRAIN)  # the curve and the samples are drawn too, as they come
    ears = ask_for_pictures(qtbot, desktop)
    heartbeats: dict[str, Heartbeat] = {}
    for name in (TRAIN, "Generate"):
        desktop.window.show_room(name)
        beat = heartbeats[name] = Heartbeat()
        qtbot.waitUntil(lambda beat=beat: len(beat.gaps) >= BEATS, timeout=PATIENCE_MS)
        beat.stop()
    steps = ears.steps_done()
    desktop.generate_room.controls.stop.click()
    qtbot.waitUntil(ears.heard(Cancelled), timeout=PATIENCE_MS)
    with capsys.disabled():
        for name, beat in heartbeats.items():
            print(f"\n{name}, after {steps} steps of a picture: {beat.summary()}", end="")
    assert steps > 1
    for beat in heartbeats.values():
        assert max(beat.gaps) < LONGEST_GAP_SECONDS, beat.summary()


def test_training_waits_while_pictures_are_made_and_then_goes_on(
    qtbot: QtBot, desktop: Desktop, run: RunFolder
) -> None:
    ears = ask_for_pictures(qtbot, desktop)
    waiting = events_of(run, RunWaiting)
    assert waiting, "pictures are being made and the run did not step aside"
    assert Lease().holder() == "generating images"
    events_before = len(run.events()[0])
    begun = ears.steps_done()
    qtbot.waitUntil(lambda: ears.steps_done() >= begun + 20, timeout=PATIENCE_MS)
    assert len(run.events()[0]) == events_before and waiting[-1] == run.events()[0][-1], (
        "the run went on while pictures were made"
    )
    desktop.generate_room.controls.pause.click()  # who pauses makes nothing: the run may go on meanwhile
    qtbot.waitUntil(lambda: bool(events_of(run, RunResumed)), timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: isinstance(run.events()[0][-1], RunStep), timeout=PATIENCE_MS)
    assert run.events()[0][-1].step > waiting[-1].step
    desktop.generate_room.controls.pause.click()
    qtbot.waitUntil(lambda: len(events_of(run, RunWaiting)) == len(waiting) + 1, timeout=PATIENCE_MS)
    desktop.generate_room.controls.stop.click()
    qtbot.waitUntil(ears.heard(Cancelled), timeout=PATIENCE_MS)
    stopped_at = events_of(run, RunWaiting)[-1].step
    qtbot.waitUntil(lambda: run.events()[0][-1].step > stopped_at, timeout=PATIENCE_MS)
    assert len(events_of(run, RunStarted)) == 1  # one process all along

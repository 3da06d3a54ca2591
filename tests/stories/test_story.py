"""The main job from end to end, as a person goes through it, in one go and with nothing pretended.

Launch, write a prompt, watch the picture come, look through its steps, stop one, pause and resume one; train on a
folder, make a picture with what was learnt; close in the middle of everything, open again, and find everything going
on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PySide6.QtCore import QEvent, QObject, QPoint, Qt
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.studio.events import Cancelled, Finished, ImageSaved, Paused, Resumed, Started, Stepped
from diffstudio.training.run.events import RunResumed, RunStep, RunStopped, RunWaiting
from diffstudio.training.run.run_folder import RunFolder, Status
from diffstudio.ui.app import GALLERY, GENERATE, MODELS, TRAIN, Desktop
from diffstudio.ui.train.room import TrainRoom
from diffstudio.ui.train.run.panel import Action
from tests.training.conftest import write_pictures
from tests.ui.desktop_helpers import (
    PATIENCE_MS,
    EventRecorder,
    close_desktop,
    drop_folder,
    end_training,
    events_of,
    open_desktop,
    recipe_file,
)

pytestmark = [pytest.mark.usefixtures("dressed"), pytest.mark.timeout(900)]
CONTROL, LEFT = Qt.KeyboardModifier.ControlModifier, Qt.MouseButton.LeftButton
QUICK_MINUTES = 0.05  # measured into steps by the run itself; a person's shortest is one minute


@pytest.fixture
def opened(qtbot: QtBot) -> Iterator[Callable[[], Desktop]]:
    desktops: list[Desktop] = []

    def open_it() -> Desktop:
        desktops.append(open_desktop(qtbot))
        return desktops[-1]

    yield open_it
    for desktop in desktops:
        close_desktop(desktop)
    end_training()


def test_a_day_at_the_desktop(qtbot: QtBot, opened: Callable[[], Desktop], tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "shapes")
    recipe = recipe_file(tmp_path)
    desktop = opened()
    watch_one_being_made(qtbot, desktop)
    look_through_its_steps(qtbot, desktop)
    stop_one(qtbot, desktop)
    pause_and_resume_one(qtbot, desktop)
    trained = train_to_the_end(qtbot, desktop, pictures, recipe)
    make_one_with_what_was_learnt(qtbot, desktop, trained)
    find_everything_in_its_place(qtbot, desktop)
    run = close_in_the_middle_of_everything(qtbot, desktop, pictures, recipe)
    desktop = opened()
    find_everything_going_on(qtbot, desktop, run)
    stop_the_training_and_take_it_up_again(qtbot, desktop, run)


def test_no_window_flashes_up_while_rooms_are_made(
    qtbot: QtBot, opened: Callable[[], Desktop], dressed: QApplication
) -> None:
    """What is shown before it has a parent is a window of its own for a moment, and takes the keyboard away."""
    desktop = opened()
    windows = Windows()
    dressed.installEventFilter(windows)
    for key, name in ((Qt.Key.Key_2, GALLERY), (Qt.Key.Key_3, MODELS), (Qt.Key.Key_4, TRAIN), (Qt.Key.Key_1, GENERATE)):
        qtbot.keyClick(desktop.window, key, CONTROL)
        assert desktop.window.current_room() == name
    dressed.removeEventFilter(windows)
    assert windows.shown == []
    assert dressed.activeWindow() is desktop.window


class Windows(QObject):
    """Notes every window that is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[str] = []

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Show and isinstance(watched, QWidget) and watched.isWindow():
            self.shown.append(f"{type(watched).__name__} {watched.accessibleName()!r}")
        return False


# The first picture


def watch_one_being_made(qtbot: QtBot, desktop: Desktop) -> None:
    room, ears = desktop.generate_room, EventRecorder(desktop)
    assert desktop.window.current_room() == GENERATE and room.panel.prompt.hasFocus()
    room.panel.sampling.steps.set_value(300)
    qtbot.keyClicks(room.panel.prompt, "red apple")
    qtbot.keyClick(room.panel.prompt, Qt.Key.Key_Return, CONTROL)
    qtbot.waitUntil(ears.heard(Stepped, 2), timeout=PATIENCE_MS)
    assert room.controls.pause.isVisible() and room.controls.stop.isVisible() and room.progress.isVisible()
    qtbot.waitUntil(ears.heard(Finished), timeout=PATIENCE_MS)
    lines = [line for line, _ in ears.shown]
    steps = [int(line.split()[1]) for line in lines]
    assert all(line.startswith("Step ") and " of 300" in line and "σ" in line and "left" in line for line in lines), (
        lines
    )
    assert len(steps) >= 2 and steps == sorted(set(steps)) and steps[-1] == 300
    previews = [bits(image) for _, image in ears.shown]
    assert len(set(previews)) == len(previews), "the picture did not change from one step to the next"
    saved = last(ears, ImageSaved)
    assert room.canvas.path() == saved.path and saved.path.is_file()
    assert room.right.thumbs[0].recent_image.path == saved.path
    assert not room.controls.pause.isVisible()


def look_through_its_steps(qtbot: QtBot, desktop: Desktop) -> None:
    room, strip = desktop.generate_room, desktop.generate_room.filmstrip
    assert strip.last_step() == 300 and not room.canvas.scrubbing()
    finished = bits(room.canvas.image())
    qtbot.mousePress(strip, LEFT, pos=strip.center_of(300))
    seen = set()
    for step in (200, 100, 1):
        qtbot.mouseMove(strip, strip.center_of(step))
        assert room.canvas.scrubbing()
        seen.add(bits(room.canvas.image()))
    assert len(seen) == 3 and finished not in seen
    qtbot.mouseMove(strip, QPoint(-50, 10))  # beyond its end, button held
    qtbot.mouseRelease(strip, LEFT, pos=QPoint(-50, 10))
    assert strip.value() == 1 and room.controls.restart.isVisible()
    qtbot.keyClick(strip, Qt.Key.Key_Right)
    assert strip.value() == 2 and room.controls.restart.text() == "Restart from step 2"
    qtbot.keyClick(strip, Qt.Key.Key_End)
    assert not room.canvas.scrubbing() and bits(room.canvas.image()) == finished


def stop_one(qtbot: QtBot, desktop: Desktop) -> None:
    room, ears, before = desktop.generate_room, EventRecorder(desktop), saved_pictures()
    room.panel.sampling.steps.set_value(1000)
    room.panel.count.set_value(4)
    qtbot.mouseClick(room.panel.button, LEFT)
    qtbot.waitUntil(ears.heard(Stepped), timeout=PATIENCE_MS)
    qtbot.mouseClick(room.controls.stop, LEFT)
    qtbot.waitUntil(ears.heard(Cancelled), timeout=PATIENCE_MS)
    assert room.status.text() == f"Stopped at step {ears.steps_done()} of 1000"
    assert 0 < ears.steps_done() < 1000
    assert saved_pictures() == before


def pause_and_resume_one(qtbot: QtBot, desktop: Desktop) -> None:
    """And a pause changes nothing: the same request without one gives the same pixels."""
    room, ears = desktop.generate_room, EventRecorder(desktop)
    room.panel.sampling.steps.set_value(600)
    room.panel.count.set_value(1)
    qtbot.keyClick(room.panel.prompt, Qt.Key.Key_Return, CONTROL)
    qtbot.waitUntil(ears.heard(Stepped), timeout=PATIENCE_MS)
    qtbot.keyClick(room.panel.prompt, Qt.Key.Key_P, CONTROL)
    qtbot.waitUntil(ears.heard(Paused), timeout=PATIENCE_MS)
    assert room.status.text() == f"Paused at step {ears.steps_done()} of 600"
    assert room.controls.pause.text() == "Resume"
    qtbot.mouseClick(room.controls.pause, LEFT)
    qtbot.waitUntil(ears.heard(Finished), timeout=PATIENCE_MS)
    assert ears.count(Resumed) == 1
    request = last(ears, Started).request
    paused = last(ears, ImageSaved).path
    desktop.jobs.submit(request)
    qtbot.waitUntil(ears.heard(Finished, 2), timeout=PATIENCE_MS)
    straight = last(ears, ImageSaved).path
    assert straight != paused
    assert Image.open(straight).tobytes() == Image.open(paused).tobytes()


# Training


def start_training(
    qtbot: QtBot, desktop: Desktop, pictures: Path, recipe: Path, minutes: float, name: str
) -> RunFolder:
    """By dropping the folder on the Train room and pressing Start."""
    qtbot.keyClick(desktop.window, Qt.Key.Key_4, CONTROL)
    assert desktop.window.current_room() == TRAIN
    room = train_room(desktop)
    drop_folder(room, pictures)
    panel = room.new_panel
    qtbot.waitUntil(panel.start.isVisible, timeout=PATIENCE_MS)
    assert "24 images" in panel.card.sentence.text() and "captions for all" in panel.card.sentence.text()
    panel.recipe.set_choices([("auto", "Automatic"), (str(recipe), "Quick")])  # as if it had come with the program
    qtbot.keyClick(panel.recipe, Qt.Key.Key_Down)
    assert panel.recipe.value() == str(recipe) and panel.image_size.value() == 16
    panel.minutes.field.setMinimum(QUICK_MINUTES)
    panel.minutes.set_value(minutes)
    qtbot.keyClicks(panel.run_name, name)
    qtbot.mouseClick(panel.start, LEFT)
    qtbot.waitUntil(lambda: name in str(room.selected()), timeout=PATIENCE_MS)  # it is started in a thread
    selected = room.selected()
    assert selected is not None and selected.name == name, room.message.text()
    return RunFolder(selected)


def train_to_the_end(qtbot: QtBot, desktop: Desktop, pictures: Path, recipe: Path) -> Path:
    room = train_room(desktop)
    run = start_training(qtbot, desktop, pictures, recipe, QUICK_MINUTES, "shapes")
    qtbot.waitUntil(lambda: status(room) not in (None, Status.STARTING), timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: status(room) is Status.FINISHED, timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: room.run_panel.button.text() == Action.GENERATE, timeout=PATIENCE_MS)
    verdict = room.runs_list.learning
    assert verdict.isVisible() and "learned" in verdict.text.text() and not room.run_view.outcome.isVisible()
    assert room.run_view.chart.isVisible() and room.run_view.samples.isVisible()
    assert "Too few images are held out" in verdict.text.text()
    return run.latest_checkpoint


def make_one_with_what_was_learnt(qtbot: QtBot, desktop: Desktop, trained: Path) -> None:
    ears = EventRecorder(desktop)
    qtbot.mouseClick(train_room(desktop).run_panel.button, LEFT)
    qtbot.waitUntil(lambda: desktop.window.current_room() == GENERATE, timeout=PATIENCE_MS)
    room = desktop.generate_room
    chosen = room.panel.checkpoint.current()
    assert chosen is not None and chosen.path == trained
    room.panel.prompt.set_text("disc")
    room.panel.sampling.steps.set_value(8)
    qtbot.keyClick(room.panel.prompt, Qt.Key.Key_Return, CONTROL)
    qtbot.waitUntil(ears.heard(Finished), timeout=PATIENCE_MS)
    assert last(ears, Started).request.checkpoint == "shapes"
    with Image.open(last(ears, ImageSaved).path) as picture:
        assert picture.size == (16, 16)


def find_everything_in_its_place(qtbot: QtBot, desktop: Desktop) -> None:
    qtbot.keyClick(desktop.window, Qt.Key.Key_2, CONTROL)
    assert desktop.window.current_room() == GALLERY
    assert desktop.gallery is not None and desktop.gallery.count() == len(saved_pictures()) == 4
    qtbot.keyClick(desktop.window, Qt.Key.Key_3, CONTROL)
    assert desktop.window.current_room() == MODELS
    assert {"tiny", "shapes"} <= {checkpoint.name for checkpoint in desktop.checkpoints}
    qtbot.keyClick(desktop.window, Qt.Key.Key_1, CONTROL)


# Closing in the middle


def close_in_the_middle_of_everything(qtbot: QtBot, desktop: Desktop, pictures: Path, recipe: Path) -> RunFolder:
    """A run trains and has stepped aside for a picture; another picture waits."""
    run = start_training(qtbot, desktop, pictures, recipe, 60.0, "long")
    qtbot.waitUntil(lambda: bool(events_of(run, RunStep)), timeout=PATIENCE_MS)
    qtbot.keyClick(desktop.window, Qt.Key.Key_1, CONTROL)
    room, ears = desktop.generate_room, EventRecorder(desktop)
    room.choose_checkpoint(next(checkpoint for checkpoint in desktop.checkpoints if checkpoint.name == "tiny"))
    room.panel.sampling.steps.set_value(1000)
    room.panel.count.set_value(2)
    for prompt in ("unfinished", "waiting"):
        room.panel.prompt.set_text(prompt)
        room.panel.submit()
        room.panel.sampling.steps.set_value(5)
    qtbot.waitUntil(ears.heard(Stepped), timeout=PATIENCE_MS)
    assert events_of(run, RunWaiting)
    before, pid = len(saved_pictures()), summary_of(desktop, run).pid
    close_desktop(desktop)
    assert not ears.heard(Finished)() and len(saved_pictures()) == before
    assert summary_of(desktop, run).alive and summary_of(desktop, run).pid == pid
    closed_at = summary_of(desktop, run).step
    qtbot.waitUntil(lambda: summary_of(desktop, run).step > closed_at, timeout=PATIENCE_MS)  # nobody is in its way now
    assert events_of(run, RunResumed)
    return run


def find_everything_going_on(qtbot: QtBot, desktop: Desktop, run: RunFolder) -> None:
    ears, before = EventRecorder(desktop), saved_pictures()
    qtbot.waitUntil(lambda: len(saved_pictures()) == len(before) + 4, timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: len(desktop.generate_room.right.thumbs) == len(before) + 4, timeout=PATIENCE_MS)
    prompts = [
        thumb.recent_image.request.prompt
        for thumb in desktop.generate_room.right.thumbs
        if thumb.recent_image.request is not None
    ]
    assert prompts[:4] == ["waiting", "waiting", "unfinished", "unfinished"]
    assert desktop.worker is not None and not desktop.worker.pending()
    qtbot.waitUntil(desktop.generate_room.right.training.isVisible, timeout=PATIENCE_MS)
    qtbot.mouseClick(desktop.generate_room.right.training, LEFT)
    room = train_room(desktop)
    qtbot.waitUntil(
        lambda: room.selected() == run.path, timeout=PATIENCE_MS
    )  # found, and shown without being asked for
    began_at = summary_of(desktop, run).step
    qtbot.waitUntil(lambda: status(room) is Status.TRAINING and step(room) > began_at, timeout=PATIENCE_MS)
    assert not ears.heard(Cancelled)()


def stop_the_training_and_take_it_up_again(qtbot: QtBot, desktop: Desktop, run: RunFolder) -> None:
    room = train_room(desktop)
    qtbot.mouseClick(room.run_panel.button, LEFT)
    qtbot.waitUntil(lambda: status(room) is Status.PAUSED, timeout=PATIENCE_MS)
    qtbot.waitUntil(
        lambda: room.run_panel.button.text() == Action.RESUME and room.run_panel.button.isEnabled(), timeout=PATIENCE_MS
    )
    qtbot.mouseClick(room.run_panel.button, LEFT)
    qtbot.waitUntil(lambda: status(room) is Status.TRAINING, timeout=PATIENCE_MS)
    stopped_at = stop(qtbot, room, run)
    qtbot.waitUntil(lambda: room.run_panel.button.text() == Action.RESUME, timeout=PATIENCE_MS)
    qtbot.mouseClick(room.run_panel.button, LEFT)
    qtbot.waitUntil(lambda: status(room) is Status.TRAINING and step(room) > stopped_at, timeout=PATIENCE_MS)
    qtbot.waitUntil(room.run_view.stop.isEnabled, timeout=PATIENCE_MS)
    assert stop(qtbot, room, run) > stopped_at
    assert len(events_of(run, RunStopped)) == 2


def stop(qtbot: QtBot, room: TrainRoom, run: RunFolder) -> int:
    """The step at which it stopped, with a checkpoint kept."""
    qtbot.mouseClick(room.run_view.stop, LEFT)
    qtbot.waitUntil(lambda: status(room) is Status.STOPPED, timeout=PATIENCE_MS)
    assert run.latest_checkpoint.is_file()
    return step(room)


# Words


def train_room(desktop: Desktop) -> TrainRoom:
    room = desktop.window.room(TRAIN)
    assert isinstance(room, TrainRoom)
    return room


def status(room: TrainRoom) -> Status | None:
    summary = room.summary()
    return summary.status if summary is not None else None


def step(room: TrainRoom) -> int:
    summary = room.summary()
    return summary.step if summary is not None else 0


def summary_of(desktop: Desktop, run: RunFolder) -> Any:
    assert desktop.runs is not None
    return desktop.runs.summary(run)


def saved_pictures() -> set[Path]:
    return set(paths.images().rglob("*.png"))


def bits(image: Any) -> bytes:
    return bytes(image.constBits())


def last(ears: EventRecorder, kind: type[Any]) -> Any:
    return [event for event in ears.events if isinstance(event, kind)][-1]

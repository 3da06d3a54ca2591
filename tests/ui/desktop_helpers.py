"""A whole desktop for tests that tell a story: the real worker, a tiny checkpoint, real training processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent, QImage
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.events import Event, Stepped
from diffstudio.studio.runs.runs import Runs
from diffstudio.studio.settings import load_settings
from diffstudio.training.recipe import DataRecipe, NetworkRecipe, OptimiserRecipe, Recipe, RunRecipe
from diffstudio.training.recipe.optimiser_recipe import DecayName, OptimiserName
from diffstudio.training.run.events import RunEvent
from diffstudio.training.run.run_folder import RunFolder
from diffstudio.ui.app import Desktop
from tests.models.tiny import write_tiny_checkpoint

PATIENCE_MS = 120_000  # torch is imported in here, in two processes, on a machine that may be busy


class EventRecorder:
    """What the worker said as it arrived in the window, and what the window showed right then."""

    def __init__(self, desktop: Desktop) -> None:
        self.events: list[Event] = []
        self.shown: list[tuple[str, QImage]] = []  # of each Stepped: the line of the step, the picture
        self._room = desktop.generate_room
        desktop.bridge.arrived.connect(self._hear)  # after the window's own connection

    def _hear(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Stepped):
            self.shown.append((self._room.status.text(), self._room.canvas.image()))

    def heard(self, kind: type[Event], times: int = 1) -> Callable[[], bool]:
        return lambda: self.count(kind) >= times

    def count(self, kind: type[Event]) -> int:
        return sum(isinstance(event, kind) for event in self.events)

    def steps_done(self) -> int:
        return max((event.index for event in self.events if isinstance(event, Stepped)), default=0)


def open_desktop(qtbot: QtBot) -> Desktop:
    """On screen, its worker running and the tiny checkpoint chosen."""
    tiny = paths.checkpoints() / "tiny.safetensors"
    if not tiny.is_file():
        write_tiny_checkpoint(tiny)
    desktop = Desktop(load_settings())
    qtbot.addWidget(desktop.window)
    desktop.window.resize(1280, 800)
    desktop.window.show()
    qtbot.waitExposed(desktop.window)
    offered = desktop.generate_room.panel.checkpoint  # gets the checkpoints a moment after the library has them
    qtbot.waitUntil(lambda: desktop.worker is not None and offered.current() is not None, timeout=PATIENCE_MS)
    desktop.generate_room.choose_checkpoint(next(each for each in desktop.checkpoints if each.path == tiny))
    desktop.generate_room.panel.sampling.steps.set_range(1, 1000)
    return desktop


def close_desktop(desktop: Desktop) -> None:
    desktop.window.close()
    desktop.close()


def quick_recipe() -> Recipe:
    """Learns 16 px pictures at some hundred steps a second."""
    return Recipe(
        name="Quick: for tests",
        data=DataRecipe(size=16, held_out=0.1),
        network=NetworkRecipe(
            conditioning=Conditioning.TEXT,
            patch=4,
            margin=2,
            bottleneck=16,
            width=32,
            depth=2,
            heads=2,
            condition_width=32,
            vocabulary=300,
            text_tokens=6,
        ),
        optimiser=OptimiserRecipe(
            name=OptimiserName.ADAMW, learning_rate=2e-3, warm_up_steps=5, decay=DecayName.CONSTANT, ema=0.9
        ),
        run=RunRecipe(
            steps=1_000_000,
            batch=8,
            dtype="float32",
            device="cpu",
            threads=1,
            sample_every=200,
            sample_count=4,
            checkpoint_every=100,
            held_out_every=50,
            sample_steps=2,
        ),
    )


def recipe_file(folder: Path, recipe: Recipe | None = None, *, steps: int = 1_000_000) -> Path:
    recipe = recipe or quick_recipe()
    path = folder / "quick.toml"
    replace(recipe, run=replace(recipe.run, steps=steps)).write(path)
    return path


def drop_folder(widget: QWidget, folder: Path) -> None:
    """Drag it from a file manager over the widget, and let go."""
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(folder))])
    copy, left, none = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    QApplication.sendEvent(widget, QDragEnterEvent(QPoint(500, 300), copy, data, left, none))
    QApplication.sendEvent(widget, QDropEvent(QPointF(500, 300), copy, data, left, none))


def events_of(run: RunFolder, kind: type[RunEvent]) -> list[RunEvent]:
    return [event for event in run.events()[0] if isinstance(event, kind)]


def end_training() -> None:
    """Whatever still trains in the test's own home is killed and waited for."""
    processes = []
    for summary in Runs(paths.runs()).list():
        if summary.pid is not None:
            processes.append(psutil.Process(summary.pid))
            processes[-1].kill()
    psutil.wait_procs(processes, timeout=30)

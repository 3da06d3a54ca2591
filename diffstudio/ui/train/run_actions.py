"""The actions on training runs: start, pause, resume, stop, try again, remove."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QWidget

from diffstudio import paths
from diffstudio.errors import DiffstudioError
from diffstudio.studio.requests import TrainRequest
from diffstudio.studio.runs.notes import write_note
from diffstudio.studio.runs.runs import Runs, RunSummary
from diffstudio.training.run.run_folder import RunFolder
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.train.run_settings import RunSettings
from diffstudio.ui.widgets import actions
from diffstudio.ui.widgets.dialogs import choose_action, choose_folder, confirm

_T = TypeVar("_T")


class RunActions(QObject):
    """Calls `Runs` in a thread, one call after the other, and reports the outcome; errors are emitted as messages."""

    started = Signal(object, object)  # RunFolder of a new run, and list[RunSummary] of all runs with it
    command_sent = Signal(object)  # RunSummary of a run that will pause or resume after its current step
    stopping = Signal(object)  # RunSummary
    note_not_saved = Signal(object, str)  # RunFolder and its note
    removed = Signal(object)  # Path of a run's folder, now in the system trash
    removal_ended = Signal()  # removed or not
    message = Signal(str, str)  # kind, text; an empty text hides the message shown before

    def __init__(self, runs: Runs, tasks: Tasks, parent: QWidget) -> None:
        super().__init__(parent)
        self._asked: tuple[RunSummary, str] | None = None  # of a run that does something next, and the message
        self._runs, self._tasks, self._parent_widget = runs, tasks, parent
        self._removing: set[Path] = set()
        self._starting = False
        self._order = asyncio.Lock()

    def start(self, settings: RunSettings) -> None:
        cluster = settings.cluster
        request = TrainRequest(
            folder=settings.folder,
            minutes=round(settings.minutes, 2),
            start_from=settings.start_from,
            processes=cluster.processes,
            machines=cluster.machines,
            port=cluster.port,
        )
        self._start(partial(self._runs.start, request, settings.recipe_choice, name=settings.name))

    def pause(self, summary: RunSummary) -> None:
        self._try(partial(self._runs.pause, summary.run), lambda _: self.command_sent.emit(summary))

    def resume(self, summary: RunSummary) -> None:
        self._with_images(summary, partial(self._runs.resume, summary.run))

    def stop(self, summary: RunSummary) -> None:
        self._try(partial(self._runs.stop, summary.run), lambda _: self.stopping.emit(summary))

    def train_longer(self, summary: RunSummary, minutes: float) -> None:
        """Continue a run that has ended for so many more minutes."""
        self._with_images(summary, partial(self._runs.train_longer, summary.run, minutes=minutes))

    def _with_images(self, summary: RunSummary, act: Callable[..., None]) -> None:
        """Call `act` for a run, with `folder=` where its folder of images is gone and the person says where it is now."""
        self._tasks.start(self._find_images(summary, act))

    async def _find_images(self, summary: RunSummary, act: Callable[..., None]) -> None:
        folder = summary.image_folder
        if summary.alive or folder is None or await self._tasks.to_thread(folder.is_dir):
            self._carry_on(summary, act)
            return
        choose_action(
            self._parent_widget,
            "Folder of images",
            f"The folder of images of {summary.name} is not there any more.",
            f"It was {paths.short(folder)}. If it was moved or renamed, choose it where it is now. Without it the run "
            "goes on only while its prepared images are kept.",
            {
                "Choose folder…": lambda: choose_folder(
                    self._parent_widget,
                    "Where the images are now",
                    str(folder.parent),
                    lambda chosen: self._carry_on(summary, partial(act, folder=chosen)),
                ),
                "Continue without it": lambda: self._carry_on(summary, act),
            },
        )

    def _carry_on(self, summary: RunSummary, act: Callable[..., None]) -> None:
        self._try(act, lambda _: self.command_sent.emit(summary))

    def sample_now(self, summary: RunSummary, prompts: Sequence[str] | None = None) -> None:
        """Have a run draw samples; `prompts` are those of its samples from then on."""
        self._try(
            partial(self._runs.sample_now, summary.run, prompts), self._show_asked(summary, "Samples will be generated")
        )

    def save_now(self, summary: RunSummary) -> None:
        self._try(partial(self._runs.save_now, summary.run), self._show_asked(summary, "A checkpoint will be saved"))

    def _show_asked(self, summary: RunSummary, what: str) -> Callable[[object], None]:
        def show(_: object) -> None:
            text = f"{what} after the current step."
            self._asked = summary, text
            self.message.emit("good", text)

        return show

    def outdated_message(self, summary: RunSummary) -> str:
        """The message about what was asked of a run, once it has done it, or another run is shown; else empty."""
        if self._asked is None:
            return ""
        asked, text = self._asked
        if asked.run == summary.run and summary.alive and summary.step <= asked.step + 1:
            return ""
        self._asked = None
        return text

    def set_note(self, run: RunFolder, note: str) -> None:
        """Replace the note on a run."""
        self._tasks.start(self._write_note(run, note))

    async def _write_note(self, run: RunFolder, note: str) -> None:
        try:
            await self._tasks.to_thread(write_note, run, note)
        except DiffstudioError as error:
            self.note_not_saved.emit(run, note)
            self.message.emit("bad", str(error))

    def try_again(self, summary: RunSummary) -> None:
        """Start a new run with the settings of this one."""
        self._start(partial(self._runs.again, summary.run))

    def confirm_removal(self, summary: RunSummary) -> None:
        """Move a run to the system trash after a question."""
        if summary.run.path in self._removing:
            return
        if summary.alive:
            self.message.emit("warn", f"The run {summary.name} is still running. Stop it first, then remove it.")
            return
        confirm(
            self._parent_widget,
            actions.REMOVE,
            f"Move the run {summary.name} to the system trash?",
            "Its checkpoints, samples and loss curve go with it. The training images stay, and so do images "
            "made with it, but those cannot be reproduced without it.",
            lambda: self._tasks.start(self._remove(summary)),
        )

    async def _remove(self, summary: RunSummary) -> None:
        path = summary.run.path
        self._removing.add(path)
        try:
            await self._tasks.to_thread(self._runs.remove, summary.run)
        except DiffstudioError as error:
            self.message.emit("bad", str(error))
        else:
            self.message.emit("info", "")
            self.removed.emit(path)
        finally:
            self._removing.discard(path)
        self.removal_ended.emit()

    def _start(self, act: Callable[[], RunFolder]) -> None:
        """Start a run, unless one is being started: a second click starts no second run."""
        if self._starting:
            return
        self._starting = True
        runs = self._runs

        def start() -> tuple[RunFolder, list[RunSummary]]:
            return act(), runs.list()

        def tried(task: object) -> None:
            self._starting = False

        task = self._tasks.start(self._act(start, lambda found: self.started.emit(*found)))
        if task is not None:
            task.add_done_callback(tried)

    def _try(self, act: Callable[[], _T], then: Callable[[_T], object]) -> None:
        """Run `act` in a thread, then `then` with its result; a message instead if `act` fails."""
        self._tasks.start(self._act(act, then))

    async def _act(self, act: Callable[[], _T], then: Callable[[_T], object]) -> None:
        try:
            async with self._order:
                result = await self._tasks.to_thread(act)
        except (DiffstudioError, OSError) as error:
            self.message.emit("bad", str(error))
            return
        self.message.emit("info", "")
        then(result)

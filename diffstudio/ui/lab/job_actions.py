"""The actions on jobs of the Lab: start, pause, stop, rename, start again, delete."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QWidget

from diffstudio.errors import DiffstudioError
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.jobs import JobSummary, LabJobs
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets import actions
from diffstudio.ui.widgets.dialogs import confirm

_T = TypeVar("_T")


class JobActions(QObject):
    """Calls `LabJobs` in a thread, one call at a time, and reports the outcome; errors are emitted as messages."""

    started = Signal(object)  # Path of the folder of a new job
    changed = Signal()  # the jobs must be read again
    removed = Signal(object)  # Path of a job's folder, now in the system trash
    message = Signal(str, str)  # kind, text; an empty text hides the previous message

    def __init__(self, jobs: LabJobs, tasks: Tasks, parent: QWidget) -> None:
        super().__init__(parent)
        self._jobs, self._tasks, self._parent_widget = jobs, tasks, parent
        self._starting = False
        self._order = asyncio.Lock()

    def start(self, verb: str, arguments: Sequence[str], name: str) -> None:
        self._start(partial(self._jobs.start, verb, arguments, name))

    def again(self, summary: JobSummary) -> None:
        """Start a new job with the same request."""
        self._start(partial(self._jobs.again, summary.job))

    def pause(self, summary: JobSummary) -> None:
        self._try(partial(self._jobs.pause, summary.job))

    def resume(self, summary: JobSummary) -> None:
        self._try(partial(self._jobs.resume, summary.job))

    def stop(self, summary: JobSummary) -> None:
        self._try(partial(self._jobs.stop, summary.job))

    def rename(self, summary: JobSummary, name: str) -> None:
        if name.strip() and name.strip() != summary.name:
            self._try(partial(self._jobs.rename, summary.job, name))

    def confirm_removal(self, summary: JobSummary) -> None:
        """Ask, then move a job to the system trash."""
        if summary.alive:
            self.message.emit("warn", f"{summary.name} is still running. Cancel it first, then delete it.")
            return
        confirm(
            self._parent_widget,
            actions.DELETE,
            f"Move {summary.name} to the system trash?",
            "Its result is moved too. The images and checkpoints that were measured are kept.",
            lambda: self._try(partial(self._remove, summary.job), self.removed.emit),
        )

    def _remove(self, job: JobFolder) -> Path:
        self._jobs.remove(job)
        return job.path

    def _start(self, act: Callable[[], JobFolder]) -> None:
        """Start a job, unless one is being started, so that a double click starts only one."""
        if self._starting:
            return
        self._starting = True

        def ended(task: object) -> None:
            self._starting = False

        task = self._tasks.start(self._act(act, lambda job: self.started.emit(job.path)))
        if task is not None:
            task.add_done_callback(ended)

    def _try(self, act: Callable[[], _T], then: Callable[[_T], object] = lambda _: None) -> None:
        self._tasks.start(self._act(act, then))

    async def _act(self, act: Callable[[], _T], then: Callable[[_T], object]) -> None:
        try:
            async with self._order:
                result = await self._tasks.to_thread(act)
        except (DiffstudioError, OSError) as error:
            self.message.emit("bad", str(error))
        else:
            self.message.emit("info", "")
            then(result)
        self.changed.emit()

"""Notifies the desktop when long work has ended and no window of the program is in front."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject
from PySide6.QtWidgets import QApplication

from diffstudio.studio.events import ENDINGS, Event, Failed, ImageSaved, Started
from diffstudio.studio.settings import Settings
from diffstudio.ui.generate import labels
from diffstudio.ui.shell.notifier import Notifier
from diffstudio.ui.wiring.jobs import JobController

if TYPE_CHECKING:  # read after the first paint
    from diffstudio.studio.runs.runs import RunSummary

_LONGEST_TEXT = 160  # characters
_ENDED = {
    "finished": "finished",
    "failed": "failed",
    "interrupted": "was interrupted",
}  # by Status; not what was stopped


class NotificationController(QObject):
    """One notification when the queue has ended, for all its jobs together, and one for each training run."""

    def __init__(self, jobs: JobController, notifier: Notifier, settings: Callable[[], Settings]) -> None:
        super().__init__()
        self._jobs, self._notifier, self._settings = jobs, notifier, settings
        self._saved = self._failed = 0  # images and jobs since the last notification
        self._ended = False
        self._about = ""  # the prompt of the last job, or why it failed
        self._alive: set[Path] = set()  # the folders of runs that were training at the last poll
        jobs.queue_shown.connect(self._queue_shown)

    def handle_event(self, event: Event) -> None:
        """One event of the worker."""
        match event:
            case Started(request=request):
                self._about = labels.title_of(request)
            case ImageSaved():
                self._saved += 1
            case Failed(error=error):
                self._failed += 1
                self._about = error.what
        self._ended = self._ended or isinstance(event, ENDINGS)

    def runs_updated(self, summaries: list[RunSummary]) -> None:
        """The training runs, as they are now."""
        for summary in summaries:
            if summary.run.path in self._alive and summary.status in _ENDED:
                self.notify(f"Training {_ENDED[summary.status]}", f"{summary.name}. {summary.verdict}")
        self._alive = {summary.run.path for summary in summaries if summary.alive}

    def notify(self, title: str, text: str) -> None:
        """Show a notification, unless a window of the program is in front or they are switched off."""
        if self._settings().notifications and QApplication.activeWindow() is None:
            self._notifier.notify(title, text[:_LONGEST_TEXT])

    def _queue_shown(self) -> None:
        """The queue was read: tell of its end when nothing of it is left to be made."""
        worker = self._jobs.worker
        if self._ended and worker is not None and worker.running() is None and self._jobs.nothing_starts:
            if title := _title(self._saved, self._failed):
                self.notify(title, self._about)
            self._saved = self._failed = 0
            self._ended = False


def _title(saved: int, failed: int) -> str:
    """`3 images are ready, 1 job failed`; empty when there is nothing to tell."""
    parts = [f"{labels.image_count(saved)} {'is' if saved == 1 else 'are'} ready"] if saved else []
    parts += [f"{failed:,} job{'s' if failed > 1 else ''} failed"] if failed else []
    return ", ".join(parts)

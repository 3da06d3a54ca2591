"""Polls the training runs and the memory of this computer every few seconds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer, Signal

from diffstudio.errors import DiffstudioError
from diffstudio.studio.settings import Settings
from diffstudio.ui.shell.desktop_environment import device_status
from diffstudio.ui.tasks import Tasks

if TYPE_CHECKING:  # read after the first paint
    from diffstudio.studio.runs.runs import Runs, RunSummary

POLL_MS = 3000


class RunMonitor(QObject):
    """Polls between `start` and `stop`."""

    runs_updated = Signal(object)  # list[RunSummary]
    device_status_changed = Signal(str)
    checkpoints_changed = Signal()  # a run has written a newer checkpoint

    def __init__(self, tasks: Tasks, settings: Settings) -> None:
        super().__init__()
        self._tasks, self.settings = tasks, settings
        self._runs: Runs | None = None
        self._refreshing = False
        self._known_checkpoints: set[tuple[Path, float]] | None = (
            None  # checkpoints of runs and their times, at the last poll
        )
        self._timer = QTimer(self)
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self.refresh)

    def start(self, runs: Runs) -> None:
        self._runs = runs
        self._timer.start()
        self.refresh()

    def stop(self) -> None:
        self._timer.stop()

    def refresh(self) -> None:
        """Poll now, unless a poll is under way."""
        if self._runs is not None and not self._refreshing:
            self._refreshing = True
            self._tasks.start(self._refresh(self._runs))

    async def _refresh(self, runs: Runs) -> None:
        try:
            summaries = await self._tasks.to_thread(runs.list)
            checkpoints = await self._tasks.to_thread(_checkpoint_times, summaries)
            self.device_status_changed.emit(await self._tasks.to_thread(device_status, self.settings))
        except (DiffstudioError, OSError):
            return  # the Train room shows what is wrong with its folder; the next poll may succeed
        finally:
            self._refreshing = False
        self.runs_updated.emit(summaries)
        before, self._known_checkpoints = self._known_checkpoints, checkpoints
        if before is not None and checkpoints != before:
            self.checkpoints_changed.emit()


def _checkpoint_times(summaries: list[RunSummary]) -> set[tuple[Path, float]]:
    return {
        (summary.checkpoint, summary.checkpoint.stat().st_mtime)
        for summary in summaries
        if summary.checkpoint is not None and summary.checkpoint.exists()
    }

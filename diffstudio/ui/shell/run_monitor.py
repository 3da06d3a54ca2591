"""A look every few seconds at what goes on beside the window: the training runs, and the machine's memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer, Signal

from diffstudio.errors import DiffstudioError
from diffstudio.studio.settings import Settings
from diffstudio.ui.shell.desktop_environment import machine
from diffstudio.ui.tasks import Tasks

if TYPE_CHECKING:  # read after the first paint
    from diffstudio.studio.runs.runs import Runs, RunSummary

BETWEEN_MS = 3000


class RunMonitor(QObject):
    """Looks from `begin` to `end`."""

    runs_seen = Signal(object)  # list[RunSummary]
    machine_seen = Signal(str)
    learnt = Signal()  # a run has a newer checkpoint than at the look before

    def __init__(self, tasks: Tasks, settings: Settings) -> None:
        super().__init__()
        self._tasks, self.settings = tasks, settings
        self._runs: Runs | None = None
        self._looking = False
        self._learnt: set[tuple[Path, float]] | None = None  # checkpoints of runs and their times, at the last look
        self._timer = QTimer(self)
        self._timer.setInterval(BETWEEN_MS)
        self._timer.timeout.connect(self.look)

    def begin(self, runs: Runs) -> None:
        self._runs = runs
        self._timer.start()
        self.look()

    def end(self) -> None:
        self._timer.stop()

    def look(self) -> None:
        """Now, unless a look is under way."""
        if self._runs is not None and not self._looking:
            self._looking = True
            self._tasks.start(self._look(self._runs))

    async def _look(self, runs: Runs) -> None:
        try:
            summaries = await self._tasks.to_thread(runs.list)
            learnt = await self._tasks.to_thread(_learnt_by, summaries)
            self.machine_seen.emit(await self._tasks.to_thread(machine, self.settings))
        except (DiffstudioError, OSError):
            return  # the Train room says what is the matter with its folder; here the next look may do better
        finally:
            self._looking = False
        self.runs_seen.emit(summaries)
        before, self._learnt = self._learnt, learnt
        if before is not None and learnt != before:
            self.learnt.emit()


def _learnt_by(summaries: list[RunSummary]) -> set[tuple[Path, float]]:
    return {
        (summary.checkpoint, summary.checkpoint.stat().st_mtime)
        for summary in summaries
        if summary.checkpoint is not None and summary.checkpoint.exists()
    }

"""One look at the runs, made beside the window: all of them from afar, one of them closely."""

from __future__ import annotations

from dataclasses import dataclass

from diffstudio.errors import DiffstudioError
from diffstudio.studio.runs.history import HistoryView, RunHistory
from diffstudio.studio.runs.runs import Runs, RunSummary
from diffstudio.studio.runs.status import log_tail
from diffstudio.training.recipe import Recipe
from diffstudio.training.run.run_folder import RunFolder, Status


@dataclass(frozen=True, slots=True)
class Look:
    """What a look found."""

    summaries: list[RunSummary]
    run: RunFolder | None = None  # the one looked at closely
    history: HistoryView | None = None
    recipe: Recipe | None = None
    log: str = ""


class Follower:
    """Reads what is new of one run. One look at a time uses it."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self._offset = 0
        self._history = RunHistory()
        self._view: HistoryView | None = None
        self._recipe: Recipe | None = None

    def view(self) -> HistoryView | None:
        events, self._offset = self.run.events(self._offset)
        if events or self._view is None:
            self._history.take(events)
            self._view = self._history.view()
        return self._view

    def recipe(self) -> Recipe | None:
        if self._recipe is None:
            try:
                self._recipe = self.run.recipe()
            except DiffstudioError:  # not written yet
                return None
        return self._recipe


def look(runs: Runs, follower: Follower | None) -> Look:
    summaries = runs.list()
    if follower is None:
        return Look(summaries)
    status = next((each.status for each in summaries if each.run == follower.run), None)
    log = log_tail(follower.run) if status in (Status.FAILED, Status.INTERRUPTED) else ""
    return Look(summaries, follower.run, follower.view(), follower.recipe(), log)

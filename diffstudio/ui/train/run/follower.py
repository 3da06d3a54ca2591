"""Reads the state of all training runs, and the full history of the selected one. Called in a thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from diffstudio.errors import DiffstudioError
from diffstudio.studio.evaluations.averages import has_averages
from diffstudio.studio.runs.history import HistoryView, RunHistory
from diffstudio.studio.runs.notes import RunNote, read_note
from diffstudio.studio.runs.runs import Runs, RunSummary
from diffstudio.studio.runs.status import log_tail
from diffstudio.training.recipe import Recipe
from diffstudio.training.run.run_folder import RunFolder, Status
from diffstudio.ui.train.run.chart_lines import OtherRun


@dataclass(frozen=True, slots=True)
class RunsSnapshot:
    """The state of all runs at one moment, with the details of the selected run."""

    summaries: list[RunSummary]
    run: RunFolder | None = None  # the selected one
    history: HistoryView | None = None
    recipe: Recipe | None = None
    log: str = ""
    note: RunNote = RunNote()  # noqa: RUF009 - frozen
    others: tuple[OtherRun, ...] = ()  # runs to lay over it
    has_averages: bool = False  # from which an EMA of another length can be rebuilt


class RunFollower:
    """Reads the events of one run incrementally. Not thread-safe: one `read_runs` at a time."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self._offset = 0
        self._history = RunHistory()
        self._view: HistoryView | None = None
        self._recipe: Recipe | None = None

    def view(self) -> HistoryView | None:
        """The history up to now."""
        events, self._offset = self.run.events(self._offset)
        if events or self._view is None:
            self._history.take(events)
            self._view = self._history.view()
        return self._view

    def recipe(self) -> Recipe | None:
        """The run's recipe; None until it is written."""
        if self._recipe is None:
            try:
                self._recipe = self.run.recipe()
            except DiffstudioError:  # not written yet
                return None
        return self._recipe


def read_runs(runs: Runs, follower: RunFollower | None, others: Sequence[RunFollower] = ()) -> RunsSnapshot:
    """Read the state of all runs, the new events of the run that `follower` reads, and those of `others`."""
    summaries = runs.list()
    if follower is None:
        return RunsSnapshot(summaries)
    status = next((each.status for each in summaries if each.run == follower.run), None)
    log = log_tail(follower.run) if status in (Status.FAILED, Status.INTERRUPTED) else ""
    compared = [OtherRun(each.run.name, view) for each in others if (view := each.view()) is not None]
    return RunsSnapshot(
        summaries,
        follower.run,
        follower.view(),
        follower.recipe(),
        log,
        read_note(follower.run),
        tuple(compared),
        has_averages(follower.run),
    )

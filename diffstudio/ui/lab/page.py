"""LabPage: one verb of the Lab in the window: its name, what it shows, its form, and how its result is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.ui.lab.form import LabForm
from diffstudio.ui.lab.results.result_view import ResultView


@dataclass(frozen=True)
class LabPage:
    """A page is short: the room has the list of jobs, Start, progress, Cancel and the files that are saved."""

    verb: str  # of the command line
    title: str
    icon: str
    shows: str  # in one sentence
    start: str  # on the button
    make_form: Callable[[], LabForm]
    read_result: Callable[[JobFolder, dict[str, Any]], Any]  # called in a thread: reads the files of the result too
    make_view: Callable[[], ResultView]
    usable: Callable[[Checkpoint], bool] = lambda checkpoint: False  # which checkpoints its form offers

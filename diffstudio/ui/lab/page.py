"""The two kinds of pages of the Lab: LabPage is a verb of the command line, whose form starts jobs; InteractivePage shows
something at once and follows the mouse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.jobs.live_tasks import LiveTasks
from diffstudio.ui.lab.form import LabForm
from diffstudio.ui.lab.results.result_view import ResultView
from diffstudio.ui.widgets.images.drag_and_drop import DroppedItem

MEASURE, UNDERSTAND = "Measure", "Understand"  # the sections of the room


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
    section: str = MEASURE

    @property
    def key(self) -> str:
        return self.verb


class InteractiveView(QWidget):
    """The contents of an InteractivePage."""

    message = Signal(str, str)  # kind, text
    menu_requested = Signal(object, object)  # Path of an image, QPoint

    def offer(self, checkpoints: Sequence[Checkpoint]) -> None:
        """The models of the library, whenever they change."""

    def use(self, live: LiveTasks) -> None:
        """Where tasks that need a network are submitted; called before the view is shown."""

    def drop_text(self, items: Sequence[DroppedItem]) -> str:
        """What dropping these items will do; empty when the view does not take them."""
        return ""

    def take(self, items: Sequence[DroppedItem]) -> None:
        """Take the items for which `drop_text` had an answer."""

    def shut_down(self) -> None:
        """Stop the view's threads before the window closes."""


@dataclass(frozen=True)
class InteractivePage:
    key: str
    title: str
    icon: str
    shows: str  # in one sentence
    make_view: Callable[[], InteractiveView]
    section: str = UNDERSTAND


AnyPage = LabPage | InteractivePage

"""The two kinds of pages of the Lab.

A LabPage is a verb of the command line, whose form starts jobs. An InteractivePage responds at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.jobs.live_tasks import LiveTasks
from diffstudio.studio.library.references import ModelRenamed
from diffstudio.ui.lab.form import LabForm
from diffstudio.ui.lab.results.result_view import ResultView
from diffstudio.ui.widgets.images.drag_and_drop import DroppedItem

MEASURE, UNDERSTAND = "Measure", "Understand"  # the sections of the room


@dataclass(frozen=True)
class LabPage:
    """A page for one verb; the room adds the list of jobs, starting, progress, Cancel and saving of files."""

    verb: str  # of the command line
    title: str
    icon: str
    shows: str  # one sentence about the page
    start: str  # text of the start button
    make_form: Callable[[], LabForm]
    read_result: Callable[[JobFolder, dict[str, Any]], Any]  # called in a thread; also reads the files of the result
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

    def __init__(self) -> None:
        super().__init__()
        self._renamed: dict[str, str] = {}  # paths of models, old and new

    def offer(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Set the models of the library; called whenever they change."""

    def follow_renamed(self, change: ModelRenamed) -> None:
        """Keep a renamed model chosen; `offer` with its new path follows."""
        self._renamed[str(change.path)] = str(change.new_path)

    def path_now(self, path: str | None, offered: Collection[str]) -> str | None:
        """The path among the `offered` ones that a model has now, if it was renamed since it was chosen; else `path`."""
        now, before = path, set[str]()
        while now is not None and now not in offered and now not in before:
            before.add(now)
            now = self._renamed.get(now)
        return now if now is not None and now in offered else path

    def use(self, live: LiveTasks) -> None:
        """Where tasks that need a network are submitted; called before the view is shown."""

    def drop_text(self, items: Sequence[DroppedItem]) -> str:
        """The effect of dropping these items; empty if the view does not accept them."""
        return ""

    def take(self, items: Sequence[DroppedItem]) -> None:
        """Use dropped items that `drop_text` accepts."""

    def shut_down(self) -> None:
        """Stop the view's threads before the window closes."""


@dataclass(frozen=True)
class InteractivePage:
    key: str
    title: str
    icon: str
    shows: str  # one sentence about the page
    make_view: Callable[[], InteractiveView]
    section: str = UNDERSTAND


AnyPage = LabPage | InteractivePage

"""The widgets of the Models room and where they stand; `room.py` says what they do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtWidgets import QFrame, QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from diffstudio.ui.models.adding.model_adder import ModelAdder
from diffstudio.ui.models.checkpoint_list import CheckpointList
from diffstudio.ui.models.details import CheckpointDetails
from diffstudio.ui.models.filter_bar import FilterBar
from diffstudio.ui.models.item_model import CheckpointsModel
from diffstudio.ui.models.step_fitter import StepFitter
from diffstudio.ui.models.tool_runner import ToolRunner
from diffstudio.ui.widgets import shortcuts
from diffstudio.ui.widgets.banner import MessageBanner
from diffstudio.ui.widgets.controls import EmptyState, ProgressLine, SecondaryButton, SectionLabel
from diffstudio.ui.widgets.helpers import show_page
from diffstudio.ui.widgets.images.drag_and_drop import DropOverlay
from diffstudio.ui.widgets.layout.columns import Column, Columns

LIST_WIDTH = 340  # px, in a wide window


class ModelsLayout(QWidget):
    """The list with its filter, or a page that says why it is empty; the details; bars for what runs and messages."""

    def __init__(self, output_folder: Callable[[], Path]) -> None:
        super().__init__()
        self.setObjectName("background")
        self.tool_runner, self.adder = ToolRunner(output_folder, self), ModelAdder(output_folder, self)
        self.step_fitter = StepFitter(self)
        self.model = CheckpointsModel()
        self.list = CheckpointList(self.model)
        self.heading = SectionLabel("Models")
        self.rescan_button = SecondaryButton(
            "", "arrows-clockwise", f"{shortcuts.RESCAN_MODELS.what} (F5)", name="Rescan"
        )
        self.add_button = SecondaryButton(
            "Add",
            "plus",
            "Add model files, a folder, or a link. All of them can be dropped or pasted here too",
            name="Add",
        )
        self.progress = ProgressLine("Scanning the model folders")
        self.progress.set_fraction(None)
        self.filter = FilterBar()
        self._no_matches = EmptyState("magnifying-glass", "No matches", "No model matches the search.", "Show all")
        self._drop_hint = DropOverlay("Drop to add this to your models", self)
        self.setAcceptDrops(True)
        self._scanned = False  # before the first scan, an empty list means nothing
        self.message = MessageBanner()
        self.details = CheckpointDetails()
        self.details.hide()  # until a model is chosen
        self.empty = EmptyState(
            "cube",
            "No models yet",
            "Add the models that you have: files, a folder of another program, or a link to download. "
            "They can be dropped here too. Models that you train appear here by themselves.",
            "Add models…",
        )
        self._lay_out()

    def _lay_out(self) -> None:
        side = QFrame()
        side.setObjectName("panel")
        side.setProperty("side", "left")
        bar = QHBoxLayout()
        bar.setSpacing(4)
        bar.addWidget(self.heading, 1)
        bar.addSpacing(8)
        bar.addWidget(self.add_button)
        bar.addWidget(self.rescan_button)
        column = QVBoxLayout(side)
        column.setContentsMargins(16, 12, 8, 8)
        column.setSpacing(8)
        column.addLayout(bar)
        column.addWidget(self.progress)
        column.addWidget(self.filter)
        self._lists = QStackedWidget()
        self._lists.addWidget(self.list)
        self._lists.addWidget(self._no_matches)
        column.addWidget(self._lists, 1)
        everything = self._everything = QWidget()
        row = QHBoxLayout(everything)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        right = QWidget()  # keeps its width while the details are hidden
        details_column = QVBoxLayout(right)
        details_column.setContentsMargins(0, 0, 0, 0)
        details_column.addWidget(self.details)
        row.addWidget(Columns("models", (Column(side, "the list", 200, 300, LIST_WIDTH), Column(right, least=320))))
        self._pages = QStackedWidget()
        self._pages.addWidget(everything)
        self._pages.addWidget(self.empty)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        whole.addWidget(self._pages, 1)
        whole.addWidget(self.tool_runner.bar)
        whole.addWidget(self.step_fitter.bar)
        whole.addWidget(self.adder.downloads.bar)
        whole.addWidget(self.message)
        self.setTabOrder(self.list, self.add_button)
        self.setTabOrder(self.add_button, self.rescan_button)

    def _show_page(self) -> None:
        nothing, no_match = not self.model.all_entries(), not self.model.rowCount()
        show_page(self._lists, self._no_matches if no_match and not nothing else self.list)
        show_page(self._pages, self.empty if nothing and self._scanned else self._everything)

"""Runs the weight tools (convert, merge, fuse, prune, export) in a thread, one at a time, with a progress bar."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QDialog, QFrame, QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.errors import DiffstudioError
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.tools.spec import ToolResult
from diffstudio.studio.library.weight_requests import (
    ConvertRequest,
    ExportRequest,
    FuseLoraRequest,
    MergeRequest,
    PruneRequest,
    Tool,
    WeightRequest,
    carry_out,
)
from diffstudio.ui.models.weight_tool_dialogs import (
    ConvertDialog,
    ExportDialog,
    FuseLoraDialog,
    MergeDialog,
    PruneDialog,
    ToolDialog,
)
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets import actions
from diffstudio.ui.widgets.controls import ProgressLine, SecondaryButton
from diffstudio.ui.widgets.helpers import ElidedLabel, describe, label

_VERBS = {
    ConvertRequest: "Converting",
    MergeRequest: "Merging",
    FuseLoraRequest: "Fusing",
    PruneRequest: "Pruning",
    ExportRequest: "Exporting",
}


class ToolProgressBar(QFrame):
    """The file being written, its progress, and a Stop button."""

    stop_requested = Signal()

    def __init__(self, stop_tip: str = "Stop. No files are left behind") -> None:
        super().__init__()
        self.setObjectName("panel")
        self.setProperty("side", "left")
        self._title = ""
        self.title = ElidedLabel("")
        self.percent = label("", "dim")
        self.line = ProgressLine("Progress of the file")
        self.stop = SecondaryButton(actions.STOP, "stop", stop_tip)
        header = QHBoxLayout()
        header.addWidget(self.title, 1)
        header.addWidget(self.percent)
        column = QVBoxLayout()
        column.setSpacing(6)
        column.addLayout(header)
        column.addWidget(self.line)
        row = QHBoxLayout(self)
        row.setContentsMargins(24, 8, 20, 10)
        row.setSpacing(16)
        row.addLayout(column, 1)
        row.addWidget(self.stop)
        self.stop.clicked.connect(self.stop_requested)
        self.hide()

    def begin(self, title: str, queued: int = 0) -> None:
        self._title = title
        describe(self.line, self._title)
        self.show_queued(queued)
        self.show_fraction(0.0)
        self.show()

    def show_queued(self, queued: int) -> None:
        """Show how many requests are queued."""
        self.title.setText(f"{self._title}, {queued} more queued" if queued else self._title)

    def show_what(self, what: str) -> None:
        """Show what is being done, beside the title."""
        self.title.setText(f"{self._title}. {what}" if what else self._title)

    def show_fraction(self, fraction: float) -> None:
        self.line.set_fraction(fraction)
        self.percent.setText(f"{fraction:.0%}")


class ToolRunner(QObject):
    """Opens the dialog of a tool and runs its request."""

    finished = Signal(object)  # ToolResult
    failed = Signal(str)  # a message
    cancelled = Signal(str)  # the name of the file

    def __init__(self, output_folder: Callable[[], Path], parent: QWidget) -> None:
        super().__init__(parent)
        self._output_folder, self._parent_widget = output_folder, parent
        self._tasks = Tasks("weights", workers=1)
        self._queue: list[WeightRequest] = []
        self._current: asyncio.Task[None] | None = None
        self._closed = False
        self.bar = ToolProgressBar()
        self.bar.stop_requested.connect(self.stop)

    def open(
        self, tool: Tool, checkpoint: Checkpoint, others: Sequence[Checkpoint], removed_bytes: dict[str, int]
    ) -> QDialog:
        """Open the dialog of a tool that is available for this checkpoint."""
        dialog: ToolDialog
        match tool:
            case Tool.CONVERT:
                dialog = ConvertDialog(checkpoint, self._output_folder(), self._parent_widget)
            case Tool.MERGE:
                dialog = MergeDialog(checkpoint, self._output_folder(), others, self._parent_widget)
            case Tool.FUSE_LORA:
                dialog = FuseLoraDialog(checkpoint, self._output_folder(), others, self._parent_widget)
            case Tool.PRUNE:
                dialog = PruneDialog(checkpoint, self._output_folder(), removed_bytes, self._parent_widget)
            case _:
                dialog = ExportDialog(checkpoint, self._output_folder(), self._parent_widget)
        dialog.requested.connect(self.submit)
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()
        return dialog

    def submit(self, request: WeightRequest) -> None:
        """Run a request after those already queued."""
        self._queue.append(request)
        if self._current is None:
            self._next()
        else:
            self.bar.show_queued(len(self._queue))

    def busy(self) -> bool:
        return self._current is not None

    def stop(self) -> None:
        """Cancel the current request; the queue continues."""
        if self._current is not None:
            self._current.cancel()

    def close(self) -> None:
        """Cancel everything and remove incomplete files."""
        self._closed = True
        self._queue.clear()
        self._tasks.close()

    def _next(self) -> None:
        if self._closed or not self._queue:
            self._current = None
            self.bar.hide()
            return
        request = self._queue.pop(0)
        self.bar.begin(f"{_VERBS[type(request)]}: {request.target.name}", len(self._queue))
        self._current = self._tasks.start(self._carry_out(request))

    async def _carry_out(self, request: WeightRequest) -> None:
        try:
            async for item in self._tasks.iterate_in_thread(carry_out(request)):
                if isinstance(item, ToolResult):
                    self.finished.emit(item)
                else:
                    self.bar.show_fraction(item)
        except DiffstudioError as problem:
            self.failed.emit(str(problem))
        except asyncio.CancelledError:
            if not self._closed:
                self.cancelled.emit(request.target.name)
            raise
        finally:
            self._next()

"""Makes files of weights beside the window, one after another, and shows how far it is."""

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
from diffstudio.ui.widgets.controls import ProgressLine, SecondaryButton
from diffstudio.ui.widgets.helpers import ElidedLabel, describe, label

_DOING = {
    ConvertRequest: "Converting",
    MergeRequest: "Merging",
    FuseLoraRequest: "Fusing",
    PruneRequest: "Pruning",
    ExportRequest: "Exporting",
}


class ToolProgressBar(QFrame):
    """What is being made, how much of it is, and a way to stop."""

    stop_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("panel")
        self.setProperty("side", "left")
        self._doing = ""
        self.what = ElidedLabel("")
        self.percent = label("", "dim")
        self.line = ProgressLine("Progress of the file")
        self.stop = SecondaryButton("Stop", "stop", "Stop. No files are left behind")
        words = QHBoxLayout()
        words.addWidget(self.what, 1)
        words.addWidget(self.percent)
        column = QVBoxLayout()
        column.setSpacing(6)
        column.addLayout(words)
        column.addWidget(self.line)
        row = QHBoxLayout(self)
        row.setContentsMargins(24, 8, 20, 10)
        row.setSpacing(16)
        row.addLayout(column, 1)
        row.addWidget(self.stop)
        self.stop.clicked.connect(self.stop_requested)
        self.hide()

    def begin(self, request: WeightRequest, more: int) -> None:
        self._doing = f"{_DOING[type(request)]}: {request.target.name}"
        describe(self.line, self._doing)
        self.show_more(more)
        self.show_fraction(0.0)
        self.show()

    def show_more(self, more: int) -> None:
        """How many wait after it."""
        self.what.setText(f"{self._doing}, {more} more queued" if more else self._doing)

    def show_fraction(self, fraction: float) -> None:
        self.line.set_fraction(fraction)
        self.percent.setText(f"{fraction:.0%}")


class ToolRunner(QObject):
    """Opens the sheet of a tool, and carries out what comes of it."""

    made = Signal(object)  # ToolResult
    failed = Signal(str)  # a sentence
    stopped = Signal(str)  # the name of what was not made

    def __init__(self, home: Callable[[], Path], parent: QWidget) -> None:
        super().__init__(parent)
        self._home, self._window = home, parent
        self._tasks = Tasks("weights", workers=1)
        self._waiting: list[WeightRequest] = []
        self._current: asyncio.Task[None] | None = None
        self._over = False
        self.bar = ToolProgressBar()
        self.bar.stop_requested.connect(self.stop)

    def open(
        self, tool: Tool, checkpoint: Checkpoint, others: Sequence[Checkpoint], left_out: dict[str, int]
    ) -> QDialog:
        """The sheet of a tool, which was found to be possible for this checkpoint."""
        sheet: ToolDialog
        match tool:
            case Tool.CONVERT:
                sheet = ConvertDialog(checkpoint, self._home(), self._window)
            case Tool.MERGE:
                sheet = MergeDialog(checkpoint, self._home(), others, self._window)
            case Tool.FUSE_LORA:
                sheet = FuseLoraDialog(checkpoint, self._home(), others, self._window)
            case Tool.PRUNE:
                sheet = PruneDialog(checkpoint, self._home(), left_out, self._window)
            case Tool.EXPORT:
                sheet = ExportDialog(checkpoint, self._home(), self._window)
        sheet.wanted.connect(self.carry_out)
        sheet.finished.connect(sheet.deleteLater)
        sheet.open()
        return sheet

    def carry_out(self, request: WeightRequest) -> None:
        """After those that were asked for before."""
        self._waiting.append(request)
        if self._current is None:
            self._next()
        else:
            self.bar.show_more(len(self._waiting))

    def busy(self) -> bool:
        return self._current is not None

    def stop(self) -> None:
        """What is being made; what waits comes next."""
        if self._current is not None:
            self._current.cancel()

    def close(self) -> None:
        """Nothing half is left behind, and nothing is made afterwards."""
        self._over = True
        self._waiting.clear()
        self._tasks.close()

    def _next(self) -> None:
        if self._over or not self._waiting:
            self._current = None
            self.bar.hide()
            return
        request = self._waiting.pop(0)
        self.bar.begin(request, len(self._waiting))
        self._current = self._tasks.start(self._carry_out(request))

    async def _carry_out(self, request: WeightRequest) -> None:
        try:
            async for item in self._tasks.iterate_in_thread(carry_out(request)):
                if isinstance(item, ToolResult):
                    self.made.emit(item)
                else:
                    self.bar.show_fraction(item)
        except DiffstudioError as problem:
            self.failed.emit(str(problem))
        except asyncio.CancelledError:
            if not self._over:
                self.stopped.emit(request.target.name)
            raise
        finally:
            self._next()

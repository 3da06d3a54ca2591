"""Shows the disk space that training runs and their prepared images take, and clears the latter."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QListWidget, QVBoxLayout, QWidget

from diffstudio.studio.runs.disk import Cleared, DiskUse, clear_prepared_images, disk_use
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.dialogs import FittedDialog
from diffstudio.ui.widgets.formatting import human_bytes
from diffstudio.ui.widgets.helpers import describe, label

TITLE = "Disk space"
_ABOUT = (
    "To free the space of a run, remove it from the list of runs. Prepared images are made again when they are needed; a "
    "stopped run needs its folder of images for that."
)


class DiskDialog(FittedDialog):
    """The runs, the largest first; prepared images, which can be cleared; and what is free."""

    def __init__(self, runs: Path, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._runs, self._tasks = runs, Tasks("disk", workers=1)
        self.setWindowTitle(TITLE)
        describe(self, TITLE, " ")
        self.setMinimumWidth(380)
        self.resize(460, 10)
        self.list = QListWidget()
        self.list.setMinimumHeight(theme.scaled(120))
        describe(self.list, "Disk space of each run", "The largest runs first")
        self.prepared, self.free = label(""), label("", "dim")
        self.clear = SecondaryButton("Clear prepared images", "", "Delete the prepared images of all folders")
        self.close_button = SecondaryButton("Close", "", "Close (Escape)")
        column, row, buttons = QVBoxLayout(), QHBoxLayout(), QHBoxLayout()
        column.setContentsMargins(24, 24, 24, 20)
        column.setSpacing(8)
        column.addWidget(self.list, 1)
        row.addWidget(self.prepared, 1)
        row.addWidget(self.clear)
        column.addLayout(row)
        column.addWidget(self.free)
        column.addWidget(label(_ABOUT, "dim", pixels=theme.SMALL_PIXELS, wrap=True))
        buttons.addStretch(1)
        buttons.addWidget(self.close_button)
        self.set_contents(column, buttons)
        self.clear.clicked.connect(lambda: self._tasks.start(self._measure(clear=True)))
        self.close_button.clicked.connect(self.reject)
        self.clear.setEnabled(False)
        self.prepared.setText("Measuring…")

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._tasks.start(self._measure(clear=False))

    def done(self, result: int) -> None:
        self._tasks.close()
        super().done(result)

    async def _measure(self, *, clear: bool) -> None:
        self.clear.setEnabled(False)
        cleared = await self._tasks.to_thread(clear_prepared_images) if clear else Cleared(0)
        self._show(await self._tasks.to_thread(disk_use, self._runs), cleared)

    def _show(self, used: DiskUse, done: Cleared) -> None:
        self.list.clear()
        self.list.addItems([f"{path.name}  –  {human_bytes(size)}" for path, size in used.runs] or ["No runs"])
        cleared = f" ({human_bytes(done.freed)} deleted)" if done.freed else ""
        problem = f". {done.problem}" if done.problem is not None else ""
        self.prepared.setText(f"Prepared images: {human_bytes(used.prepared)}{cleared}{problem}")
        total = sum(size for _, size in used.runs)
        self.free.setText(f"Runs together: {human_bytes(total)}. Free: {human_bytes(used.free)}")
        self.clear.setEnabled(used.prepared > 0)

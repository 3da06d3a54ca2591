"""Chooses the length of the average of a run's weights (post-hoc EMA): measured, sampled and saved by jobs."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from diffstudio import paths
from diffstudio.errors import DiffstudioError
from diffstudio.studio.evaluations.averages import LONGEST, SHORTEST, Averages, read_averages
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.jobs import JobStatus, JobSummary, LabJobs
from diffstudio.training.run.run_folder import RunFolder
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets import actions, theme
from diffstudio.ui.widgets.banner import Banner
from diffstudio.ui.widgets.controls import PrimaryButton, ProgressLine, SecondaryButton
from diffstudio.ui.widgets.dialogs import FittedDialog
from diffstudio.ui.widgets.helpers import ElidedLabel, describe, label, set_tooltip
from diffstudio.ui.widgets.images.image_menu import ImageTarget
from diffstudio.ui.widgets.images.image_thumbnail import ImageThumbnail
from diffstudio.ui.widgets.images.roving_focus import RovingFocus
from diffstudio.ui.widgets.inputs.sliders import LabelledSlider
from diffstudio.ui.widgets.layout.flow_layout import FlowLayout

_POLL_SECONDS = 0.2
_SAMPLES, _SIDE = 4, 96  # of a preview; px
_USUAL = 5.0  # %
_ABOUT = (
    "A checkpoint holds a moving average of the weights (EMA). Its length can be chosen after training: a longer average is "
    "smoother, but lags further behind. The images have the first prompts and seeds of the run's samples."
)
_NOT_MEASURED = "Not measured: this run holds out no images. Choose a length, and compare its samples."
_LENGTH_TIP = "Relative standard deviation of the averaged times, in % of the training time (arXiv 2312.02696)"


class EmaDialog(FittedDialog):
    """The length, its held-out loss, a few samples, and the checkpoint that is saved. One job at a time.

    `measurable`: the run has held-out images. After a cross-validation it has none.
    """

    saved = Signal(object)  # Path of the new checkpoint
    menu_requested = Signal(object, object)  # ImageTarget, QPoint

    def __init__(
        self, run: RunFolder, parent: QWidget | None = None, jobs: LabJobs | None = None, *, measurable: bool = True
    ) -> None:
        super().__init__(parent)
        self._measurable = measurable
        self._run = run
        self._jobs = jobs if jobs is not None else LabJobs(paths.averages())
        self._tasks = Tasks("averages", workers=1)
        self._job: JobFolder | None = None
        self._busy = self._closed = False
        self.losses: dict[float, float] = {}  # that were measured, by length
        title = f"EMA length of {run.name}"
        self.setWindowTitle(title)
        describe(self, title, " ")
        self.setMinimumWidth(400)
        self.resize(500, 10)
        self.length = LabelledSlider(
            "Length", 100 * SHORTEST, 100 * LONGEST, _USUAL, step=0.5, decimals=1, suffix="%", tooltip=_LENGTH_TIP
        )
        self.loss = label("", wrap=True)
        self.measure = SecondaryButton("Measure", "", "Measure the held-out loss at this length")
        self.best = SecondaryButton(
            "Best length", "", "Measure eight lengths and choose the one with the lowest held-out loss"
        )
        self.draw = SecondaryButton("Draw samples", "", "Draw a few samples with this length; nothing is saved")
        self.line, self.what = ProgressLine("Progress of the average"), ElidedLabel("", "dim")
        self.stop = SecondaryButton(actions.STOP, "stop", "Stop. Nothing is left behind")
        self.message = Banner("bad", "")
        self.close_button = SecondaryButton("Close", "", "Close and stop what is running (Escape)")
        self.save = PrimaryButton("Save checkpoint", "", "Save the checkpoint with this length in the models folder")
        self._images, self.thumbnails = FlowLayout(spacing=8), list[ImageThumbnail]()
        self._focus = RovingFocus(self, after=self.draw)
        if not measurable:
            for button in (self.measure, self.best):
                set_tooltip(button, _NOT_MEASURED)
        self._lay_out(title)
        self.length.value_changed.connect(lambda _: self._show_loss())
        self.measure.clicked.connect(lambda: self._start("Measuring", "--length", self._text(), "--measure"))
        self.best.clicked.connect(lambda: self._start("Measuring", "--best", "--measure"))
        self.draw.clicked.connect(lambda: self._start("Drawing", "--length", self._text(), "--samples", str(_SAMPLES)))
        self.save.clicked.connect(lambda: self._start("Saving", "--length", self._text()))
        self.stop.clicked.connect(self._stop)
        self.close_button.clicked.connect(self.reject)
        self._show_loss()
        self._show_busy(busy=False)

    def _lay_out(self, title: str) -> None:
        column, row, buttons = QVBoxLayout(), QHBoxLayout(), QHBoxLayout()
        column.setContentsMargins(24, 24, 24, 20)
        column.setSpacing(8)
        column.addWidget(ElidedLabel(title, pixels=16, bold=True))
        column.addWidget(label(_ABOUT, "dim", pixels=theme.SMALL_PIXELS, wrap=True))
        column.addWidget(self.length)
        column.addWidget(self.loss)
        for button in (self.measure, self.best, self.draw):
            row.addWidget(button)
        row.setSpacing(8)
        row.addStretch(1)
        column.addLayout(row)
        column.addLayout(self._images)
        self._working = QWidget()
        working = QHBoxLayout(self._working)
        working.setContentsMargins(0, 0, 0, 0)
        texts = QVBoxLayout()
        texts.addWidget(self.what)
        texts.addWidget(self.line)
        working.addLayout(texts, 1)
        working.addWidget(self.stop)
        column.addWidget(self._working)
        column.addWidget(self.message)
        self.message.hide()
        column.addStretch(1)
        buttons.setSpacing(8)
        buttons.addStretch(1)
        buttons.addWidget(self.close_button)
        buttons.addWidget(self.save)
        self.set_contents(column, buttons)

    def chosen(self) -> float:
        """sigma_rel."""
        return round(self.length.value() / 100, 4)

    def _text(self) -> str:
        return f"{self.chosen():g}"

    def done(self, result: int) -> None:
        if not self._closed:
            self._closed = True
            self._tasks.close()
            for found in self._jobs.list():  # also one that was just being started
                if found.alive:
                    self._jobs.stop(found.job)
                else:
                    shutil.rmtree(found.job.path, ignore_errors=True)
        super().done(result)

    # Jobs

    def _start(self, doing: str, *arguments: str) -> None:
        if not self._busy:
            self._show_busy(busy=True)
            self._show_message("", "")
            self.what.setText(f"{doing}…")
            self.line.set_fraction(0.0)
            self._tasks.start(self._carry_out(["ema", str(self._run.path), *arguments]))

    def _stop(self) -> None:
        if self._job is not None:
            self._tasks.submit(self._jobs.stop, self._job)

    async def _carry_out(self, arguments: Sequence[str]) -> None:
        try:
            job = self._job = await self._tasks.to_thread(self._jobs.start, "models", arguments, self._run.name)
            while (found := await self._tasks.to_thread(self._jobs.summary, job)) is not None and found.alive:
                self._show_progress(found)
                await asyncio.sleep(_POLL_SECONDS)
            if found is not None and found.status is JobStatus.FINISHED:
                self._show(read_averages(await self._tasks.to_thread(job.result, found.result), job.path))
            elif found is not None and found.status is not JobStatus.STOPPED:
                self._show_message("bad", f"{found.outcome.rstrip('.')}.")
        except DiffstudioError as problem:
            self._show_message("bad", str(problem))
        finally:
            self._job = None
            if not self._closed:
                self._show_busy(busy=False)

    # What is shown

    def _show(self, found: Averages) -> None:
        self.losses |= found.losses
        if len(found.losses) > 1:
            self.length.set_value(100 * found.length)
        if found.samples:
            self._show_samples(found)
        if found.checkpoint:
            file = Path(found.checkpoint)
            self._show_message("good", f"Saved as {file.stem}. It is among the checkpoints of Generate and Models.")
            self.saved.emit(file)
        self._show_loss()

    def _show_samples(self, found: Averages) -> None:
        before = self.thumbnails
        name = f"Sample with an average of {100 * found.length:g}%"
        self.thumbnails = [
            ImageThumbnail(ImageTarget(path=Path(file)), theme.scaled(_SIDE), name=name, tooltip=name)
            for file in found.samples
        ]
        for thumbnail in self.thumbnails:
            thumbnail.set_image(thumbnail.target.path)
            thumbnail.menu_requested.connect(self.menu_requested)
            self._images.addWidget(thumbnail)
        self._focus.set_images(self.thumbnails)
        for old in before:
            self._images.removeWidget(old)
            old.hide()
            old.deleteLater()
        self.fit_height()

    def _show_loss(self) -> None:
        if not self._measurable:
            self.loss.setText(_NOT_MEASURED)
            return
        loss = self.losses.get(self.chosen())
        text = "Held-out loss at this length: " + ("not measured" if loss is None else f"{loss:.5f}")
        if len(self.losses) > 1:
            lowest = min(self.losses, key=lambda length: self.losses[length])
            text += f". Lowest of {len(self.losses)} measured: {self.losses[lowest]:.5f} at {100 * lowest:g}%"
        self.loss.setText(f"{text}.")

    def _show_progress(self, found: JobSummary) -> None:
        if found.what:
            self.what.setText(f"{found.what}…")
        self.line.set_fraction(found.fraction)

    def _show_message(self, kind: str, text: str) -> None:
        if text:
            self.message.show_message(kind, text)
        self.message.setVisible(bool(text))
        self.fit_height()

    def _show_busy(self, *, busy: bool) -> None:
        self._busy = busy
        for part in (self.length, self.draw, self.save):
            part.setEnabled(not busy)
        for part in (self.measure, self.best):
            part.setEnabled(not busy and self._measurable)
        self._working.setVisible(busy)
        if self.isVisible():
            self.fit_height()

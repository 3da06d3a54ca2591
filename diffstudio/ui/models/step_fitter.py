"""Fits steps to a checkpoint from the Models room: a dialog, a job in a process of its own, and a bar with its progress."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from diffstudio import paths
from diffstudio.errors import DiffstudioError
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.fitted_steps.stored import fitted_steps
from diffstudio.models.recommended import recommended_for
from diffstudio.plurals import by_number, count_of
from diffstudio.studio.evaluations.fitted_steps.request import CALLS, FITTABLE
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.jobs import JobStatus, JobSummary, LabJobs
from diffstudio.ui.models.tool_runner import ToolProgressBar
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets import actions, terms
from diffstudio.ui.widgets.controls import PrimaryButton, SecondaryButton
from diffstudio.ui.widgets.dialogs import FittedDialog
from diffstudio.ui.widgets.helpers import ElidedLabel, describe, label
from diffstudio.ui.widgets.inputs.chip_row import ChipRow

_POLL_SECONDS = 0.3
_NAMES = {"dpmpp_2m": "DPM++ 2M", "unipc": "UniPC", "euler": "Euler", "heun": "Heun"}
_ABOUT = (
    "Searches the times of few steps that bring the images closest to those of many steps. Where they are closer than "
    "with the other schedulers they are kept with the checkpoint and offered in Generate. It can take many minutes; "
    "image generation goes first."
)


class StepFittingDialog(FittedDialog):
    """For which samplers and how many network calls steps are fitted."""

    requested = Signal(object)  # list[str]: the arguments of the verb

    def __init__(self, checkpoint: Checkpoint, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.checkpoint = checkpoint
        title = f"Fit steps to {checkpoint.title}"
        self.setWindowTitle(title)
        self.setMinimumWidth(420)
        self.resize(480, 10)
        describe(self, title, " ")
        self.samplers = ChipRow([(name, _NAMES[name]) for name in FITTABLE], exclusive=False, name=terms.SAMPLER)
        self.calls = ChipRow([(calls, str(calls)) for calls in CALLS], exclusive=False, name="Network calls")
        usual = recommended_for(checkpoint, fitted=True)
        self.samplers.set_value([usual.sampler if usual is not None and usual.sampler in FITTABLE else FITTABLE[0]])
        self.calls.set_value(CALLS)
        guidance = (
            f"They are fitted for CFG scale {usual.guidance:g}, which is recommended." if usual is not None else ""
        )
        self.known = label(f"{_known_text(checkpoint)} {guidance}".strip(), "dim", wrap=True)
        self.cancel = SecondaryButton(actions.CANCEL, "", actions.CLOSE_WITHOUT_SAVING_TIP)
        self.fit = PrimaryButton("Fit steps", "", "Start, in the background (Enter)")
        self._lay_out(title)
        for chips in (self.samplers, self.calls):
            chips.value_changed.connect(lambda _: self._refresh())
        self.cancel.clicked.connect(self.reject)
        self.fit.clicked.connect(self._accept)
        self.fit.setDefault(True)
        self.fit.setFocus()
        self.fit_height()

    def _lay_out(self, title: str) -> None:
        column = QVBoxLayout()
        column.setContentsMargins(24, 24, 24, 20)
        column.setSpacing(8)
        column.addWidget(ElidedLabel(title, pixels=16, bold=True))
        column.addWidget(label(_ABOUT, "dim", wrap=True))
        column.addSpacing(8)
        for text, chips in ((terms.SAMPLER, self.samplers), ("Network calls", self.calls)):
            column.addWidget(label(text))
            column.addWidget(chips)
        column.addWidget(self.known)
        column.addStretch(1)
        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        buttons.addStretch(1)
        buttons.addWidget(self.cancel)
        buttons.addWidget(self.fit)
        self.set_contents(column, buttons)

    def _refresh(self) -> None:
        self.fit.setEnabled(bool(self.samplers.value() and self.calls.value()))

    def arguments(self) -> list[str]:
        """Of `diffstudio models`."""
        samplers, calls = self.samplers.value(), map(str, self.calls.value())
        return ["fit-steps", str(self.checkpoint.path), "--samplers", *samplers, "--calls", *calls]

    def _accept(self) -> None:
        self.requested.emit(self.arguments())
        self.accept()


class StepFitter(QObject):
    """Opens the dialog and runs its job, one at a time; the job ends with the window."""

    fitted = Signal()  # steps were kept with a checkpoint
    message = Signal(str, str)  # kind, text

    def __init__(self, parent: QWidget, jobs: LabJobs | None = None) -> None:
        super().__init__(parent)
        self._parent_widget = parent
        self._jobs = jobs if jobs is not None else LabJobs(paths.step_fitting())
        self._tasks = Tasks("fitting", workers=1)
        self._job: JobFolder | None = None
        self._busy = False
        self.bar = ToolProgressBar("Stop. Steps that were kept before stay")
        self.bar.stop_requested.connect(self.stop)

    @property
    def busy(self) -> bool:
        return self._busy

    def open(self, checkpoint: Checkpoint) -> StepFittingDialog | None:
        """Open the dialog; a message while a job is running."""
        if self._busy:
            self.message.emit("warn", "Steps are being fitted already. Stop that, or wait until it ends.")
            return None
        dialog = StepFittingDialog(checkpoint, self._parent_widget)
        dialog.requested.connect(lambda arguments: self.start(checkpoint, arguments))
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()
        return dialog

    def start(self, checkpoint: Checkpoint, arguments: Sequence[str]) -> None:
        self._busy = True
        self.bar.begin(f"Fitting steps: {checkpoint.name}")
        self._tasks.start(self._run(checkpoint, arguments))

    def stop(self) -> None:
        if self._job is not None:
            self._tasks.submit(self._jobs.stop, self._job)

    def close(self) -> None:
        if self._job is not None and self._busy:
            self._jobs.stop(self._job)
        self._tasks.close()

    async def _run(self, checkpoint: Checkpoint, arguments: Sequence[str]) -> None:
        try:
            self._job = await self._tasks.to_thread(self._jobs.start, "models", arguments, checkpoint.name)
            while (found := await self._tasks.to_thread(self._jobs.summary, self._job)) is not None and found.alive:
                self.bar.show_fraction(found.fraction or 0.0)
                self.bar.show_what(_doing(found))
                await asyncio.sleep(_POLL_SECONDS)
            if found is not None:
                await self._report(checkpoint, found)
        except DiffstudioError as problem:
            self.message.emit("bad", str(problem))
        finally:
            self._busy, self._job = False, None
            self.bar.hide()

    async def _report(self, checkpoint: Checkpoint, found: JobSummary) -> None:
        if found.status is not JobStatus.FINISHED:
            kind = "info" if found.status is JobStatus.STOPPED else "bad"
            self.message.emit(kind, f"Fitting steps to {checkpoint.name}: {found.outcome}.")
            return
        values = await self._tasks.to_thread(found.job.result, found.result)
        ladders = [one for one in values.get("ladders", ()) if isinstance(one, dict)]
        kept = [one for one in ladders if one.get("kept") is True]
        if kept:
            self.fitted.emit()
        less = [float(one["less"]) for one in kept]
        self.message.emit("good" if kept else "warn", _kept_text(checkpoint.name, len(ladders), less))


def _kept_text(name: str, searched: int, less: Sequence[float]) -> str:
    """What is kept of the steps searched for, which are one set for each sampler and number of network calls.

    `less`: for each set that is kept, by which share its images differ less from converged ones.
    """
    if not less:
        return f"No fitted steps are kept with {name}: other schedulers are as close to converged images."
    which = (
        ""
        if len(less) == searched
        else f" for {len(less):,} of {count_of(searched, 'choice')} of sampler and network calls"
    )
    low, high = (f"{100 * share:.0f}%" for share in (min(less), max(less)))
    by = low if low == high else f"{low} to {high}"
    return (
        f"The fitted steps{which} are kept with {name}: their images differ {by} less from converged ones. "
        "Choose the scheduler Fitted to this checkpoint in Generate."
    )


def _doing(found: JobSummary) -> str:
    if found.status is JobStatus.WAITING:
        return f"waiting for {found.holder}" if found.holder else "waiting"
    return found.what


def _known_text(checkpoint: Checkpoint) -> str:
    """What is fitted already."""
    fitted = fitted_steps(checkpoint)
    parts = [
        f"{_NAMES[name]} ({', '.join(map(str, counts))} {by_number(counts[-1], 'step', 'steps')})"
        for name in FITTABLE
        if (counts := fitted.step_counts(name))
    ]
    return f"Fitted already: {'; '.join(parts)}." if parts else "None are fitted yet."

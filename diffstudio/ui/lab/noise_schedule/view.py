"""NoiseScheduleView: draws a noise schedule over what a model knows about noise, and images with it at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QTimer, Signal
from PySide6.QtGui import QResizeEvent, QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from diffstudio.errors import BadRequest
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.studio.curves.curve import NoiseCurve
from diffstudio.studio.curves.models import ModelNoise, model_noise
from diffstudio.studio.curves.presets import preset_curves
from diffstudio.studio.evaluations.noise_schedule.losses import LevelLosses, level_losses, run_folders, run_of
from diffstudio.studio.evaluations.noise_schedule.trial import Pixels, TrialImage
from diffstudio.studio.evaluations.plots.figure import Figure
from diffstudio.studio.evaluations.views.noise_schedule import HOW_TO_READ, ScheduleView, readout, schedule_view
from diffstudio.studio.jobs.live_tasks import LiveTasks
from diffstudio.ui.lab.live_answers import LiveAnswers
from diffstudio.ui.lab.noise_schedule.canvas import LEAST_WIDTH, ScheduleCanvas
from diffstudio.ui.lab.noise_schedule.controls import ScheduleControls
from diffstudio.ui.lab.noise_schedule.curve_fields import CurveFields
from diffstudio.ui.lab.page import InteractiveView
from diffstudio.ui.lab.results.image_row import ImageRow
from diffstudio.ui.lab.results.result_view import HowToRead, Sentences
from diffstudio.ui.lab.results.saving import SaveButton, SavedFile, files_of_figure
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import EmptyState, ProgressLine
from diffstudio.ui.widgets.helpers import SCROLL_BAR_WIDTH, ElidedLabel, describe, label, scroll_area

TITLE = "Noise schedule"
SHOWS = (
    "Edits a noise schedule: drag the curve, and see where a sampler takes its steps, which noise levels training used, and "
    "the image that results."
)
THIS_CURVE = "This curve"
_CONTROLS_WIDTH, _IMAGE = 284, 116  # px
_MARGINS = 24 + 8  # px, beside the plot
_BESIDE, _BELOW = (8, 0, 24 - SCROLL_BAR_WIDTH, 16), (0, 8, 0, 0)  # margins of the controls
_PATIENCE_MS = 300  # before the progress line appears
_NO_MODEL = "Add a model that is sampled step by step: the starter, one trained here, or another diffusion model."


class NoiseScheduleView(InteractiveView):
    drawn = Signal(object)  # TrialImage, after its image was shown

    def __init__(self) -> None:
        super().__init__()
        self._noise: ModelNoise | None = None
        self._noise_problem = ""  # why the schedule of the model cannot be shown
        self._losses: LevelLosses | None = None
        self._images: dict[str, tuple[TrialImage, Pixels]] = {}  # by what they are called
        self._wanted: dict[str, TrialImage] = {}  # what is to be shown
        self._problem = ""  # why the curve cannot be as it was asked for
        self._pointed: float | None = None  # the time under the pointer
        self._tasks = Tasks("noise-schedule", workers=1)
        self.answers = LiveAnswers("noise-schedule", self)
        self.controls, self.fields = ScheduleControls(), CurveFields()
        self.canvas = ScheduleCanvas(preset_curves()["flow"])
        self.readout = ElidedLabel("", "dim", pixels=theme.SMALL_PIXELS)
        self.save = SaveButton("plot")
        self.warnings, self.how = Sentences("Notes", "warn"), HowToRead()
        self.images = ImageRow("Images", _IMAGE)
        self.image_problem = label("", "bad", wrap=True)
        self.line = ProgressLine("Generating the images")
        self._patience = QTimer(self, singleShot=True, interval=_PATIENCE_MS)
        self._lay_out()
        self._connect()
        self._show_curve()
        self._show_fields()

    def use(self, live: LiveTasks) -> None:
        self.answers.use(live)

    def offer(self, checkpoints: Sequence[Checkpoint]) -> None:
        chosen = self.path_now(self.controls.model.value(), [str(one.path) for one in checkpoints])
        self._stack.setCurrentIndex(0 if self.controls.offer(checkpoints, chosen) else 1)

    def shut_down(self) -> None:
        self._tasks.close()
        self.answers.close()

    # Layout and connections

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.fit_text()

    def fit_text(self) -> None:
        """The controls are right of the plot, or where there is no room for both, below it."""
        width = theme.scaled(_CONTROLS_WIDTH)
        is_narrow = self.width() < width + theme.scaled(LEAST_WIDTH) + _MARGINS
        if is_narrow and self._right_area.widget() is not None:
            self._right_area.hide()
            self._plots.addWidget(self._right_area.takeWidget())
            self._right.show()
        elif not is_narrow and self._right_area.widget() is None:
            self._plots.removeWidget(self._right)
            self._right_area.setWidget(self._right)
            self._right_area.show()
        self._right_area.setFixedWidth(width)
        controls = self._right.layout()
        assert controls is not None
        controls.setContentsMargins(*(_BELOW if is_narrow else _BESIDE))

    def _lay_out(self) -> None:
        plots = QWidget()
        plots.setObjectName("contents")
        left = self._plots = QVBoxLayout(plots)
        left.setContentsMargins(24, 0, 8, 16)
        left.setSpacing(8)
        under = QHBoxLayout()
        under.addWidget(self.readout, 1)
        under.addWidget(self.save)
        left.addWidget(self.canvas, 1)
        left.addLayout(under)
        left.addWidget(self.warnings)
        left.addWidget(self.how)
        self.canvas.setMinimumHeight(theme.scaled(280))
        controls = self._right = QWidget()
        controls.setObjectName("contents")
        right = QVBoxLayout(controls)
        right.setContentsMargins(*_BESIDE)
        right.setSpacing(16)
        for part in (self.images, self.image_problem, self.fields, self.controls):
            right.addWidget(part)
        right.addStretch(1)
        area = self._right_area = scroll_area(controls)
        row = QHBoxLayout()
        row.setSpacing(0)
        row.addWidget(scroll_area(plots), 1)
        row.addWidget(area)
        top = QVBoxLayout()
        top.setContentsMargins(24, 20, 24, 8)
        top.setSpacing(8)
        top.addWidget(label(TITLE, pixels=18, bold=True))
        top.addWidget(label(SHOWS, "dim", wrap=True))
        top.addWidget(self.line)
        page = QWidget()
        column = QVBoxLayout(page)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addLayout(top)
        column.addLayout(row, 1)
        self._stack = QStackedWidget()
        self._stack.addWidget(page)
        self._stack.addWidget(EmptyState("flask", "There is no such model", _NO_MODEL))
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(self._stack)
        keep = self.line.sizePolicy()
        keep.setRetainSizeWhenHidden(True)  # nothing moves when it appears
        self.line.setSizePolicy(keep)
        self.line.hide()
        self.image_problem.hide()
        self.how.show_sentences([HOW_TO_READ])
        describe(self, TITLE, " ")
        self.setFocusProxy(self.canvas)

    def _connect(self) -> None:
        canvas, fields, controls = self.canvas, self.fields, self.controls
        canvas.changed.connect(lambda _: self._curve_changed())
        canvas.chosen.connect(lambda _: self._show_fields())
        canvas.pointed.connect(self._show_readout)
        canvas.refused.connect(self._refuse)
        fields.curve_chosen.connect(canvas.set_curve)
        fields.point_typed.connect(canvas.set_curve)
        fields.refused.connect(self._refuse)
        fields.add.clicked.connect(canvas.add_point)
        fields.remove.clicked.connect(canvas.remove_point)
        fields.undo.clicked.connect(canvas.undo)
        fields.message.connect(self.message)
        controls.model_chosen.connect(self._model_chosen)
        controls.changed.connect(self._sampling_changed)
        controls.drawing_changed.connect(lambda _: self._draw_images())
        controls.run_chosen.connect(self._read_losses)
        self.images.menu_requested.connect(self.menu_requested)
        self.answers.answered.connect(self._answered)
        self.answers.failed.connect(self._failed)
        self.answers.busy_changed.connect(self._set_busy)
        self._patience.timeout.connect(self.line.show)
        self.save.message.connect(self.message)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        for problem in self.fields.offer_saved():
            self.message.emit("warn", problem)
        self._tasks.start(self._offer_runs())
        self._draw_images()

    # The model and its run

    def _model_chosen(self) -> None:
        checkpoint = self.controls.checkpoint()
        self._noise, self._noise_problem = None, ""
        if checkpoint is not None:
            try:
                self._noise = model_noise(checkpoint)
            except BadRequest as problem:
                self._noise_problem = str(problem)
        self.fields.show_model(self._noise)
        if checkpoint is not None:
            self._tasks.start(self._offer_runs())

    async def _offer_runs(self) -> None:
        """Offer the runs, and show the losses of the one that the model comes from."""
        runs = await self._tasks.to_thread(run_folders)
        self.controls.offer_runs(runs)
        checkpoint = self.controls.checkpoint()
        own = run_of(checkpoint, runs) if checkpoint is not None else None
        if own is not None and self.controls.run.value() is None:
            self.controls.run.set_value(own)
            self._read_losses(own)

    def _read_losses(self, run: Path | None) -> None:
        self._losses = None
        if run is None:
            self._show_curve()
        else:
            self._tasks.start(self._show_losses(run))

    async def _show_losses(self, run: Path) -> None:
        losses = await self._tasks.to_thread(level_losses, run)
        if self.controls.run.value() == run:
            self._losses = losses
            if losses is None:
                self.message.emit("warn", f"{run.name} has no held-out losses by noise level.")
            self._show_curve()

    # The curve

    def curve(self) -> NoiseCurve:
        return self.canvas.curve()

    def schedule(self) -> ScheduleView | None:
        """What is shown."""
        return self.canvas.view()

    def _curve_changed(self) -> None:
        self._problem = ""
        self._show_curve()
        self._draw_images()

    def _sampling_changed(self) -> None:
        self._show_curve()
        self._show_fields()
        self._draw_images()

    def _show_curve(self) -> None:
        """Everything that follows the mouse."""
        sampling = self.controls.sampling()
        steps, compared = (sampling.steps, sampling.compared) if sampling is not None else (10, ())
        view = schedule_view(self.curve(), self._noise, steps, compared, self._losses)
        self.canvas.show_view(view)
        self.save.set_files([file for figure in view.figures() for file in _named_files(figure)])
        self._show_warnings(view)

    def _show_fields(self) -> None:
        self.fields.show_curve(self.curve(), self.canvas.index(), can_undo=self.canvas.can_undo())
        self._show_readout(self._pointed)

    def _show_readout(self, u: float | None) -> None:
        """About the time under the pointer, or that of the chosen point."""
        self._pointed = u
        time = self.curve().points[self.canvas.index()][0] if u is None else u
        self.readout.setText(readout(self.curve(), self._noise, time))

    def _refuse(self, problem: str) -> None:
        """Say why the curve cannot be like that; it stays as it was."""
        self._problem = problem
        view = self.schedule()
        if view is not None:
            self._show_warnings(view)

    def _show_warnings(self, view: ScheduleView) -> None:
        self.warnings.show_sentences([text for text in (self._problem, self._noise_problem, *view.warnings) if text])

    # Images

    def _draw_images(self) -> None:
        """Ask for the image of the curve, and for those of what it is compared with, where they are not there yet."""
        sampling = self.controls.sampling()
        if sampling is None or not self.controls.draw.isChecked() or not self.isVisible():
            self._wanted = {}
            self.answers.cancel()
            self.images.show_images(())
            self.image_problem.hide()
            return
        trial = TrialImage(
            str(sampling.checkpoint.path),
            sampling.steps,
            sampling.sampler,
            self.curve(),
            sampling.guidance,
            sampling.prompt,
            sampling.seed,
        )
        self._wanted = {THIS_CURVE: trial} | {
            name: replace(trial, spacing="uniform", times=spacing)
            if isinstance(spacing, tuple)
            else replace(trial, spacing=spacing)
            for name, spacing in sampling.compared
        }
        self._show_images()
        self._ask_next()

    def _show_images(self) -> None:
        """Those that are there: an image stays until the next of its kind is."""
        self.images.show_images([(name, self._images[name][1]) for name in self._wanted if name in self._images])

    def _ask_next(self) -> None:
        missing = [task for name, task in self._wanted.items() if self._images.get(name, (None,))[0] != task]
        if missing:
            self.answers.ask(missing[0])

    def _answered(self, task: TrialImage, image: Pixels) -> None:
        self.image_problem.hide()
        for name, wanted in self._wanted.items():
            if wanted == task or name == THIS_CURVE and isinstance(task.spacing, NoiseCurve):
                self._images[name] = task, image
        self._show_images()
        self.drawn.emit(task)
        if not self.answers.busy:
            self._ask_next()

    def _failed(self, why: str) -> None:
        self.image_problem.setText(why)
        self.image_problem.show()
        self._images = {
            name: self._images[name] for name in self._images if self._images[name][0] == self._wanted.get(name)
        }
        self._show_images()  # none of other settings

    def _set_busy(self, busy: bool) -> None:
        if busy:
            if not self._patience.isActive() and self.line.isHidden():
                self._patience.start()
        else:
            self._patience.stop()
            self.line.hide()


def _named_files(figure: Figure) -> list[SavedFile]:
    return [replace(file, text=f"{figure.title}: {file.text}") for file in files_of_figure(figure)]

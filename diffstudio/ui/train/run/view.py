"""The middle for a run: progress, charts, samples over time, and the outcome."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QGuiApplication, QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QMenu, QPlainTextEdit, QSizePolicy, QVBoxLayout, QWidget

from diffstudio.studio.runs.history import HistoryView
from diffstudio.studio.runs.runs import RunSummary
from diffstudio.training.run.run_folder import Status
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.train.run.chart import RunChart
from diffstudio.ui.train.run.chart_lines import OtherRun
from diffstudio.ui.train.run.learning_card import OUTCOME_SIGNS, is_known
from diffstudio.ui.train.run.sample_sheets_view import SampleSheetsView
from diffstudio.ui.widgets import actions, theme
from diffstudio.ui.widgets.banner import Banner
from diffstudio.ui.widgets.controls import ProgressLine, SecondaryButton
from diffstudio.ui.widgets.formatting import human_duration
from diffstudio.ui.widgets.helpers import SCROLL_BAR_WIDTH, ElidedLabel, PartsLabel, describe, scroll_area
from diffstudio.ui.widgets.layout.overflow_row import OverflowRow

_LONGER_MINUTES = 5, 15, 60, 240
_LOW = 560  # px
_AVERAGES_TIP = "Rebuild the moving average of the weights (EMA) with another length"
_NO_AVERAGES = "This run stored no averages: set EMA snapshots to 16 or so under All settings… of the next run"
_SAMPLE_TIP, _SAVE_TIP = "Generate samples after the current step", "Write a checkpoint after the current step"
_NOT_IN_CROSS_VALIDATION = (
    "Not during the cross-validation: its networks are discarded, and the run's own is trained after it"
)
_CLOSING_NOTE = "Closing the window does not stop the run"


def status_line(summary: RunSummary) -> str:
    """`Step 3,412  ·  64 images/s  ·  38 min left`."""
    step = f"Cross-validation over {summary.folds} folds, step" if summary.folds else "Step"
    parts = [f"{step} {summary.step:,}" + (f" of {summary.steps:,}" if summary.steps else "")]
    match summary.status:
        case Status.STARTING:
            if summary.prepared is None:
                return "Starting…"
            if summary.prepared >= 1:
                return "Finding the fastest settings for this machine…"
            return f"Preparing images, {100 * summary.prepared:.0f}%…"
        case Status.TRAINING if summary.compared is not None:
            parts.append(f"comparing checkpoints, {100 * summary.compared:.0f}%")
        case Status.TRAINING if summary.steps and summary.step >= summary.steps and not summary.folds:
            parts.append("drawing final samples")
        case Status.TRAINING if summary.images_per_second is None:
            parts.append("preparing to train")
        case Status.TRAINING:
            if summary.images_per_second:
                parts.append(
                    f"{summary.images_per_second:,.0f} images/s"
                    if summary.images_per_second >= 10
                    else f"{summary.images_per_second:.1f} images/s"
                )
            if summary.left_seconds is not None:
                parts.append(f"{human_duration(max(1, round(summary.left_seconds)))} left")
        case Status.WAITING:
            parts.append(summary.waiting)
        case other:
            parts.append(str(other))
    return "  ·  ".join(parts)


def finished_kind(summary: RunSummary) -> str:
    """The kind of message that a finished run deserves, by what it learned."""
    if (signs := OUTCOME_SIGNS.get(summary.outcome)) is not None:
        return signs[1]
    return "warn" if summary.learned is False else "good"


class RunView(QWidget):
    """Progress, charts, samples and outcome of one run."""

    stop_requested = Signal()
    generate_requested = Signal()
    open_folder_requested = Signal()
    resume_requested = Signal()
    retry_requested = Signal()
    averages_requested = Signal()
    remove_requested = Signal()
    sample_requested = Signal()
    prompts_requested = Signal()  # the prompts of its samples are to be changed
    save_requested = Signal()
    longer_requested = Signal(object)  # for how many more minutes
    start_from_requested = Signal()  # a new run from its checkpoint

    def __init__(self, tasks: Tasks) -> None:
        super().__init__()
        self.title = ElidedLabel("", pixels=16, bold=True)
        self.title.setMinimumWidth(120)  # a narrow window shortens the status rather than the name
        self.status = PartsLabel("", "dim")
        self.status.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.status.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.line = ProgressLine("Progress of the run")
        self.outcome = Banner("info", "")
        self.outcome.close_button.hide()
        self.log = QPlainTextEdit()
        self.log.setReadOnly(True)
        self.log.setMaximumHeight(120)
        self.log.setMinimumHeight(76)
        self.log.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.log.setFont(theme.font(theme.TINY_PIXELS))
        describe(self.log, "Last lines of the run's log")
        self.log.hide()
        self.chart = RunChart(tasks)
        self.samples = SampleSheetsView(tasks)
        self.note = ElidedLabel(_CLOSING_NOTE, "dim", pixels=theme.SMALL_PIXELS)
        self._make_buttons()
        self._spacer = QWidget()  # takes the space of the chart when it is hidden
        self._can_resume = False
        self._command = ""  # to enter on another machine, while the run waits for it
        self._lay_out()
        self._connect()

    def _make_buttons(self) -> None:
        self.stop = SecondaryButton(
            "Stop and keep", "stop", "Stop after this step and keep the result. You can resume later"
        )
        self.generate = SecondaryButton(
            actions.GENERATE_WITH_THIS,
            "sparkle",
            "Generate images with its latest checkpoint, even while it is training",
        )
        self.open = SecondaryButton("Open folder", "folder-open", "Show the run's files")
        self.remove = SecondaryButton("", "trash", name=actions.REMOVE)
        self.longer = SecondaryButton(actions.TRAIN_LONGER, "play", "Continue training this run")
        self.longer_menu = QMenu(self)
        for minutes in _LONGER_MINUTES:
            action = self.longer_menu.addAction(f"For {human_duration(60 * minutes)} more")
            action.triggered.connect(lambda _=False, minutes=minutes: self.longer_requested.emit(float(minutes)))
        self.start_from = SecondaryButton(
            "Start from this…", "arrow-right", "Start a new run, on this folder or another one, from its checkpoint"
        )
        self.averages = SecondaryButton("EMA length…", "chart-line-up", _AVERAGES_TIP)
        self.sample_now = SecondaryButton(actions.SAMPLE_NOW, "image-square", _SAMPLE_TIP)
        self.prompts = SecondaryButton("Sample prompts…", "text-t", "Change the prompts of this run's samples")
        self.save_now = SecondaryButton("Save now", "floppy-disk", _SAVE_TIP)
        self.buttons = OverflowRow(
            (
                self.stop,
                self.longer,
                self.start_from,
                self.averages,
                self.sample_now,
                self.prompts,
                self.save_now,
                self.generate,
                self.open,
                self.remove,
            ),
            SecondaryButton("", "dots-three", actions.MORE),
        )

    def _connect(self) -> None:
        self.stop.clicked.connect(self.stop_requested)
        self.generate.clicked.connect(self.generate_requested)
        self.open.clicked.connect(self.open_folder_requested)
        self.remove.clicked.connect(self.remove_requested)
        self.longer.clicked.connect(
            lambda: self.longer_menu.popup(self.longer.mapToGlobal(self.longer.rect().topLeft()))
        )
        self.start_from.clicked.connect(self.start_from_requested)
        self.averages.clicked.connect(self.averages_requested)
        self.sample_now.clicked.connect(self.sample_requested)
        self.prompts.clicked.connect(self.prompts_requested)
        self.save_now.clicked.connect(self.save_requested)
        self.outcome.acted.connect(self._act_on_outcome)

    def _lay_out(self) -> None:
        header = QHBoxLayout()
        header.setSpacing(16)
        header.addWidget(self.title, 1)
        header.addWidget(self.status)
        self.note.setMinimumWidth(1)
        foot = QVBoxLayout()
        foot.setSpacing(8)
        foot.addWidget(self.note)
        foot.addWidget(self.buttons)
        contents = QWidget()
        contents.setObjectName("contents")
        scrolled = QVBoxLayout(contents)
        scrolled.setContentsMargins(24, 0, 24 - SCROLL_BAR_WIDTH, 0)
        scrolled.setSpacing(12)
        scrolled.addWidget(self.outcome)
        scrolled.addWidget(self.log)
        scrolled.addWidget(self.chart, 4)
        scrolled.addWidget(self.samples, 5)
        scrolled.addWidget(self._spacer, 1)
        above = QVBoxLayout()
        above.setContentsMargins(24, 20, 24, 0)
        above.setSpacing(12)
        above.addLayout(header)
        above.addWidget(self.line)
        foot.setContentsMargins(24, 0, 24, 16)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(12)
        column.addLayout(above)
        column.addWidget(scroll_area(contents), 1)
        column.addLayout(foot)

    def show_run(
        self,
        summary: RunSummary,
        history: HistoryView | None,
        log: str,
        others: Sequence[OtherRun] = (),
        *,
        has_prompts: bool = False,
        has_averages: bool = False,
    ) -> None:
        """Show a run; `log` is the end of its log, shown if it failed or was interrupted.

        `others` are laid over it. `has_prompts`: its samples are drawn with prompts that can be changed.
        `has_averages`: an EMA of another length can be rebuilt.
        """
        self.title.setText(summary.name)
        self.status.setText(status_line(summary))
        preparing = summary.prepared if summary.prepared is not None and summary.prepared < 1 else None
        self.line.set_fraction(preparing if summary.status is Status.STARTING else summary.fraction)
        self._show_outcome(summary, log, history)
        self.chart.show_history(history, others)
        self.samples.show_samples(summary.run, history.samples if history is not None else ())
        nothing_to_draw = history is None or not (len(history.losses) or history.samples)
        for part in (self.chart, self.samples):
            part.setVisible(not (nothing_to_draw and not summary.alive))
        self._spacer.setVisible(nothing_to_draw and not summary.alive)
        self.buttons.offer(self.stop, summary.alive)
        training = summary.status is Status.TRAINING and summary.compared is None  # it has steps to come
        can_go_on = summary.status in (Status.FINISHED, Status.STOPPED) and summary.run.state_file.exists()
        self.buttons.offer(self.longer, can_go_on)
        self.buttons.offer(self.start_from, summary.checkpoint is not None and not summary.alive)
        self.buttons.offer(self.averages, summary.checkpoint is not None and not summary.alive)
        self.averages.setEnabled(has_averages)
        describe(self.averages, self.averages.text(), _AVERAGES_TIP if has_averages else _NO_AVERAGES)
        for button in (self.sample_now, self.save_now):
            self.buttons.offer(button, training)
            button.setEnabled(not summary.folds)
        describe(self.sample_now, self.sample_now.text(), _NOT_IN_CROSS_VALIDATION if summary.folds else _SAMPLE_TIP)
        describe(self.save_now, self.save_now.text(), _NOT_IN_CROSS_VALIDATION if summary.folds else _SAVE_TIP)
        self.buttons.offer(self.prompts, training and has_prompts)
        self.remove.setEnabled(not summary.alive)
        describe(
            self.remove,
            actions.REMOVE,
            "Still running: stop it first" if summary.alive else "Move the run to the system trash (Delete)",
        )
        self.note.setText(_CLOSING_NOTE if summary.alive else "")
        self._fit_foot()
        self.buttons.offer(self.generate, summary.checkpoint is not None and summary.status is not Status.FINISHED)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit_foot()

    def _fit_foot(self) -> None:
        """In a low window the height is left to the charts and samples."""
        is_low = self.height() < theme.scaled(_LOW)
        self.buttons.set_most_rows(1 if is_low else 2)
        self.note.setVisible(bool(self.note.text()) and not is_low)

    def show_stopping(self) -> None:
        self.stop.setEnabled(False)
        self.stop.setText("Stopping…")

    def show_not_stopping(self) -> None:
        self.stop.setEnabled(True)
        self.stop.setText("Stop and keep")

    def _show_outcome(self, summary: RunSummary, log: str, history: HistoryView | None) -> None:
        self._can_resume = summary.run.state_file.exists()
        self._command = summary.join_command
        text = summary.verdict
        remedy = "Resume" if self._can_resume else actions.TRY_AGAIN
        match summary.status:
            case Status.FINISHED:
                kind, action = finished_kind(summary), ""
            case Status.FAILED:
                kind, action = "bad", remedy
            case Status.INTERRUPTED:
                kind, action = "warn", remedy
            case Status.STOPPED:
                kind, action = "info", ""
            case _ if self._command:
                kind, action, text = "info", actions.COPY_COMMAND, f"To go on, enter this there: {self._command}"
            case _:
                kind, action, text = "", "", ""
        finished = history.finished if history is not None else None
        in_card = finished is not None and bool(finished.outcome) and finished.verdict == text and is_known(history)
        if kind and text and not (in_card and not action):  # LearningCard says it beside its evidence
            if (self.outcome.text(), self.outcome.action.text()) != (text, action) or not self.outcome.isVisible():
                self.outcome.show_message(kind, text, action)
                self.outcome.show()
        else:
            self.outcome.hide()
        bad = summary.status in (Status.FAILED, Status.INTERRUPTED)
        if self.log.toPlainText() != log:
            self.log.setPlainText(log)
            self.log.verticalScrollBar().setValue(self.log.verticalScrollBar().maximum())
        self.log.setVisible(bad and bool(log) and log.strip() != summary.verdict.strip())

    def _act_on_outcome(self) -> None:
        if self._command:
            QGuiApplication.clipboard().setText(self._command)
        elif self._can_resume:
            self.resume_requested.emit()
        else:
            self.retry_requested.emit()

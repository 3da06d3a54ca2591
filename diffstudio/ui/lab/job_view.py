"""JobView: the progress of one job, with Pause and Cancel; then its result, or why it failed."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from diffstudio.studio.evaluations.jobs import JobStatus, JobSummary
from diffstudio.studio.jobs.live_tasks import LiveTasks
from diffstudio.studio.runs.status import waiting_text
from diffstudio.ui.lab.page import LabPage
from diffstudio.ui.lab.results.result_view import ResultView
from diffstudio.ui.widgets import actions, theme
from diffstudio.ui.widgets.banner import Banner
from diffstudio.ui.widgets.controls import ProgressLine, SecondaryButton
from diffstudio.ui.widgets.helpers import (
    SCROLL_BAR_WIDTH,
    describe,
    label,
    leave_focus,
    limit_length,
    scroll_area,
    takes_text_only,
)
from diffstudio.ui.widgets.layout.flow_layout import FlowLayout
from diffstudio.ui.widgets.wrapping_text import WrappingText

_KINDS = {JobStatus.FAILED: "bad", JobStatus.INTERRUPTED: "warn", JobStatus.STOPPED: "info", JobStatus.FINISHED: "warn"}
LONGEST_NAME = 60


def progress_text(summary: JobSummary) -> str:
    """A description of the job's current work."""
    match summary.status:
        case _ if summary.stopping:
            return "Stopping after the current step. Press Cancel again to end it at once"
        case JobStatus.STARTING:
            return "Starting the process"
        case JobStatus.WAITING:
            return waiting_text(summary.holder).capitalize()
        case JobStatus.PAUSED:
            return "Paused"
        case _ if summary.total > 0:
            return f"{summary.what}, {summary.done:,} of {summary.total:,}"
        case _:
            return summary.what or "Working"


class JobView(QWidget):
    """Shows one job at a time."""

    renamed = Signal(str)
    pause_requested = Signal()
    resume_requested = Signal()
    cancel_requested = Signal()
    change_requested = Signal()  # show its settings in the form
    again_requested = Signal()
    folder_requested = Signal()
    delete_requested = Signal()
    message = Signal(str, str)
    menu_requested = Signal(object, object)  # ImageTarget, QPoint

    def __init__(self, pages: Sequence[LabPage]) -> None:
        super().__init__()
        self._pages = {page.verb: page for page in pages}
        self._views: dict[str, ResultView] = {}
        self._live: LiveTasks | None = None
        self._summary: JobSummary | None = None
        self._problem = ""  # why the result cannot be shown
        self.name = QLineEdit()
        takes_text_only(self.name)
        limit_length(self.name, LONGEST_NAME)
        self.name.setProperty("bare", True)
        self.name.setFont(theme.font(18, bold=True))
        describe(self.name, "Name of the job", "Click to rename (F2)")
        self.shows = label("", "dim", wrap=True)
        self.change = SecondaryButton(
            "Change…", "sliders-horizontal", "Show these settings in the form, to start a job with other settings"
        )
        self.again = SecondaryButton("Start again", "arrow-counter-clockwise", "Start a new job with the same settings")
        self.folder = SecondaryButton(
            "", "folder-open", actions.SHOW_IN_FOLDER_TIP, name=actions.SHOW_IN_FOLDER, role="dim"
        )
        self.delete = SecondaryButton(
            "", "trash", "Move this job to the system trash (Delete)", name=actions.DELETE, role="dim"
        )
        self.progress, self.line = WrappingText("", pixels=theme.FONT_PIXELS), ProgressLine()
        self.progress.setAccessibleName("Progress of the job")
        self.pause = SecondaryButton("Pause", "pause", "Pause the job and release the accelerator")
        self.cancel = SecondaryButton(actions.CANCEL, "x", "Stop without a result (Ctrl+.)")
        self.outcome = Banner("warn")
        self.outcome.close_button.hide()
        self._running, self._results = QWidget(), QWidget()
        self._lay_out()
        self._connect()

    def _lay_out(self) -> None:
        top = FlowLayout(spacing=8)
        for button in (self.change, self.again, self.folder, self.delete):
            top.addWidget(button)
        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        buttons.addWidget(self.pause)
        buttons.addWidget(self.cancel)
        buttons.addStretch(1)
        running = QVBoxLayout(self._running)
        running.setContentsMargins(0, 8, 0, 0)
        running.setSpacing(8)
        for part in (self.progress, self.line):
            running.addWidget(part)
        running.addLayout(buttons)
        contents = QWidget()
        contents.setObjectName("contents")
        column = QVBoxLayout(contents)
        column.setContentsMargins(24, 16, 24 - SCROLL_BAR_WIDTH, 20)
        column.setSpacing(12)
        column.addWidget(self.name)
        column.addWidget(self.shows)
        column.addLayout(top)
        column.addWidget(self._running)
        column.addWidget(self.outcome)
        column.addWidget(self._results)
        results = QVBoxLayout(self._results)  # not a stack, which would be as high as the highest of them
        results.setContentsMargins(0, 0, 0, 0)
        column.addStretch(1)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(scroll_area(contents))
        self.setFocusProxy(self.cancel)

    def _connect(self) -> None:
        self.name.editingFinished.connect(self._rename)
        self.pause.clicked.connect(self._pause_or_resume)
        self.cancel.clicked.connect(self.cancel_requested)
        self.change.clicked.connect(self.change_requested)
        self.again.clicked.connect(self.again_requested)
        self.folder.clicked.connect(self.folder_requested)
        self.delete.clicked.connect(self.delete_requested)

    # Display

    def show_summary(self, summary: JobSummary) -> None:
        """Show the state of a job. `show_result` shows its result once it has been read."""
        another = self._summary is None or self._summary.job != summary.job
        self._summary = summary
        page = self._pages.get(summary.request.verb)
        if another or not self.name.hasFocus():
            self.name.setText(summary.name)
            self.name.setCursorPosition(0)
        if another:
            self._results.hide()
            self._show_view(None)
        self.shows.setText(page.shows if page is not None else "")
        self.change.setEnabled(page is not None)
        if not summary.alive:
            leave_focus(self._running, self.again)
        self._running.setVisible(summary.alive)
        self.progress.set_text(progress_text(summary))
        is_working = summary.status in (JobStatus.RUNNING, JobStatus.STARTING) or summary.stopping
        self.line.set_fraction(None if is_working and summary.fraction is None else summary.fraction or 0.0)
        paused = summary.status is JobStatus.PAUSED
        self.pause.setText("Resume" if paused else "Pause")
        self.pause.set_icon("play" if paused else "pause")
        self.pause.setAccessibleName(self.pause.text())
        self.pause.setEnabled(not summary.stopping)
        if another or summary.alive:
            self._problem = ""
        shown = self._problem or ("" if summary.alive else summary.outcome)
        if self.outcome.text() != shown or another:
            self.outcome.show_message("bad" if self._problem else _KINDS.get(summary.status, "info"), shown)
            self.outcome.setVisible(bool(shown))

    def show_result(self, verb: str, result: object) -> None:
        """Show the result of the current job, as the page of its verb has read it."""
        page = self._pages[verb]
        view = self._views.get(verb)
        if view is None:
            view = self._views[verb] = page.make_view()
            view.message.connect(self.message)
            view.menu_requested.connect(self.menu_requested)
            if self._live is not None:
                view.use(self._live)
            view.hide()
            whole = self._results.layout()
            assert whole is not None
            whole.addWidget(view)
        view.show_result(result)
        self._show_view(view)
        self._results.show()

    def _show_view(self, shown: ResultView | None) -> None:
        for view in self._views.values():
            view.setVisible(view is shown)

    def use(self, live: LiveTasks) -> None:
        """Where the results' tasks that need a network are submitted."""
        self._live = live
        for view in self._views.values():
            view.use(live)

    def shut_down(self) -> None:
        for view in self._views.values():
            view.shut_down()

    def show_problem(self, text: str) -> None:
        """Show why the result cannot be shown."""
        self._problem = text
        self.outcome.show_message("bad", text)
        self.outcome.setVisible(True)

    def result_view(self) -> ResultView | None:
        """The result that is shown."""
        return next((view for view in self._views.values() if not view.isHidden()), None)

    def _rename(self) -> None:
        if self._summary is None:
            return
        name = self.name.text().strip()
        if name and name != self._summary.name:
            self.renamed.emit(name)
        else:
            self.name.setText(self._summary.name)

    def _pause_or_resume(self) -> None:
        paused = self._summary is not None and self._summary.status is JobStatus.PAUSED
        (self.resume_requested if paused else self.pause_requested).emit()

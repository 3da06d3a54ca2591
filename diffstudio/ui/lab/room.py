"""The Lab room: its pages and the jobs they start.

Each job is a separate process, and closing the window does not stop it. The room reads the state of all jobs every half
second in a thread; a job from the command line whose `--out` is in the Lab's folder appears here too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import QPoint, Qt, QTimer, Signal
from PySide6.QtGui import QHideEvent, QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from diffstudio.errors import DiffstudioError
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.studio.evaluations.jobs import JobSummary, LabJobs
from diffstudio.studio.jobs.live_tasks import LiveTasks
from diffstudio.studio.library.references import ModelRenamed
from diffstudio.ui.lab.form import LabForm
from diffstudio.ui.lab.form_view import FormView
from diffstudio.ui.lab.job_actions import JobActions
from diffstudio.ui.lab.job_view import JobView
from diffstudio.ui.lab.jobs_list import LIST_WIDTHS, JobsList
from diffstudio.ui.lab.page import AnyPage, InteractivePage, InteractiveView, LabPage
from diffstudio.ui.lab.page_list import PAGES
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets import actions, shortcuts
from diffstudio.ui.widgets.banner import Banner
from diffstudio.ui.widgets.helpers import describe, set_tooltip, show_page
from diffstudio.ui.widgets.images.copy_and_drag import not_shown, open_folder
from diffstudio.ui.widgets.images.drag_and_drop import DroppedItem, DropTarget
from diffstudio.ui.widgets.images.image_menu import ImageActions
from diffstudio.ui.widgets.layout.columns import Column, Columns
from diffstudio.ui.widgets.layout.side_column import side_column
from diffstudio.ui.widgets.menus import build_menu, entry

SHOWN_MS, HIDDEN_MS = 500, 5000  # between two refreshes


class LabRoom(QWidget):
    """Forms, jobs and results. Call `shut_down` before the window closes."""

    refreshed = Signal()  # the jobs were read, or could not be

    def __init__(self, jobs: LabJobs, pages: Sequence[AnyPage] = PAGES, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._jobs = jobs
        self._pages = {page.verb: page for page in pages if isinstance(page, LabPage)}
        self._interactive = {page.key: page for page in pages if isinstance(page, InteractivePage)}
        self._tasks = Tasks("lab-room")
        self._summaries: list[JobSummary] = []
        self._folder_problem = ""
        self._selected: Path | None = None
        self._shown_result: tuple[Path, str] | None = None  # the job whose result is shown or being read
        self._refreshing = self._refresh_again = False
        self._checkpoints: Sequence[Checkpoint] = ()
        self._forms: dict[str, FormView] = {}
        self._views: dict[str, InteractiveView] = {}
        self._live: LiveTasks | None = None
        self.setObjectName("background")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        describe(self, "Lab")
        set_tooltip(self, "")
        self.jobs_list, self.job_view = JobsList(pages), JobView(list(self._pages.values()))
        self.job_actions = JobActions(jobs, self._tasks, self)
        self.image_actions = ImageActions(self)
        self.message = Banner("bad", "")
        self._middle = QStackedWidget()
        self._middle.addWidget(self.job_view)
        self._lay_out()
        self._drop = DropTarget(self, self._drop_text, self._take, lambda text: self._show_message("bad", text))
        self._connect()
        self.show_form(next(iter(self._pages)))
        self._timer = QTimer(self)
        self._timer.setInterval(HIDDEN_MS)
        self._timer.timeout.connect(self.refresh)
        self._timer.start()

    def set_checkpoints(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Set the models of the library; each form offers those that its verb can use."""
        self._checkpoints = checkpoints
        for form_view in self._forms.values():
            self._offer(form_view)
        for view in self._views.values():
            view.offer(checkpoints)

    def follow_renamed(self, change: ModelRenamed) -> None:
        """Keep a renamed model chosen; the scan that lists it follows."""
        for form_view in self._forms.values():
            form_view.form.follow_renamed(change)
        for view in self._views.values():
            view.follow_renamed(change)

    def use(self, live: LiveTasks) -> None:
        """Where the pages' tasks that need a network are submitted: those of the worker, once it runs."""
        self._live = live
        self.job_view.use(live)
        for view in self._views.values():
            view.use(live)

    def form_view(self, verb: str) -> FormView:
        """The form of a verb, created on first use."""
        if verb not in self._forms:
            view = self._forms[verb] = FormView(self._pages[verb])
            view.form.failed.connect(lambda why: self._show_message("bad", why))
            view.start_requested.connect(lambda arguments, name: self.job_actions.start(verb, arguments, name))
            self._offer(view)
            self._middle.addWidget(view)
        return self._forms[verb]

    def show_form(self, verb: str) -> FormView:
        self._selected = None
        view = self.form_view(verb)
        self.jobs_list.set_chosen(None, verb)
        show_page(self._middle, view)
        return view

    def interactive_view(self, key: str) -> InteractiveView:
        """The view of an interactive page, created on first use."""
        if key not in self._views:
            view = self._views[key] = self._interactive[key].make_view()
            view.message.connect(self._show_message)
            view.menu_requested.connect(self.image_actions.open_menu)
            if self._live is not None:
                view.use(self._live)
            view.offer(self._checkpoints)
            self._middle.addWidget(view)
        return self._views[key]

    def show_interactive(self, key: str) -> InteractiveView:
        self._selected = None
        view = self.interactive_view(key)
        self.jobs_list.set_chosen(None, key)
        show_page(self._middle, view)
        return view

    def select(self, path: Path) -> None:
        """Show the job in this folder, once it has been read."""
        self._selected, self._shown_result = path, None
        self.jobs_list.set_chosen(path)
        self._show_selected()
        self.refresh()

    def selected(self) -> Path | None:
        return self._selected

    def summary(self, path: Path | None = None) -> JobSummary | None:
        """The summary of a job, by default of the selected one."""
        wanted = path or self._selected
        return next((each for each in self._summaries if each.job.path == wanted), None)

    def refresh(self) -> None:
        """Read the jobs now, or again after the read in progress."""
        if self._refreshing:
            self._refresh_again = True
            return
        self._refreshing = True
        self._tasks.start(self._refresh())

    def shut_down(self) -> None:
        """Stop the room's threads. Jobs continue."""
        self._timer.stop()
        self._tasks.close()
        self.job_view.shut_down()
        for view in self._views.values():
            view.shut_down()

    # Layout and connections

    def _lay_out(self) -> None:
        middle = QVBoxLayout()
        middle.setSpacing(0)
        middle.setContentsMargins(0, 0, 0, 0)
        middle.addWidget(self.message)
        middle.addWidget(self._middle, 1)
        centre = QWidget()
        centre.setLayout(middle)
        self.columns = Columns(
            "lab",
            (Column(side_column(self.jobs_list, "left"), "the jobs", 180, *LIST_WIDTHS), Column(centre, least=320)),
        )
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.columns)
        self.message.hide()

    def _connect(self) -> None:
        jobs_list, view, act = self.jobs_list, self.job_view, self.job_actions
        jobs_list.page_requested.connect(self._enter)
        jobs_list.job_selected.connect(self.select)
        jobs_list.menu_requested.connect(self._open_menu)
        for signal, do in (
            (view.pause_requested, act.pause),
            (view.resume_requested, act.resume),
            (view.cancel_requested, act.stop),
            (view.again_requested, act.again),
            (view.change_requested, self._change),
            (view.folder_requested, self._open_folder),
            (view.delete_requested, act.confirm_removal),
        ):
            signal.connect(lambda do=do: self._with_selected(do))
        view.renamed.connect(lambda name: self._with_selected(lambda summary: act.rename(summary, name)))
        view.message.connect(self._show_message)
        view.menu_requested.connect(self.image_actions.open_menu)
        self.image_actions.message.connect(self._show_message)
        act.message.connect(self._show_message)
        act.started.connect(self.select)
        act.changed.connect(self.refresh)
        act.removed.connect(self._removed)
        for shortcut, bound in (
            (shortcuts.NEW_JOB, lambda: self._enter(next(iter(self._pages.values())))),
            (shortcuts.RENAME_JOB, self._edit_name),
            (shortcuts.CANCEL_JOB, lambda: self._with_selected(act.stop)),
            (shortcuts.DELETE_JOB, self._delete),
        ):
            shortcuts.bind_in_window(shortcut, self, bound)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._timer.setInterval(SHOWN_MS)
        self.refresh()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._timer.setInterval(HIDDEN_MS)

    # Forms

    def _enter(self, page: AnyPage) -> None:
        view = self.show_form(page.verb) if isinstance(page, LabPage) else self.show_interactive(page.key)
        view.setFocus()

    def _offer(self, view: FormView) -> None:
        view.form.offer([one for one in self._checkpoints if view.page.usable(one)])

    def _drop_text(self, items: Sequence[DroppedItem]) -> str:
        taker = self._taker()
        return taker.drop_text(items) if taker is not None else ""

    def _take(self, items: Sequence[DroppedItem]) -> None:
        taker = self._taker()
        if taker is not None:
            taker.take(items)

    def _taker(self) -> LabForm | InteractiveView | None:
        view = self._middle.currentWidget()
        if isinstance(view, FormView):
            return view.form
        return view if isinstance(view, InteractiveView) else None

    def _change(self, summary: JobSummary) -> None:
        """Show the settings of a job in the form of its page."""
        view = self.show_form(summary.request.verb)
        view.form.fill(summary.request.arguments)
        view.setFocus()

    # Jobs

    async def _refresh(self) -> None:
        try:
            summaries = await self._tasks.to_thread(self._jobs.list)
        except DiffstudioError as error:
            if str(error) != self._folder_problem:  # report it once: jobs are read twice a second
                self._folder_problem = str(error)
                self._show_message("bad", str(error))
            return
        finally:
            self._refreshing = False
            self.refreshed.emit()
        self._summaries, self._folder_problem = summaries, ""
        self.jobs_list.show_jobs(summaries)
        self._show_selected()
        if self._refresh_again:
            self._refresh_again = False
            self.refresh()

    def _show_selected(self) -> None:
        summary = self.summary()
        if summary is None:
            return
        self.job_view.show_summary(summary)
        show_page(self._middle, self.job_view)
        wanted = (summary.job.path, summary.result)
        if summary.result and summary.request.verb in self._pages and self._shown_result != wanted:
            self._shown_result = wanted
            self._tasks.start(self._read_result(summary))

    async def _read_result(self, summary: JobSummary) -> None:
        page, job = self._pages[summary.request.verb], summary.job

        def read() -> Any:
            return page.read_result(job, job.result(summary.result))

        try:
            result = await self._tasks.to_thread(read)
        except DiffstudioError as error:
            if self._selected == job.path:
                self.job_view.show_problem(str(error))
            return
        if self._selected == job.path:
            self.job_view.show_result(page.verb, result)

    def _removed(self, path: Path) -> None:
        if self._selected == path:
            self.show_form(next(iter(self._pages)))

    def _with_selected(self, do: Callable[[JobSummary], object]) -> None:
        summary = self.summary()
        if summary is not None:
            do(summary)

    def _delete(self) -> None:
        summary = self.summary(self.jobs_list.focused_job())
        if summary is not None:
            self.job_actions.confirm_removal(summary)

    def _edit_name(self) -> None:
        focused = self.jobs_list.focused_job()
        if focused is not None and focused != self._selected:
            self.select(focused)
        if self.summary() is not None:
            self.job_view.name.setFocus()
            self.job_view.name.selectAll()

    def _rename(self, path: Path) -> None:
        self.select(path)
        self._edit_name()

    def _open_folder(self, summary: JobSummary) -> None:
        if not open_folder(summary.job.path):
            self._show_message("warn", not_shown(summary.job.path))

    def _open_menu(self, path: Path, position: QPoint) -> None:
        summary = self.summary(path)
        if summary is None:
            return
        act = self.job_actions
        alive = f"{summary.name} is still running" if summary.alive else ""
        build_menu(
            self,
            (
                ("Rename", "pencil-simple", lambda: self._rename(path)),
                ("Start again", "arrow-counter-clockwise", lambda: act.again(summary)),
                entry(actions.SHOW_IN_FOLDER, lambda: self._open_folder(summary)),
                None,
                entry(actions.DELETE, lambda: act.confirm_removal(summary), alive),
            ),
            "Job",
        ).popup(position)

    def _show_message(self, kind: str, text: str) -> None:
        self.message.show_message(kind, text)
        self.message.setVisible(bool(text))

"""The Train room: choose a folder, inspect it, start a run, follow its loss and samples.

Each run is a separate process. The room reads the state of all runs every half second in a thread, so closing the
window does not stop a run, and a run started from the command line appears here too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QHideEvent, QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from diffstudio.errors import DiffstudioError
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.jobs.device_guess import seems_accelerated
from diffstudio.studio.runs.runs import Runs, RunSummary
from diffstudio.training.recipe import Recipe
from diffstudio.training.run.run_folder import RunFolder
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.train.disk_dialog import DiskDialog
from diffstudio.ui.train.folder.folder_view import FolderView
from diffstudio.ui.train.folder_controller import FolderController
from diffstudio.ui.train.kept_form import Keep, KeptForm
from diffstudio.ui.train.new_run_panel import PANEL_WIDTHS, NewRunPanel
from diffstudio.ui.train.run.ema_dialog import EmaDialog
from diffstudio.ui.train.run.follower import RunFollower, RunsSnapshot, read_runs
from diffstudio.ui.train.run.panel import Action, RunPanel
from diffstudio.ui.train.run.sample_prompts_dialog import SamplePromptsDialog
from diffstudio.ui.train.run.view import RunView
from diffstudio.ui.train.run_actions import RunActions
from diffstudio.ui.train.runs_list import LIST_WIDTHS, RunsList
from diffstudio.ui.widgets import shortcuts
from diffstudio.ui.widgets.banner import Banner
from diffstudio.ui.widgets.helpers import describe, set_tooltip
from diffstudio.ui.widgets.images.copy_and_drag import not_shown, open_folder
from diffstudio.ui.widgets.images.drag_and_drop import DropTarget
from diffstudio.ui.widgets.images.image_menu import ImageActions
from diffstudio.ui.widgets.layout.columns import Column, Columns
from diffstudio.ui.widgets.layout.side_column import side_column

SHOWN_MS, HIDDEN_MS = 500, 2500  # between two refreshes


class TrainRoom(QWidget):
    """New runs, all runs, and the selected run. Call `shut_down` before the window closes."""

    checkpoint_ready = Signal(object)  # Path: the first checkpoint of a run, or its last
    generate_requested = Signal(object)  # Path
    run_removed = Signal(object)  # Path of its folder, now in the system trash

    def __init__(self, runs: Runs, keep: Keep | None = None) -> None:
        """`keep` writes what is chosen for the next run, which is shown again at the next start."""
        super().__init__()
        self._runs = runs
        self._tasks = Tasks("train-room", workers=4)
        self._follower: RunFollower | None = None
        self._compared: list[RunFollower] = []  # of the runs that are laid over the selected one
        self._held_out: int | None = None  # images of the selected run, once they are known
        self._summaries: list[RunSummary] = []
        self._refreshed_once = False
        self._refreshing = False
        self._runs_started = 0
        self._stopping: Path | None = None
        self.run_actions = RunActions(runs, self._tasks, self)
        self.setObjectName("background")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        describe(self, "Train")
        set_tooltip(self, "")
        self.new_panel, self.run_panel = NewRunPanel(), RunPanel()
        self.folder_view, self.run_view = FolderView(), RunView(self._tasks)
        self.folder_controller = FolderController(self.new_panel, self.folder_view, self._tasks)
        self.kept_form = KeptForm(self.new_panel, self.folder_controller, keep)
        self.runs_list = RunsList(self._tasks)
        self.message = Banner("bad", "")
        self._left, self._middle = QStackedWidget(), QStackedWidget()
        self._lay_out()
        self.image_actions = ImageActions(self)
        self._drop = DropTarget(
            self,
            self.folder_controller.drop_text,
            self.folder_controller.take,
            lambda text: self._show_message("bad", text),
        )
        self._connect()
        self.new_panel.set_accelerator(seems_accelerated())
        self.folder_view.show_empty()
        self._show_message("warn", self.kept_form.problem)
        self._timer = QTimer(self)
        self._timer.setInterval(HIDDEN_MS)
        self._timer.timeout.connect(self.refresh)
        self._timer.start()

    def inspect(self, folder: Path) -> None:
        """Inspect a folder in a thread and offer to train on it."""
        self.folder_controller.inspect(folder)

    def _make_room_for_folder(self) -> None:
        self.select(None)
        self.message.hide()

    def select(self, path: Path | None) -> None:
        """Show the run in this folder; None shows the form for a new run."""
        self._follower = None if path is None else RunFollower(RunFolder(path))
        self.run_panel.note.save()
        self.runs_list.set_chosen(path)
        self.run_panel.show_pending(None)
        self.run_view.show_not_stopping()
        self._stopping = None
        if path is None:
            self.runs_list.show_learning(None)
            self._left.setCurrentWidget(self.new_panel)
            self._middle.setCurrentWidget(self.folder_view)
            if self._refreshed_once:  # the checkpoints to start from are known
                self.kept_form.restore()
            return
        summary = self.summary()
        if summary is not None:
            self._show_run(summary, RunsSnapshot(self._summaries, summary.run))
            self.run_panel.set_thumbs(())
            self.folder_controller.load_run_thumbnails(summary.image_folder)
        self._left.setCurrentWidget(self.run_panel)
        self._middle.setCurrentWidget(self.run_view)
        self.refresh()

    def selected(self) -> Path | None:
        return self._follower.run.path if self._follower is not None else None

    def summary(self) -> RunSummary | None:
        """The summary of the selected run."""
        return next((summary for summary in self._summaries if summary.run.path == self.selected()), None)

    def refresh(self) -> None:
        """Read the runs now, unless that is in progress."""
        if self._refreshing:
            return
        self._refreshing = True
        self._tasks.start(self._refresh())

    def shut_down(self) -> None:
        """Stop the room's threads. Runs continue."""
        self.run_panel.note.save()
        self._timer.stop()
        for dialog in self.findChildren(EmaDialog):
            dialog.close()
        self.folder_controller.shut_down()
        self._tasks.close()

    # Layout and connections

    def _lay_out(self) -> None:
        self._left.addWidget(self.new_panel)
        self._left.addWidget(self.run_panel)
        self._middle.addWidget(self.folder_view)
        self._middle.addWidget(self.run_view)
        middle = QVBoxLayout()
        middle.setSpacing(0)
        middle.addWidget(self.message)
        middle.addWidget(self._middle, 1)
        centre = QWidget()
        middle.setContentsMargins(0, 0, 0, 0)
        centre.setLayout(middle)
        self.columns = Columns(
            "train",
            (
                Column(side_column(self._left, "left"), "the settings", 288, *PANEL_WIDTHS),
                Column(centre, least=300),
                Column(side_column(self.runs_list, "right"), "the runs", 200, *LIST_WIDTHS),
            ),
        )
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.columns)

    def _connect(self) -> None:
        self.folder_controller.inspecting.connect(self._make_room_for_folder)
        self.folder_controller.run_thumbnails_loaded.connect(self.run_panel.set_thumbs)
        for part in (self.folder_controller, self.kept_form):
            part.message.connect(self._show_message)
        self.new_panel.start_requested.connect(self.run_actions.start)
        self.new_panel.recipe_changed.connect(self._update_speed)
        self.run_panel.action_requested.connect(self._act)
        self.image_actions.message.connect(self._show_message)
        for view in (self.run_view.samples, self.folder_view, self.runs_list.learning):
            view.menu_requested.connect(self.image_actions.open_menu)
        self.run_view.stop_requested.connect(self._stop)
        self.run_view.generate_requested.connect(lambda: self._act(Action.GENERATE))
        self.run_view.resume_requested.connect(lambda: self._act(Action.RESUME))
        self.run_view.retry_requested.connect(lambda: self._act(Action.TRY_AGAIN))
        self.run_view.open_folder_requested.connect(self._open_folder)
        self.run_view.sample_requested.connect(lambda: self._with_run(self.run_actions.sample_now))
        self.run_view.save_requested.connect(lambda: self._with_run(self.run_actions.save_now))
        self.run_view.prompts_requested.connect(self._ask_for_prompts)
        self.run_view.averages_requested.connect(lambda: self._with_run(self._open_averages))
        self.run_view.longer_requested.connect(
            lambda minutes: self._with_run(lambda summary: self.run_actions.train_longer(summary, minutes))
        )
        self.run_view.start_from_requested.connect(lambda: self._with_run(self._start_from))
        self.run_view.chart.comparison_changed.connect(self._compare)
        self.run_panel.note_changed.connect(self.run_actions.set_note)
        self.run_actions.note_not_saved.connect(self.run_panel.keep_note)
        self.run_view.remove_requested.connect(lambda: self._remove(self.selected()))
        self.run_actions.started.connect(self._show_started)
        self.run_actions.command_sent.connect(self._show_command_sent)
        self.run_actions.stopping.connect(self._show_stopping)
        self.run_actions.removed.connect(self.run_removed)
        self.run_actions.removal_ended.connect(self.refresh)
        self.run_actions.message.connect(self._show_message)
        self.runs_list.run_selected.connect(self.select)
        self.runs_list.new_run_requested.connect(lambda: self.select(None))
        self.runs_list.disk_requested.connect(self._show_disk)
        for shortcut, do in (
            (shortcuts.TRAINING_FOLDER, self.folder_controller.choose),
            (shortcuts.NEW_RUN, lambda: self.select(None)),
            (shortcuts.REMOVE_RUN, lambda: self._remove(self.runs_list.focused_run() or self.selected())),
        ):
            shortcuts.bind_in_window(shortcut, self, do)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._timer.setInterval(SHOWN_MS)
        self.refresh()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._timer.setInterval(HIDDEN_MS)

    # Starting and controlling runs

    def _act(self, action: Action) -> None:
        summary = self.summary()
        if summary is None:
            return
        match action:
            case Action.PAUSE:
                self.run_actions.pause(summary)
            case Action.RESUME:
                self.run_actions.resume(summary)
            case Action.TRY_AGAIN:
                self.run_actions.try_again(summary)
            case Action.GENERATE if summary.checkpoint is not None:
                self.generate_requested.emit(summary.checkpoint)

    def _stop(self) -> None:
        self._with_run(self.run_actions.stop)

    def _with_run(self, act: Callable[[RunSummary], object]) -> None:
        if (summary := self.summary()) is not None:
            act(summary)

    def _start_from(self, summary: RunSummary) -> None:
        """Show the form for a run that starts from the checkpoint of this one, on its folder unless one is chosen."""
        if summary.checkpoint is None:
            return
        folder, chosen = summary.image_folder, self.new_panel.run_settings()
        self.select(None)
        self.new_panel.start_with(summary.checkpoint)
        if chosen is None and folder is not None and folder.is_dir():
            self.inspect(folder)

    def _ask_for_prompts(self) -> None:
        """Ask for the prompts of the selected run's samples, beginning with those of the newest."""
        summary, sheet = self.summary(), self.run_view.samples.current()
        if summary is None:
            return
        prompts = summary.run.prompts() or (sheet.prompts if sheet is not None else ())
        dialog = SamplePromptsDialog(prompts, self)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.prompts_chosen.connect(lambda chosen: self.run_actions.sample_now(summary, chosen))
        dialog.open()

    def _open_averages(self, summary: RunSummary) -> None:
        dialog = EmaDialog(summary.run, self, measurable=self._held_out != 0)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.menu_requested.connect(self.image_actions.open_menu)
        dialog.saved.connect(self.checkpoint_ready)
        dialog.open()

    def _show_disk(self) -> None:
        dialog = DiskDialog(self._runs.folder, self)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.open()

    def _compare(self, paths: Sequence[Path]) -> None:
        """Plot other runs in the chart of the selected one."""
        known = {follower.run.path: follower for follower in self._compared}
        self._compared = [known.get(path) or RunFollower(RunFolder(path)) for path in paths]
        self.refresh()

    def _remove(self, path: Path | None) -> None:
        summary = next((summary for summary in self._summaries if summary.run.path == path), None)
        if summary is not None:
            self.run_actions.confirm_removal(summary)

    def _show_started(self, run: RunFolder, summaries: list[RunSummary]) -> None:
        self._runs_started += 1
        self.new_panel.run_name.clear()
        self.new_panel.start_with(None)
        self._summaries = summaries
        self.runs_list.show_runs(summaries)
        self.select(run.path)

    def _show_command_sent(self, summary: RunSummary) -> None:
        self.run_panel.show_pending(summary.status)
        self.refresh()

    def _show_stopping(self, summary: RunSummary) -> None:
        self._stopping = summary.run.path
        self.run_view.show_stopping()

    def _open_folder(self) -> None:
        path = self.selected()
        if path is not None and not open_folder(path):
            self._show_message("warn", not_shown(path))

    def _update_speed(self, recipe: Recipe) -> None:
        self._tasks.start(self._show_speed(recipe))

    async def _show_speed(self, recipe: Recipe) -> None:
        """Show the training time estimate with the throughput of an earlier run of the same network, if any."""
        self.new_panel.set_images_per_second(await self._tasks.to_thread(self._runs.images_per_second, recipe))

    # Reading and showing runs

    async def _refresh(self) -> None:
        runs_started = self._runs_started
        try:
            snapshot = await self._tasks.to_thread(read_runs, self._runs, self._follower, list(self._compared))
        except (DiffstudioError, OSError) as error:
            self._show_message("bad", str(error))
            return
        finally:
            self._refreshing = False
        if runs_started == self._runs_started:
            self._show_snapshot(snapshot)
        else:
            self.refresh()  # a run was started meanwhile; the snapshot lacks it

    def _show_snapshot(self, snapshot: RunsSnapshot) -> None:
        before = {summary.run.path: summary for summary in self._summaries}
        self._summaries = snapshot.summaries
        self.runs_list.show_runs(snapshot.summaries)
        ended = [each for each in snapshot.summaries if each.checkpoint is not None and not each.alive]
        self.new_panel.offer_checkpoints([(each.checkpoint, each.name) for each in ended if each.checkpoint])
        if self._refreshed_once:
            self._announce_checkpoints(before)
        elif self._follower is None and self.folder_controller.is_idle():
            alive = next((summary for summary in snapshot.summaries if summary.alive), None)
            if alive is not None:  # it was training before the window opened
                self._refreshed_once = True
                self.select(alive.run.path)
                return
        self._refreshed_once = True
        if self._follower is None:
            self.kept_form.restore()
            return
        summary = self.summary()
        if summary is None:
            self.select(None)  # its folder is gone
        elif snapshot.run == self._follower.run:
            self._show_run(summary, snapshot)
        else:
            self.refresh()  # another run was selected meanwhile

    def _show_run(self, summary: RunSummary, snapshot: RunsSnapshot) -> None:
        history, recipe = snapshot.history, snapshot.recipe
        started = history.started if history is not None else None
        self._held_out = started.held_out if started is not None else None
        others = [each for each in self._summaries if each.run != summary.run]
        self.run_view.chart.offer_runs([(each.run.path, each.name) for each in others])
        self.run_panel.show_run(summary, recipe, started)
        if (outdated := self.run_actions.outdated_message(summary)) and self.message.text() == outdated:
            self._show_message("good", "")
        has_prompts = recipe is not None and recipe.network.conditioning is Conditioning.TEXT
        compared = [each for each in snapshot.others if each.name != summary.name]
        self.run_view.show_run(
            summary, history, snapshot.log, compared, has_prompts=has_prompts, has_averages=snapshot.has_averages
        )
        self.runs_list.show_learning(history, summary.run, summary.image_folder)
        if history is not None:
            self.run_panel.show_note(summary.run, snapshot.note)
        if self._stopping is not None and not summary.alive:
            self._stopping = None
            self.run_view.show_not_stopping()

    def _announce_checkpoints(self, before: dict[Path, RunSummary]) -> None:
        for summary in self._summaries:
            old = before.get(summary.run.path)
            if summary.checkpoint is None:
                continue
            first = old is None or old.checkpoint is None
            ended = old is not None and old.alive and not summary.alive
            if first or ended:
                self.checkpoint_ready.emit(summary.checkpoint)

    def _show_message(self, kind: str, text: str) -> None:
        self.message.show_message(kind, text)
        self.message.setVisible(bool(text))

"""The Train room: choose a folder, see what is in it, start, watch it learn; any number of runs, each its own process.

The room owns no run: it looks at `Runs` every half second, in a thread, and shows what it finds. Closing the window
therefore ends nothing, and a run started from a command line appears here too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import (
    QDragEnterEvent,
    QDragLeaveEvent,
    QDropEvent,
    QHideEvent,
    QImage,
    QKeySequence,
    QResizeEvent,
    QShortcut,
    QShowEvent,
)
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from diffstudio.errors import DiffstudioError
from diffstudio.studio.jobs.device_guess import seems_accelerated
from diffstudio.studio.requests import TrainRequest
from diffstudio.studio.runs.history import HistoryView
from diffstudio.studio.runs.runs import Runs, RunSummary
from diffstudio.training.data.inspect_folder import FolderReport, ImageRecord, inspect_folder
from diffstudio.training.recipe import Recipe
from diffstudio.training.run.run_folder import RunFolder, RunStarted
from diffstudio.ui.shell.desktop_environment import pictures_folder
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.train.folder_view import SHOWN_PICTURES, THUMB_SIDE, FolderView
from diffstudio.ui.train.new_run_panel import CARD_THUMBS, PANEL_WIDTHS, NewRunPanel, StartChoice
from diffstudio.ui.train.new_run_panel import THUMB_SIDE as CARD_THUMB_SIDE
from diffstudio.ui.train.run_follower import Follower, Look, look
from diffstudio.ui.train.run_panel import Action, RunPanel
from diffstudio.ui.train.run_view import RunView
from diffstudio.ui.train.runs_list import LIST_WIDTHS, RunsList
from diffstudio.ui.train.thumbnails import first_pictures, spread, thumbnail
from diffstudio.ui.widgets.confirm_dialog import confirm
from diffstudio.ui.widgets.controls import Banner
from diffstudio.ui.widgets.drag_and_drop import DropOverlay, DroppedKind, dropped_paths
from diffstudio.ui.widgets.helpers import describe
from diffstudio.ui.widgets.image_actions import open_folder

SHOWN_MS, HIDDEN_MS = 500, 2500  # between two looks at the runs
_WIDE = 1180  # px: from here on the columns are as broad as those of Generate


class TrainRoom(QWidget):
    """`shut_down` before the window goes: it waits for the room's threads."""

    checkpoint_ready = Signal(object)  # Path: a run has one to generate from, or a newer one at its end
    generate_requested = Signal(object)  # Path
    run_removed = Signal(object)  # Path of its folder, which is in the trash now

    def __init__(self, runs: Runs, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._runs = runs
        self._tasks = Tasks("train-room", workers=4)
        self._follower: Follower | None = None
        self._summaries: list[RunSummary] = []
        self._seen_first_look = False
        self._looking = False
        self._generation = 0
        self._inspection: asyncio.Task[None] | None = None
        self._thumbs: asyncio.Task[None] | None = None
        self._stopping: Path | None = None
        self._removing: set[Path] = set()
        self.setObjectName("background")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setAcceptDrops(True)
        describe(self, "Train")
        self.setToolTip("")
        self.new_panel, self.run_panel = NewRunPanel(), RunPanel()
        self.folder_view, self.run_view = FolderView(), RunView(self._tasks)
        self.runs_list = RunsList()
        self.message = Banner("bad", "")
        self._left, self._middle = QStackedWidget(), QStackedWidget()
        self._lay_out()
        self._drop_hint = DropOverlay("Drop to train on this folder", self)
        self._connect()
        self.new_panel.set_accelerator(seems_accelerated())
        self.folder_view.show_empty()
        self._timer = QTimer(self)
        self._timer.setInterval(HIDDEN_MS)
        self._timer.timeout.connect(self.look)
        self._timer.start()

    # -- what others may call

    def inspect(self, folder: Path) -> None:
        """Look through a folder beside the window and offer to train on it."""
        self.select(None)
        self._cancel_inspection()
        self.message.hide()
        self.new_panel.set_report(None)
        self.folder_view.show_inspecting(folder)
        self._inspection = self._tasks.start(self._inspect(folder))

    def select(self, path: Path | None) -> None:
        """Show the run in this folder; None for a new one."""
        self._follower = None if path is None else Follower(RunFolder(path))
        self.runs_list.set_chosen(path)
        self.run_panel.show_asked(None)
        self.run_view.show_not_stopping()
        self._stopping = None
        if path is None:
            self.runs_list.trend.show_history(None)
            self._left.setCurrentWidget(self.new_panel)
            self._middle.setCurrentWidget(self.folder_view)
            return
        summary = self.summary()
        if summary is not None:
            self._show_run(summary, None, None, "")
            self._load_run_thumbs(summary)
        self._left.setCurrentWidget(self.run_panel)
        self._middle.setCurrentWidget(self.run_view)
        self.look()

    def selected(self) -> Path | None:
        return self._follower.run.path if self._follower is not None else None

    def summary(self) -> RunSummary | None:
        """Of the run that is shown."""
        return next((summary for summary in self._summaries if summary.run.path == self.selected()), None)

    def look(self) -> None:
        """Look at the runs now, unless a look is under way."""
        if self._looking:
            return
        self._looking = True
        self._tasks.start(self._look())

    def shut_down(self) -> None:
        """Runs go on; the room's own threads end."""
        self._timer.stop()
        self._tasks.close()

    # -- putting it together

    def _lay_out(self) -> None:
        self._left.addWidget(self.new_panel)
        self._left.addWidget(self.run_panel)
        self._middle.addWidget(self.folder_view)
        self._middle.addWidget(self.run_view)
        middle = QVBoxLayout()
        middle.setSpacing(0)
        middle.addWidget(self.message)
        middle.addWidget(self._middle, 1)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        self._columns = _column(self._left, "left"), _column(self.runs_list, "right")
        row.addWidget(self._columns[0])
        row.addLayout(middle, 1)
        row.addWidget(self._columns[1])

    def _connect(self) -> None:
        for asking in (self.new_panel.folder_requested, self.folder_view.folder_requested):
            asking.connect(self.choose_folder)
        self.folder_view.cancel_requested.connect(self._give_up_inspection)
        self.new_panel.start_requested.connect(self._start)
        self.new_panel.recipe_changed.connect(self._measure)
        self.run_panel.action_requested.connect(self._act)
        self.run_view.stop_requested.connect(self._stop)
        self.run_view.generate_requested.connect(lambda: self._act(Action.GENERATE))
        self.run_view.resume_requested.connect(lambda: self._act(Action.RESUME))
        self.run_view.retry_requested.connect(lambda: self._act(Action.AGAIN))
        self.run_view.open_folder_requested.connect(self._open_folder)
        self.run_view.remove_requested.connect(lambda: self._ask_to_remove(self.selected()))
        self.runs_list.chosen.connect(self.select)
        self.runs_list.new_run_requested.connect(lambda: self.select(None))
        for keys, slot in (
            ("Ctrl+O", self.choose_folder),
            ("Ctrl+N", lambda: self.select(None)),
            ("Delete", lambda: self._ask_to_remove(self.runs_list.focused() or self.selected())),
        ):
            shortcut = QShortcut(QKeySequence(keys), self)
            shortcut.activated.connect(slot)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        for column, widths in zip(self._columns, (PANEL_WIDTHS, LIST_WIDTHS), strict=True):
            column.setFixedWidth(widths[self.width() >= _WIDE])

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._timer.setInterval(SHOWN_MS)
        self.look()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._timer.setInterval(HIDDEN_MS)

    # -- choosing a folder

    def choose_folder(self) -> None:
        before = self.new_panel.choice()
        dialog = QFileDialog(
            self, "Choose a folder of images", str(before.folder.parent) if before else pictures_folder()
        )
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.setOption(QFileDialog.Option.ShowDirsOnly, True)
        dialog.fileSelected.connect(lambda chosen: self.inspect(Path(chosen)))
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if dropped_paths(event.mimeData(), DroppedKind.FOLDER):
            event.acceptProposedAction()
            self._drop_hint.appear()
        else:
            event.ignore()  # a picture is the window's

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        self._drop_hint.hide()

    def dropEvent(self, event: QDropEvent) -> None:
        self._drop_hint.hide()
        if folders := dropped_paths(event.mimeData(), DroppedKind.FOLDER):
            event.acceptProposedAction()
            self.inspect(folders[0])
        else:
            event.ignore()

    def _cancel_inspection(self) -> None:
        for task in (self._inspection, self._thumbs):
            if task is not None:
                task.cancel()
        self._inspection = self._thumbs = None

    def _give_up_inspection(self) -> None:
        self._cancel_inspection()
        self.folder_view.show_empty()

    async def _inspect(self, folder: Path) -> None:
        report = None
        try:
            async for item in self._tasks.iterate_in_thread(inspect_folder(folder)):
                if isinstance(item, FolderReport):
                    report = item
                else:
                    self.folder_view.show_progress(item)
            self.new_panel.set_report(report)
        except (DiffstudioError, OSError) as error:
            self.folder_view.show_empty()
            self._complain(error)
            report = None
        self._inspection = None
        if report is not None:
            self.new_panel.set_thumbs(())
            self.folder_view.show_report(report)
            self._thumbs = self._tasks.start(self._show_thumbs(report))

    async def _show_thumbs(self, report: FolderReport) -> None:
        side = round(THUMB_SIDE * self.devicePixelRatioF())
        made: list[tuple[QImage, str]] = []
        for picture in spread(report.images, SHOWN_PICTURES):
            image = await self._tasks.to_thread(thumbnail, report.folder / picture.path, side)
            if image is not None:
                made.append((image, _about(picture)))
        self.new_panel.set_thumbs([image for image, _ in spread(made, CARD_THUMBS)])
        self.folder_view.set_thumbs(made)

    # -- starting and steering

    def _start(self, choice: StartChoice) -> None:
        try:
            request = TrainRequest(folder=choice.folder, minutes=round(choice.minutes, 2))
            run = self._runs.start(request, choice.chosen, name=choice.name)
        except (DiffstudioError, OSError) as error:
            self._complain(error)
            return
        self.message.hide()
        self.new_panel.run_name.clear()
        self._show_new(run)

    def _act(self, action: Action) -> None:
        summary = self.summary()
        if summary is None:
            return
        run = summary.run
        match action:
            case Action.PAUSE:
                self._ask(lambda: self._runs.pause(run), summary)
            case Action.RESUME:
                self._ask(lambda: self._runs.resume(run), summary)
            case Action.GENERATE if summary.checkpoint is not None:
                self.generate_requested.emit(summary.checkpoint)
            case Action.AGAIN:
                self._try_again(run)

    def _ask(self, asking: Callable[[], None], summary: RunSummary) -> None:
        try:
            asking()
        except DiffstudioError as error:
            self._complain(error)
            return
        self.message.hide()
        self.run_panel.show_asked(summary.status)
        self.look()

    def _try_again(self, run: RunFolder) -> None:
        try:
            again = self._runs.again(run)
        except DiffstudioError as error:
            self._complain(error)
            return
        self.message.hide()
        self._show_new(again)

    def _show_new(self, run: RunFolder) -> None:
        self._generation += 1
        self._summaries = self._runs.list()
        self.runs_list.show_runs(self._summaries)
        self.select(run.path)

    def _stop(self) -> None:
        summary = self.summary()
        if summary is None:
            return
        try:
            self._runs.stop(summary.run)
        except DiffstudioError as error:
            self._complain(error)
            return
        self._stopping = summary.run.path
        self.run_view.show_stopping()

    def _ask_to_remove(self, path: Path | None) -> None:
        summary = next((summary for summary in self._summaries if summary.run.path == path), None)
        if summary is None or path in self._removing:
            return
        if summary.alive:
            self.message.show_message(
                "warn", f"The run {summary.name} is still running. Stop it first, then remove it."
            )
            self.message.show()
            return
        confirm(
            self,
            "Remove",
            f"Move the run {summary.name} to the system's trash?",
            "Its checkpoints, samples and loss curve go with it. The training images stay, and so do images "
            "made with it, but those cannot be reproduced without it.",
            lambda: self._tasks.start(self._remove(summary.run)),
        )

    async def _remove(self, run: RunFolder) -> None:
        self._removing.add(run.path)
        try:
            await self._tasks.to_thread(self._runs.remove, run)
        except DiffstudioError as error:
            self._complain(error)
        else:
            self.message.hide()
            self.run_removed.emit(run.path)
        finally:
            self._removing.discard(run.path)
        self.look()

    def _open_folder(self) -> None:
        path = self.selected()
        if path is not None:
            open_folder(path)

    def _measure(self, recipe: Recipe) -> None:
        self._tasks.start(self._show_speed(recipe))

    async def _show_speed(self, recipe: Recipe) -> None:
        """How fast the same network went on this machine before, if it did."""
        self.new_panel.set_images_per_second(await self._tasks.to_thread(self._runs.images_per_second, recipe))

    # -- looking, and showing what was found

    async def _look(self) -> None:
        generation = self._generation
        try:
            found = await self._tasks.to_thread(look, self._runs, self._follower)
        except (DiffstudioError, OSError) as error:
            self._complain(error)
            return
        finally:
            self._looking = False
        if generation == self._generation:
            self._show_look(found)
        else:
            self.look()  # a run was started meanwhile, which it knows nothing of

    def _show_look(self, found: Look) -> None:
        before = {summary.run.path: summary for summary in self._summaries}
        self._summaries = found.summaries
        self.runs_list.show_runs(found.summaries)
        if self._seen_first_look:
            self._tell_of_checkpoints(before)
        elif self._follower is None and self._inspection is None and self.new_panel.choice() is None:
            going_on = next((summary for summary in found.summaries if summary.alive), None)
            if going_on is not None:  # the window was closed while it trained
                self._seen_first_look = True
                self.select(going_on.run.path)
                return
        self._seen_first_look = True
        if self._follower is None:
            return
        summary = self.summary()
        if summary is None:
            self.select(None)  # its folder is gone
        elif found.run == self._follower.run:
            self._show_run(summary, found.history, found.recipe, found.log)
        else:
            self.look()  # another run was chosen meanwhile

    def _show_run(self, summary: RunSummary, history: HistoryView | None, recipe: Recipe | None, log: str) -> None:
        started: RunStarted | None = history.started if history is not None else None
        self.run_panel.show_run(summary, recipe, started)
        self.run_view.show_run(summary, history, log)
        self.runs_list.trend.show_history(history)
        if self._stopping is not None and not summary.alive:
            self._stopping = None
            self.run_view.show_not_stopping()

    def _tell_of_checkpoints(self, before: dict[Path, RunSummary]) -> None:
        for summary in self._summaries:
            old = before.get(summary.run.path)
            if summary.checkpoint is None:
                continue
            first = old is None or old.checkpoint is None
            ended = old is not None and old.alive and not summary.alive
            if first or ended:
                self.checkpoint_ready.emit(summary.checkpoint)

    def _load_run_thumbs(self, summary: RunSummary) -> None:
        folder = summary.image_folder
        self.run_panel.set_thumbs(())
        if self._thumbs is not None:
            self._thumbs.cancel()
        if folder is None:
            return
        self._thumbs = self._tasks.start(self._show_run_thumbs(folder))

    async def _show_run_thumbs(self, folder: Path) -> None:
        side = round(CARD_THUMB_SIDE * self.devicePixelRatioF())
        made: list[QImage] = []
        async for path in self._tasks.iterate_in_thread(first_pictures(folder)):
            image = await self._tasks.to_thread(thumbnail, path, side)
            if image is not None:
                made.append(image)
            if len(made) == CARD_THUMBS:
                break
        self.run_panel.set_thumbs(made)

    def _complain(self, error: Exception) -> None:
        self.message.show_message("bad", str(error))
        self.message.show()


def _column(inside: QWidget, side: str) -> QWidget:
    panel = QWidget()
    panel.setObjectName("panel")
    panel.setProperty("side", side)
    panel.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
    layout = QVBoxLayout(panel)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addWidget(inside)
    return panel


def _about(picture: ImageRecord) -> str:
    return f"{picture.caption or picture.path.name} · {picture.width:,} x {picture.height:,} px"

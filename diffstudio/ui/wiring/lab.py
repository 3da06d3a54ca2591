"""Shows Lab jobs in the queue's list and in the Lab, and notifies when one has ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer

from diffstudio import paths
from diffstudio.errors import DiffstudioError
from diffstudio.studio.library.references import ModelRenamed
from diffstudio.ui.shell.model_library import ModelLibrary
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets.images.image_menu import ImageActions
from diffstudio.ui.window import MainWindow
from diffstudio.ui.wiring.images import ImageController
from diffstudio.ui.wiring.jobs import JobController
from diffstudio.ui.wiring.navigation import LAB, Navigation
from diffstudio.ui.wiring.notifications import NotificationController

if TYPE_CHECKING:  # imported after the first paint
    from diffstudio.studio.evaluations.jobs import JobSummary, LabJobs
    from diffstudio.studio.jobs.live_tasks import LiveTasks
    from diffstudio.ui.lab.room import LabRoom

POLL_MS = 3000


class LabController(QObject):
    """Polls the jobs between `start` and `close`. The room is created on demand."""

    def __init__(
        self,
        window: MainWindow,
        jobs: JobController,
        library: ModelLibrary,
        tasks: Tasks,
        notifications: NotificationController,
    ) -> None:
        super().__init__()
        self._window, self._jobs, self._library, self._tasks = window, jobs, library, tasks
        self._notifications = notifications
        self._lab: LabJobs | None = None
        self._room: LabRoom | None = None
        self._live: LiveTasks | None = None
        self._shown: list[JobSummary] = []  # in the queue's list
        self._alive: set[Path] = set()  # the folders of jobs that were running at the last poll
        self._refreshing = False
        self._timer = QTimer(self)
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self.refresh)
        jobs.room.lab_job_requested.connect(self._show_job)

    def start(self, live: LiveTasks) -> None:
        """Find running jobs, including those that an earlier window started. `live` are the worker's tasks."""
        self._live = live
        if self._room is not None:
            self._room.use(live)
        self._jobs_of_lab()
        self._timer.start()
        self.refresh()

    def make_room(self, navigation: Navigation, images: ImageController) -> LabRoom:
        """The Lab room, connected to the other rooms."""
        from diffstudio.ui.lab.room import LabRoom

        self._room = room = LabRoom(self._jobs_of_lab())
        if self._live is not None:
            room.use(self._live)
        self.show_checkpoints()
        actions: ImageActions = room.image_actions
        actions.start_requested.connect(navigation.start_from)
        actions.paint_requested.connect(navigation.paint_on)
        actions.upscale_requested.connect(images.upscale)
        room.job_actions.changed.connect(self.refresh)
        return room

    def show_checkpoints(self) -> None:
        """Offer the checkpoints that a scan of the model folders has found."""
        if self._room is not None:
            self._room.set_checkpoints(self._library.checkpoints)

    def follow_renamed(self, change: ModelRenamed) -> None:
        """Put the new name of a model into the forms, and into the jobs that wait or can be started again."""
        if self._room is not None:
            self._room.follow_renamed(change)
        if self._lab is not None:
            self._tasks.start(self._follow_renamed(self._lab, change))

    async def _follow_renamed(self, lab: LabJobs, change: ModelRenamed) -> None:
        try:
            await self._tasks.to_thread(lab.follow_renamed, change.path, change.new_path)
        except DiffstudioError as error:
            self._window.show_message("warn", str(error))
        self.refresh()

    async def jobs_using(self, model: Path) -> list[str]:
        """The names of the jobs under way that use a model."""
        if self._lab is None:
            return []
        try:
            return [one.name for one in await self._tasks.to_thread(self._lab.using, model)]
        except DiffstudioError:
            return []  # the Lab itself says that its folder cannot be read

    def refresh(self) -> None:
        """Poll now, unless a poll is in progress."""
        if self._lab is not None and not self._refreshing:
            self._refreshing = True
            self._tasks.start(self._refresh(self._lab))

    def close(self) -> None:
        """Stop polling. Jobs continue."""
        self._timer.stop()
        if self._room is not None:
            self._room.shut_down()

    def _jobs_of_lab(self) -> LabJobs:
        from diffstudio.studio.evaluations.jobs import LabJobs

        self._lab = self._lab or LabJobs(paths.lab())
        return self._lab

    async def _refresh(self, lab: LabJobs) -> None:
        try:
            summaries = await self._tasks.to_thread(lab.list)
        except DiffstudioError:
            return  # the Lab itself reports problems with its folder; the next poll may succeed
        finally:
            self._refreshing = False
        self._shown = sorted((one for one in summaries if one.alive), key=lambda one: one.request.created)
        self._jobs.show_lab_jobs(self._shown)
        for one in summaries:
            if one.job.path in self._alive and not one.alive and str(one.status) != "stopped":
                self._notifications.notify(f"{one.name}: {one.status}", one.outcome)
        self._alive = {one.job.path for one in self._shown}

    def _show_job(self, place: int) -> None:
        """Show the job of this card of the queue's list in the Lab."""
        self._window.show_room(LAB)
        if self._room is not None and place < len(self._shown):
            self._room.select(self._shown[place].job.path)

"""What a person does with waiting jobs: open, edit, duplicate, remove, clear, bring back, pause the queue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt
from PySide6.QtGui import QImage

from diffstudio.studio.events import JobId
from diffstudio.studio.jobs.job_records import QueuedJob
from diffstudio.studio.jobs.waiting_jobs import RemovedJobs
from diffstudio.studio.library.references import ModelRenamed, followed
from diffstudio.studio.requests import PictureRequest, UpscaleRequest
from diffstudio.ui.generate import labels
from diffstudio.ui.generate.queue.job_dialog import JobDialog
from diffstudio.ui.shell.checkpoint_preview import read_preview
from diffstudio.ui.shell.model_library import ModelLibrary
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets.images.image_reading import read_image
from diffstudio.ui.wiring.images import ImageController
from diffstudio.ui.wiring.jobs import JobController
from diffstudio.ui.wiring.panel_state import PanelStateController

if TYPE_CHECKING:  # imported after the first paint
    from diffstudio.studio.gallery.gallery import Gallery
    from diffstudio.studio.worker import Worker

_IMAGE_SIDE = 320  # px
_MOST_REMOVED = 50  # removals that can be undone
_NOT_WAITING = "This job is no longer waiting: it was started or removed."


class QueueController(QObject):
    """Connects the list of jobs to the worker, to the panel in which a job is edited, and to the Upscale dialog."""

    def __init__(
        self,
        jobs: JobController,
        panel_state: PanelStateController,
        images: ImageController,
        library: ModelLibrary,
        tasks: Tasks,
        gallery: Callable[[], Gallery | None],
    ) -> None:
        super().__init__()
        self._jobs, self._panel_state, self._images = jobs, panel_state, images
        self._library, self._tasks, self._gallery = library, tasks, gallery
        self._room, self._list = jobs.room, jobs.room.right.jobs
        self._removed: list[RemovedJobs] = []  # what can be brought back, the newest last
        self._bringing_back = False
        self._edited = ""  # the title of the job that is edited
        self._saving = False  # the edit is being written
        self._previews: dict[str, QImage] = {}  # of checkpoints and source images, by name or path
        self._reading_previews = False
        self._connect()

    # Open

    def open(self, queued: QueuedJob) -> JobDialog:
        """Show everything about a waiting job."""
        dialog = JobDialog(queued, self._previews.get(_pictured(queued.request), QImage()), self._room.window())
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.edit_requested.connect(lambda: self.edit(queued.job))
        dialog.duplicate_requested.connect(lambda: self.duplicate(queued.job))
        dialog.remove_requested.connect(lambda: self.remove(queued.job))
        dialog.open()
        return dialog

    # Edit

    def edit(self, job: JobId) -> None:
        """Load a waiting job into the panel; it is not started meanwhile."""
        if self._edited:
            self._room.show_message("info", f"Save or cancel the edit of “{self._edited[:60]}” first.")
        else:
            self._jobs.change_queue(lambda worker: worker.waiting.begin_edit(job), partial(self._begin_edit, job))

    def _begin_edit(self, job: JobId, request: PictureRequest | None) -> None:
        if request is None:
            self._room.show_message("info", _NOT_WAITING)
            return
        self._edited = labels.title_of(request)
        self._list.set_edited(job)
        if isinstance(request, UpscaleRequest):
            self._images.edit_upscale(request, self._upscale_edited)
            return
        self._room.panel.when_scanned(partial(self._load_edited, request))

    def _load_edited(self, request: PictureRequest) -> None:
        if not self._edited:  # cancelled before the model folders were scanned
            return
        self._panel_state.begin_edit()
        self._room.show_message("info", "")
        self._room.loader.load(request)
        self._set_editing(self._edited)

    def _set_editing(self, title: str) -> None:
        self._room.panel.set_editing(title)
        self._room.empty.setEnabled(not title)  # its button and examples are for a new image

    def save_edit(self, request: PictureRequest) -> None:
        """Write the edited job; the edit goes on when that fails."""
        if self._edited and not self._saving:
            self._saving = True
            self._jobs.change_queue(
                partial(_write_edit, request),
                partial(self._edit_saved, request),
                partial(self._edit_not_saved, request),
            )

    def _edit_saved(self, request: PictureRequest, waits: bool) -> None:
        self._close_edit()
        if not waits:
            self._jobs.prompt_used.emit(request.prompt)
            self._room.show_message("info", "The edited job had been removed. It was added to the end of the queue.")

    def _edit_not_saved(self, request: PictureRequest) -> None:
        self._saving = False
        if isinstance(request, UpscaleRequest):  # its dialog is closed
            self._images.edit_upscale(request, self._upscale_edited)

    def cancel_edit(self) -> None:
        """Leave the job as it was."""
        if self._edited and not self._saving:
            self._room.show_message(
                "info", ""
            )  # about the edit; what of the settings before it is missing is said next
            self._close_edit()
            self._jobs.change_queue(lambda worker: worker.waiting.end_edit(None), lambda _: None)

    def _upscale_edited(self, request: PictureRequest | None) -> None:
        if request is not None:
            self.save_edit(request)
        else:  # also when the dialog was saved, and then closed
            self.cancel_edit()

    def _close_edit(self) -> None:
        self._edited, self._saving = "", False
        self._set_editing("")
        self._panel_state.end_edit()
        self._list.set_edited(None)

    # Duplicate, move, remove, bring back

    def duplicate(self, job: JobId) -> None:
        self._jobs.change_queue(lambda worker: worker.waiting.duplicate(job), self._duplicated)

    def _duplicated(self, copy: JobId | None) -> None:
        if copy is None:
            self._room.show_message("info", _NOT_WAITING)

    def remove(self, job: JobId) -> None:
        self._jobs.change_queue(lambda worker: worker.waiting.remove(job), self._keep)

    def clear(self) -> None:
        self._jobs.change_queue(lambda worker: worker.waiting.clear(), self._keep)

    def _keep(self, removed: RemovedJobs | None) -> None:
        if removed is not None and removed.jobs:
            before = [replace(each, replays={}) for each in self._removed[1 - _MOST_REMOVED :]]  # up to 512 MiB each
            self._removed = [*before, removed]
            self._show_undo()

    def bring_back(self) -> None:
        """Put back what was removed last."""
        if self._removed and not self._bringing_back:
            self._bringing_back, removed = True, self._removed[-1]
            self._jobs.change_queue(
                lambda worker: worker.waiting.restore(removed),
                lambda _: self._tried_to_bring_back(removed),
                self._tried_to_bring_back,
            )
            self._show_undo()

    def follow_renamed(self, change: ModelRenamed) -> None:
        """Put the new name of a model into the jobs that can be brought back."""
        self._removed = [each.with_requests(lambda request: followed(request, change)) for each in self._removed]

    def _tried_to_bring_back(self, restored: RemovedJobs | None = None) -> None:
        self._bringing_back = False
        if restored is not None:
            first = restored.jobs[0].job
            self._removed = [each for each in self._removed if each.jobs[0].job != first]
        self._show_undo()

    def _show_undo(self) -> None:
        count = len(self._removed[-1].jobs) if self._removed and not self._bringing_back else 0
        self._list.set_undo("" if not count else "1 job" if count == 1 else f"{count:,} jobs")

    def pause(self, paused: bool) -> None:
        self._jobs.change_queue(lambda worker: worker.waiting.set_queue_paused(paused), lambda _: None)

    # Thumbnails

    def _load_previews(self) -> None:
        if not self._reading_previews and self._list.jobs_without_image():
            self._tasks.start(self._read_previews())

    async def _read_previews(self) -> None:
        self._reading_previews = True
        try:
            while queued := next(iter(self._list.jobs_without_image()), None):
                pictured = _pictured(queued.request)
                if pictured not in self._previews:
                    self._previews[pictured] = await self._read_preview(queued.request)
                self._list.set_image(queued.job, self._previews[pictured])
        finally:
            self._reading_previews = False

    async def _read_preview(self, request: PictureRequest) -> QImage:
        """The thumbnail of the job's checkpoint, or of the image that it upscales; null when it has none."""
        if isinstance(request, UpscaleRequest):
            return await self._tasks.to_thread(read_image, request.source, _IMAGE_SIDE)
        found = next((each for each in self._library.checkpoints if each.name == request.checkpoint), None)
        if found is None:
            return QImage()
        return (await self._tasks.to_thread(read_preview, found, self._gallery(), _IMAGE_SIDE))[0]

    def _models_changed(self) -> None:
        """Thumbnails may be found now that the model folders have been read."""
        self._previews.clear()
        self._list.forget_images()
        self._load_previews()

    def _connect(self) -> None:
        queue, panel = self._list, self._room.panel
        queue.open_requested.connect(self.open)
        queue.edit_requested.connect(self.edit)
        queue.duplicate_requested.connect(self.duplicate)
        self._room.remove_requested.connect(self.remove)
        queue.clear_requested.connect(self.clear)
        queue.undo_requested.connect(self.bring_back)
        queue.pause_requested.connect(self.pause)
        panel.edit_saved.connect(self.save_edit)
        panel.edit_cancelled.connect(self.cancel_edit)
        self._jobs.queue_shown.connect(self._load_previews)
        self._library.changed.connect(self._models_changed)


def _write_edit(request: PictureRequest, worker: Worker) -> bool:
    """Save an edited job. One that was removed meanwhile is added to the end of the queue: False then."""
    waits = worker.waiting.end_edit(request)
    if not waits:
        worker.submit(request)
    return waits


def _pictured(request: PictureRequest) -> str:
    """What the thumbnail of a job shows."""
    return str(request.source) if isinstance(request, UpscaleRequest) else request.checkpoint

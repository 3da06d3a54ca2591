"""Jobs: from the Generate room to the worker, and the worker's events back to the rooms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from PySide6.QtCore import QObject, Signal

from diffstudio.errors import BadRequest, DiffstudioError
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.studio.events import Cancelled, Event, Failed, Finished, ImageSaved, JobId, Picture, Started
from diffstudio.studio.jobs.image_steps import ImageSteps
from diffstudio.studio.jobs.memory_forecast import MemoryQuery, forecast
from diffstudio.studio.jobs.recording import not_restartable
from diffstudio.studio.library.references import ModelRenamed, followed, not_followed, request_after
from diffstudio.studio.prompts.token_count import count_tokens
from diffstudio.studio.requests import GenerateRequest, PictureRequest
from diffstudio.ui.generate.queue.job_list import MAX_CARDS
from diffstudio.ui.generate.queue_and_history import MAX_RECENT, RecentImage
from diffstudio.ui.generate.room import GenerateRoom
from diffstudio.ui.shell.sleep_inhibitor import SleepInhibitor
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets.formatting import human_duration
from diffstudio.ui.widgets.images.image_reading import read_image

if TYPE_CHECKING:  # imported after the first paint
    from diffstudio.studio.evaluations.jobs import JobSummary
    from diffstudio.studio.gallery.gallery import Gallery
    from diffstudio.studio.jobs.step_store import StepStore
    from diffstudio.studio.runs.runs import RunSummary
    from diffstudio.studio.worker import Worker

_T = TypeVar("_T")


class _StepReader:
    """Reads the steps of images where they are kept. It is called in a thread, so it is no QObject."""

    store: StepStore | None = None

    def __call__(self, path: Path) -> ImageSteps | None:
        """The steps of an image. Reads files: not for the window's thread. DiffstudioError."""
        from diffstudio.studio.metadata.image_key import image_key

        store = self.store
        key = image_key(path) if store is not None else None
        return store.get(key) if key is not None and store is not None else None


class JobController(QObject):
    """Submits requests to the worker and shows its queue, its events and the newest images in the Generate room.

    The queue is a database, so it is read and changed in a thread, one call after the other. Requests made before
    `start` are kept and submitted then.
    """

    image_saved = Signal(object)  # Path
    queue_shown = Signal()  # it was read, and is in the room
    prompt_used = Signal(str)  # of a request that was submitted

    def __init__(self, tasks: Tasks, sleep_inhibitor: SleepInhibitor) -> None:
        super().__init__()
        self._tasks, self._sleep_inhibitor = tasks, sleep_inhibitor
        self.worker: Worker | None = None
        self._gallery: Gallery | None = None
        self._queue_thread = ThreadPoolExecutor(1, thread_name_prefix="diffstudio-queue")
        self._pending_outdated = self._reading_pending = False
        self._reading_recent: asyncio.Task[None] | None = None
        self._early_requests: list[PictureRequest] = []
        self._training = self._measuring = False
        self.nothing_starts = True  # no job waits, or the queue is paused
        self._read_steps = _StepReader()
        self.room = GenerateRoom(self.filmstrip, self._read_steps)
        self._connect()

    def start(self, worker: Worker, gallery: Gallery, step_store: StepStore) -> None:
        self.worker, self._gallery, self._read_steps.store = worker, gallery, step_store
        worker.start()
        for request in self._early_requests:
            self.submit(request)
        self._early_requests.clear()
        self.show_pending()

    # Requests

    def submit(self, request: PictureRequest) -> None:
        if self.worker is None:
            self._early_requests.append(request)
            return
        self._call(lambda worker: worker.submit(request))
        if request.prompt and isinstance(request, GenerateRequest):
            self.prompt_used.emit(request.prompt)

    def restart(self, job: JobId, step: int, request: PictureRequest) -> None:
        self._call(lambda worker: worker.restart(job, step, request))

    def restart_image(self, path: Path, step: int, request: PictureRequest) -> None:
        """Restart one image from a step, of whatever job it was."""

        def restart(worker: Worker) -> None:
            from diffstudio.studio.metadata.image_key import image_key

            key = image_key(path)
            if key is None:
                raise not_restartable("its file does not say which job made it")
            worker.restart_image(key, step, request)

        self._call(restart)

    def stop(self, job: JobId) -> None:
        """Stop the running job, or remove a waiting one."""
        if self.worker is not None and self.worker.running() == job:
            self.worker.stop(job)  # at once: the queue may be busy
        else:
            self._call(lambda worker: worker.stop(job))

    def move(self, job: JobId, offset: int) -> None:
        """Move a waiting job up (-1) or down (1) in the queue."""
        self._call(lambda worker: worker.move(job, offset))

    def follow_renamed(self, change: ModelRenamed) -> None:
        """Put the new name of a model into the jobs that use it: those that wait, and those in the room."""

        def follow(worker: Worker) -> bool:
            all_followed = True
            for waiting in worker.pending():
                try:
                    request = request_after(waiting.request, change)
                except BadRequest:
                    all_followed = False
                    continue
                if request is not waiting.request:
                    worker.change(waiting.job, request)
            return all_followed

        def say(all_followed: bool) -> None:
            if not all_followed:
                self.room.show_message("warn", not_followed("A waiting job", change))

        self._early_requests = [followed(request, change) for request in self._early_requests]
        self.room.follow_renamed(change)
        self.change_queue(follow, say)

    def close(self) -> None:
        """Wait for the changes of the queue that are still to be written."""
        self._queue_thread.shutdown(wait=True)

    def filmstrip(self, job: JobId) -> list[tuple[Picture, ...]]:
        """The previews of every step of a job that has ended."""
        return self.worker.filmstrip(job) if self.worker is not None else []

    def _call(self, method: Callable[[Worker], Any]) -> None:
        self.change_queue(method, lambda result: None)

    def change_queue(
        self, method: Callable[[Worker], _T], done: Callable[[_T], None], failed: Callable[[], None] = lambda: None
    ) -> None:
        """Call the worker in the queue's thread and pass the result on; then show the queue.

        An error is shown, after `failed` was called. `method` must hold no QObject: the thread may be the last to hold it.
        """
        if self.worker is not None:
            self._tasks.start(self._show_result(self._queue_thread.submit(method, self.worker), done, failed))

    async def _show_result(self, call: Future[_T], done: Callable[[_T], None], failed: Callable[[], None]) -> None:
        try:
            try:
                # a change is written even while the window closes
                result = await asyncio.shield(asyncio.wrap_future(call))
            except DiffstudioError:
                failed()
                raise
            done(result)
        except DiffstudioError as error:
            self.room.show_message("bad", str(error))
        self.show_pending()

    # Events

    def handle_event(self, event: Event) -> None:
        """One event of the worker, on the window's thread."""
        self.room.handle_event(event)
        match event:
            case ImageSaved(path=path):
                self.image_saved.emit(path)
            case Started() | Finished() | Cancelled() | Failed():
                self.show_pending()
                self._update_sleep_inhibitor()

    def show_pending(self) -> None:
        """Read the queue and show it; again if it changes meanwhile."""
        self._pending_outdated = True
        if not self._reading_pending:
            self._tasks.start(self._show_pending())

    async def _show_pending(self) -> None:
        self._reading_pending = True
        try:
            while self._pending_outdated and self.worker is not None:
                self._pending_outdated = False
                call = self._queue_thread.submit(self.worker.first_pending, MAX_CARDS)
                pending = await asyncio.shield(asyncio.wrap_future(call))
                self.nothing_starts = pending.paused or pending.count == 0
                self.room.set_pending(pending)
                self.queue_shown.emit()
        finally:
            self._reading_pending = False

    def show_recent(self) -> None:
        """Read the newest images of the gallery, reduced, in a thread."""
        if self._reading_recent is not None:
            self._reading_recent.cancel()  # what it has read may be older
        if self._gallery is not None:
            self._reading_recent = self._tasks.start(self._show_recent(self._gallery))

    async def _show_recent(self, gallery: Gallery) -> None:
        from diffstudio.studio.gallery.source_files import find_sources, gaps_of, request_to_reuse

        def read() -> tuple[list[RecentImage], int]:
            images = gallery.images(0, MAX_RECENT)
            requests = [request_to_reuse(image) for image in images]
            found = [find_sources(request, gallery) if request is not None else None for request in requests]
            return [
                RecentImage(image.path, read_image(image.path, 192), request, gaps_of(image.path))
                for image, request in zip(images, found, strict=True)
            ], gallery.count()

        added = -1
        while added != self.room.right.images_added:  # what was read may lack an image that was saved meanwhile
            added = self.room.right.images_added
            found = await self._tasks.to_thread(read)
        self.room.set_recent(*found)

    def show_training(self, summaries: list[RunSummary]) -> None:
        """Show the training runs that are under way in the queue: the one that trains first, then those that wait."""
        under_way = sorted(
            (each for each in summaries if each.alive), key=lambda each: (bool(each.waiting), each.created)
        )
        alive = next(iter(under_way), None)
        further = [(each.name, _state_of(each), each.fraction if each.steps else None) for each in under_way[1:]]
        self.room.right.jobs.show_further_training(further)
        if alive is None:
            self.room.set_training("", "", None)
        else:
            text = _state_of(alive)
            if alive.left_seconds is not None and not alive.waiting:
                text += f" · {human_duration(alive.left_seconds)} left"
            self.room.set_training(alive.name, text, alive.fraction if alive.steps else None)
        self._training = alive is not None
        self._update_sleep_inhibitor()

    def show_lab_jobs(self, summaries: Sequence[JobSummary]) -> None:
        """Show running and waiting Lab jobs in the queue."""
        if summaries or self.room.right.jobs.lab_jobs:
            from diffstudio.ui.lab.jobs_list import status_text
            from diffstudio.ui.lab.page_list import title_of

            shown = [(one.name, status_text(one, title_of(one.request.verb)), one.fraction) for one in summaries]
            self.room.right.jobs.show_lab_jobs(shown)
        self._measuring = bool(summaries)
        self._update_sleep_inhibitor()

    def _update_sleep_inhibitor(self) -> None:
        generates = self.worker is not None and self.worker.running() is not None
        self._sleep_inhibitor.hold(generates or self._training or self._measuring)

    # Token counts and memory forecasts for the panel

    async def _count_tokens(self, checkpoint: Checkpoint, text: str) -> None:
        self.room.panel.show_token_count(checkpoint, text, await self._tasks.to_thread(count_tokens, checkpoint, text))

    async def _forecast_memory(self, job: MemoryQuery) -> None:
        if self.worker is not None:
            memory = await self._tasks.to_thread(self.worker.device_memory)
            self.room.panel.show_memory_forecast(job, forecast(job, memory) if memory is not None else None)

    async def _run_in_background(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        done(await self._tasks.to_thread(work))

    def _connect(self) -> None:
        room, tasks = self.room, self._tasks
        room.generate_requested.connect(self.submit)
        room.pause_requested.connect(lambda job: self.worker.pause(job) if self.worker is not None else None)
        room.resume_requested.connect(lambda job: self.worker.resume(job) if self.worker is not None else None)
        room.stop_requested.connect(self.stop)
        room.restart_requested.connect(self.restart)
        room.image_restart_requested.connect(self.restart_image)
        room.move_requested.connect(self.move)
        room.panel.token_count_requested.connect(
            lambda checkpoint, text: tasks.start(self._count_tokens(checkpoint, text))
        )
        room.panel.memory_forecast_requested.connect(lambda job: tasks.start(self._forecast_memory(job)))
        room.panel.background_work_requested.connect(
            lambda work, done: tasks.start(self._run_in_background(work, done))
        )


def _state_of(run: RunSummary) -> str:
    return run.waiting or ("comparing checkpoints" if run.compared is not None else str(run.status))

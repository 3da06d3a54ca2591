"""Worker: the thread that runs the jobs of the queue, one at a time.

Only the worker holds models in memory, and the lease on the accelerator. It imports torch in its thread, with the first
job or when asked to warm up.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from diffstudio.atomic import remove_part_files
from diffstudio.errors import DiffstudioError, Interrupted, OutOfMemory, StorageProblem
from diffstudio.models.library.library import Library
from diffstudio.models.memory.lease import Lease
from diffstudio.studio.events import Cancelled, Event, Failed, JobId, Paused, Picture, Resumed, Started
from diffstudio.studio.fitted_spacing import with_fitted_times
from diffstudio.studio.generation.model_loader import ModelLoader
from diffstudio.studio.job_runner import JobRunner, RunningJob
from diffstudio.studio.jobs.job_context import JobStore
from diffstudio.studio.jobs.job_control import JobControl
from diffstudio.studio.jobs.job_records import PendingJobs, QueuedJob, RestartPoint
from diffstudio.studio.jobs.live_tasks import LiveTasks
from diffstudio.studio.jobs.memory_forecast import DeviceMemory
from diffstudio.studio.jobs.queue import Queue
from diffstudio.studio.jobs.recording import Replay, not_restartable
from diffstudio.studio.jobs.restart_from_step import NOT_THE_NEWEST, replay_of
from diffstudio.studio.jobs.step_store import StepStore
from diffstudio.studio.jobs.waiting_jobs import WaitingJobs
from diffstudio.studio.metadata.image_key import ImageKey
from diffstudio.studio.requests import PictureRequest, SpacingName
from diffstudio.studio.settings import Settings

if TYPE_CHECKING:
    from diffstudio.models.model import Model

_MOST_ATTEMPTS = 3  # at a job during which the program was killed each time
_QUEUE_RETRY_SECONDS = 5.0  # after the queue could not be read: another program may have locked it
_log = logging.getLogger(__name__)


class Worker:
    """Runs the jobs of the queue, one at a time, and reports their events through `emit`.

    `emit` is called from the worker's thread or the caller's. All methods may be called from any thread. `close` must
    be called at the end.
    """

    def __init__(
        self,
        queue: Queue,
        library: Library,
        gallery: JobStore,
        settings: Settings,
        emit: Callable[[Event], None],
        *,
        lease: Lease | None = None,
        step_store: StepStore | None = None,
    ) -> None:
        self._queue, self._library, self._emit = queue, library, emit
        self.settings = settings  # may be replaced at any time: the next job reads it
        self._step_store = step_store  # where the steps of finished images are kept
        self._changed = threading.Condition()
        self._running: RunningJob | None = None
        self._last: RunningJob | None = None  # the newest job that was started, for its filmstrip and restarts
        self.waiting = WaitingJobs(queue, self._changed, emit)
        self.live = LiveTasks(self._changed)  # for pages of the Lab, between jobs
        self._closing = False
        self._warm_up: str | None = None  # the name of a checkpoint to load in advance; "" for torch alone
        self._loader = ModelLoader(library)
        self._runner = JobRunner(
            queue,
            library,
            gallery,
            self._loader,
            lambda: self.settings,
            lambda event: self._emit(event),
            self.waiting.replays,
            lease,
            step_store,
        )
        self._thread = threading.Thread(target=self._run, name="diffstudio-worker", daemon=True)
        self._cleanup = threading.Thread(target=self._clean_up, name="diffstudio-cleanup", daemon=True)
        self._warm_up_at: float | None = None
        self._retry_seconds: float | None = None  # until the queue, which could not be read, is read again

    # Called from other threads

    def start(self, delay: float | None = None) -> None:
        """Start to run the queue. After `delay` seconds without a job the heavy imports are done in advance."""
        self._warm_up_at = None if delay is None else time.monotonic() + delay
        self._thread.start()
        self._cleanup.start()

    def warm_up(self, checkpoint: str = "") -> None:
        """Do the heavy imports now and load this checkpoint in advance, unless there is a job."""
        with self._changed:
            self._warm_up, self._warm_up_at = checkpoint, time.monotonic()
            self._changed.notify_all()

    def submit(self, request: PictureRequest) -> JobId:
        """Append a job to the queue. StorageProblem when the queue cannot be written."""
        with self._changed:
            job = self._queue.submit(request)
            self.live.put_off()
            self._changed.notify_all()
        return job

    def pending(self) -> list[QueuedJob]:
        return self._queue.pending()

    def first_pending(self, limit: int) -> PendingJobs:
        """The first waiting jobs, and how many there are in all."""
        return self._queue.first_pending(limit)

    def running(self) -> JobId | None:
        running = self._running
        return running.job if running is not None else None

    def device_memory(self) -> DeviceMemory | None:
        """The memory of the device that the next job runs on; None for an accelerator until torch is loaded."""
        return self._loader.device_memory(self.settings)

    def reorder(self, jobs: list[JobId]) -> None:
        self._queue.reorder(jobs)

    def move(self, job: JobId, offset: int) -> None:
        """Move a waiting job up (-1) or down (1) in the queue."""
        self._queue.move(job, offset)

    def change(self, job: JobId, request: PictureRequest) -> bool:
        """Replace the request of a waiting job. False when it is not waiting there."""
        return self._queue.change(job, request)

    def stop(self, job: JobId) -> None:
        """Stop a job after the network call in progress, or remove it from the queue; Cancelled follows."""
        if not self._control(job, JobControl.stop) and not self.cancel_pending(job):
            self._control(job, JobControl.stop)  # it was started just now

    def pause(self, job: JobId) -> None:
        """Pause the running job after the network call in progress; Paused follows. The accelerator is free meanwhile."""
        self._control(job, JobControl.pause)

    def resume(self, job: JobId) -> None:
        self._control(job, JobControl.resume)

    def cancel_pending(self, job: JobId) -> bool:
        """Remove a waiting job from the queue; Cancelled follows. False when it is not waiting there."""
        return self.waiting.remove(job) is not None

    def filmstrip(self, job: JobId) -> list[tuple[Picture, ...]]:
        """The previews of each step of the running or the last job, one for each image; empty where none were kept."""
        record = self._record(job)
        return record.recording.preview_history.steps() if record is not None else []

    def restart(self, job: JobId, from_step: int, request: PictureRequest | None = None) -> JobId:
        """Restart the last job from a step: the estimates of earlier steps are replayed, those of the others computed.

        `request` may change the prompts, the guidance and the checkpoint for the remaining steps. BadRequest when the
        job is not the last one, or its steps were not kept.
        """
        record = self._record(job)
        if record is None or not record.recording.batches:
            raise not_restartable(NOT_THE_NEWEST)
        new = self._with_times_of(record.request, request)
        replay = replay_of(record.recording, record.request, from_step, new)
        only = ImageKey(record.token, 0)
        stored = record.request.count == 1 and self._step_store is not None and self._step_store.has(only)
        return self._submit_replay(new, replay, RestartPoint(from_step, record.token if stored else ""))

    def restart_image(self, key: ImageKey, from_step: int, request: PictureRequest | None = None) -> JobId:
        """As `restart`, of one image alone whose steps are kept in the step store, from whatever job. Reads a file.

        BadRequest when its steps are not kept (any more), StorageProblem when they are damaged.
        """
        if self._step_store is None:
            raise not_restartable("no steps are kept")
        kept, recording = self._step_store.recording(key)
        new = self._with_times_of(kept.request, request)
        replay = replay_of(recording, kept.request, from_step, new)
        return self._submit_replay(new, replay, RestartPoint(from_step, key.token, key.index))

    def _with_times_of(self, made: PictureRequest, request: PictureRequest | None) -> PictureRequest:
        """The request of a restart. If it leaves the times of fitted steps to the job, it gets those of the job that ran."""
        if request is None:
            return made
        if request.spacing is not SpacingName.FITTED or request.times:
            return request
        if made.spacing is SpacingName.FITTED:
            return replace(request, times=made.times)
        return with_fitted_times(request, self._library.find(made.checkpoint))[0] if made.checkpoint else request

    def _submit_replay(self, request: PictureRequest, replay: Replay, restart: RestartPoint) -> JobId:
        with self._changed:
            again = self._queue.submit(request, restart)
            self.waiting.replays[again] = replay
            self.live.put_off()
            self._changed.notify_all()
        return again

    def close(self) -> None:
        """End the thread within one network call. An unfinished job stays in the queue for the next start."""
        with self._changed:
            self._closing = True
            running = self._running
            self.live.close()
            self._changed.notify_all()
        if running is not None:
            running.job_control.stop()
        for thread in (self._thread, self._cleanup):
            if thread.is_alive():
                thread.join()
        self._queue.close()

    def _control(self, job: JobId, action: Callable[[JobControl], None]) -> bool:
        """Apply an action to the running job. False if this job is not the one."""
        with self._changed:
            running = self._running
        if running is None or running.job != job:
            return False
        action(running.job_control)
        return True

    def _record(self, job: JobId) -> RunningJob | None:
        for record in (self._running, self._last):
            if record is not None and record.job == job:
                return record
        return None

    def _clean_up(self) -> None:
        """Delete part files left behind when the program or a training run was killed."""
        remove_part_files(self.settings.written_folders, cancelled=lambda: self._closing)

    # The thread

    def _run(self) -> None:
        while (queued := self._next_job()) is not None:
            self._run_job(queued)
        self._loader.clear()

    def _next_job(self) -> QueuedJob | None:
        """Wait for a job, and run live tasks and warm up meanwhile; None when the worker is closed."""
        while True:
            with self._changed:
                if self._closing:
                    return None
                queued = self._take()
                if queued is not None:
                    return queued
                live = self.live.may_run()
                warm_up_now = self._warm_up_at is not None and time.monotonic() >= self._warm_up_at
                if not (live or warm_up_now):
                    timeouts = [self._retry_seconds] if self._retry_seconds is not None else []
                    if self._warm_up_at is not None:
                        timeouts.append(max(0.0, self._warm_up_at - time.monotonic()))
                    self._changed.wait(min(timeouts, default=None))
                    continue
                if not live:
                    checkpoint, self._warm_up, self._warm_up_at = self._warm_up, None, None
            if live:
                self._run_live()
            else:
                self._do_warm_up(checkpoint)

    def _take(self) -> QueuedJob | None:
        try:
            queued = self._queue.take()
        except StorageProblem:
            _log.exception("The queue cannot be read")
            self._retry_seconds = _QUEUE_RETRY_SECONDS
            return None
        self._retry_seconds = None
        if queued is not None:
            self._running = self._last = RunningJob(queued.job, queued.request, self._job_control(queued), queued.token)
        return queued

    def _job_control(self, queued: QueuedJob) -> JobControl:
        """A paused job releases the accelerator, so that training can go on meanwhile. It stays paused after a kill."""
        job, leased = queued.job, False

        def on_pause() -> None:
            nonlocal leased
            leased = self._runner.holds_lease()
            self._runner.release_lease()
            self._record_paused(job, True)
            self._emit(Paused(job))

        def on_resume() -> None:
            if leased:
                self._runner.acquire_lease(job, job_control)
            self._record_paused(job, False)
            self._emit(Resumed(job))

        job_control = JobControl(on_pause, on_resume)
        if queued.paused:
            job_control.pause()
        return job_control

    def _record_paused(self, job: JobId, paused: bool) -> None:
        with contextlib.suppress(StorageProblem):  # at worst the job is not paused after a crash
            self._queue.set_paused(job, paused)

    def _run_job(self, queued: QueuedJob) -> None:
        running = self._running
        assert running is not None
        self._emit(Started(queued.job, queued.request))
        ending: Event | None = None
        try:
            if queued.attempts >= _MOST_ATTEMPTS:
                raise OutOfMemory(
                    f"The program was killed {_MOST_ATTEMPTS} times during this job",
                    "possibly because memory ran out",
                    "Generate fewer or smaller images",
                )
            ending = self._runner.run(queued, running)
        except Interrupted:
            ending = Cancelled(queued.job)
        except DiffstudioError as error:
            ending = Failed(queued.job, error)
        except Exception as error:  # noqa: BLE001 - the top of the thread: the error is shown, and the next job runs
            _log.exception("Job %s failed", queued.job)
            ending = Failed(queued.job, _unexpected(error))
        finally:
            self._runner.release_lease()
        with self._changed:
            self._running = None
            put_back = self._closing and isinstance(ending, Cancelled)
        self.waiting.replays.pop(queued.job, None)
        with contextlib.suppress(StorageProblem):
            if put_back:
                self._queue.put_back(queued.job)
            else:
                self._queue.remove(queued.job)
        self._emit(ending)

    def _run_live(self) -> None:
        """Run the live task that waits, on the accelerator."""

        def load(checkpoint: str, cancelled: Callable[[], bool]) -> Model:
            model = self._loader.load(self._library.find(checkpoint), self.settings, cancelled, _ignore_progress)
            self._runner.lease_for_live_task(cancelled)
            return model

        try:
            self.live.run(load)
        finally:
            self._runner.release_lease()

    def _do_warm_up(self, checkpoint: str | None) -> None:
        """Failures are only logged: the job that needs the model will report them."""
        try:
            import diffstudio.studio.generation.generate  # noqa: F401

            if checkpoint:
                found = self._library.find(checkpoint)
                self._loader.load(found, self.settings, lambda: self._closing, _ignore_progress)
        except Interrupted:
            _log.info("Warming up was interrupted")
        except Exception:  # noqa: BLE001 - nothing may end the thread that runs the jobs
            _log.info("Warming up failed", exc_info=True)


def _ignore_progress(title: str, fraction: float | None) -> None:
    """For loading in advance, whose progress is not shown."""


def _unexpected(error: Exception) -> DiffstudioError:
    if isinstance(error, MemoryError):
        return OutOfMemory(
            "There was not enough memory", remedy="Close other programs, or generate fewer or smaller images"
        )
    message = (str(error).splitlines() or [""])[0][:300]
    return DiffstudioError(
        "The image could not be generated",
        f"{type(error).__name__}: {message}" if message else type(error).__name__,
        "Try again; if it keeps failing, use another checkpoint or sampler. The log has the details",
    )

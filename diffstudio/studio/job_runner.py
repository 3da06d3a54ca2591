"""JobRunner: runs one job of the queue, from its files to its images.

It holds the lease on the accelerator while the job computes. torch is imported here with the first job.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from diffstudio.errors import StorageProblem
from diffstudio.models.library.library import Library
from diffstudio.models.memory.lease import Lease
from diffstudio.studio.events import ENDINGS, Event, Finished, ImageSaved, JobId, Loading, Noted
from diffstudio.studio.fitted_spacing import with_fitted_times
from diffstudio.studio.generation.model_loader import ModelLoader
from diffstudio.studio.generation.resolve import Resolved, resolve
from diffstudio.studio.jobs.image_steps import steps_of
from diffstudio.studio.jobs.job_context import JobContext, JobStore
from diffstudio.studio.jobs.job_control import JobControl
from diffstudio.studio.jobs.job_records import QueuedJob
from diffstudio.studio.jobs.queue import Queue
from diffstudio.studio.jobs.recording import Recording, Replay
from diffstudio.studio.jobs.restart_from_step import stored_replay
from diffstudio.studio.jobs.step_store import StepStore
from diffstudio.studio.metadata.image_key import ImageKey
from diffstudio.studio.requests import PictureRequest, UpscaleRequest
from diffstudio.studio.settings import Settings

if TYPE_CHECKING:
    from diffstudio.models.model import Model


@dataclass(slots=True)
class RunningJob:
    """The job that runs, or ran last, with the steps that it recorded."""

    job: JobId
    request: PictureRequest
    job_control: JobControl
    token: str = ""
    recording: Recording = field(default_factory=Recording)


class JobRunner:
    """Runs jobs one at a time, in the worker's thread. `settings` returns those that hold now."""

    def __init__(
        self,
        queue: Queue,
        library: Library,
        gallery: JobStore,
        loader: ModelLoader,
        settings: Callable[[], Settings],
        emit: Callable[[Event], None],
        replays: Mapping[JobId, Replay],
        lease: Lease | None,
        step_store: StepStore | None,
    ) -> None:
        self._queue, self._library, self._gallery, self._loader = queue, library, gallery, loader
        self._settings, self._emit, self._replays = settings, emit, replays
        self._lease, self._step_store = lease, step_store

    def holds_lease(self) -> bool:
        """Whether the accelerator is leased."""
        return self._lease is not None and self._lease.is_held

    def run(self, queued: QueuedJob, running: RunningJob) -> Event:
        """Emit all events of a job between its first and its last; returns the last."""
        job = queued.job
        for event in self._events(queued, running):
            if isinstance(event, ENDINGS):
                return event
            if isinstance(event, ImageSaved):
                self._keep_steps(queued, running, event.index)
                with contextlib.suppress(StorageProblem):  # at worst the image is made twice after a crash
                    self._queue.saved(job, event.index + 1)
            self._emit(event)
        raise RuntimeError("the job ended without Finished, Cancelled or Failed")

    def _keep_steps(self, queued: QueuedJob, running: RunningJob, index: int) -> None:
        if self._step_store is not None and queued.token:
            steps = steps_of(running.recording, running.request, index)
            if steps is not None:
                self._step_store.put(ImageKey(queued.token, index), steps)

    def _events(self, queued: QueuedJob, running: RunningJob) -> Iterator[Event]:
        """Find the files of a job, load its model, and run it. The accelerator is leased once the model is loaded."""
        job, job_control, request = queued.job, running.job_control, queued.request
        job_control.check()  # it may have been paused when the program ended
        done = self._done(queued)
        if done >= request.count:
            yield Finished(job, 0.0)
            return
        resolved = resolve(request, self._library, done)
        request, note = with_fitted_times(request, resolved.checkpoint)
        running.request = request  # what is recorded, with the times of its steps
        if note:
            yield Noted(job, note)
        context = JobContext(
            job,
            self._gallery,
            job_control,
            self._settings().previews,
            done,
            running.recording,
            self._replay(queued, request),
            self._loader.drop_others,
            queued.token,
        )
        model, weak = self._prepared_models(resolved, context)
        if model is not None or resolved.upscaler is not None:
            self.acquire_lease(job, job_control)
        if isinstance(request, UpscaleRequest):
            from diffstudio.models.memory.devices import choose_device
            from diffstudio.studio.generation.upscale import upscale

            yield from upscale(request, model, resolved, context, choose_device(self._settings().device))
        else:
            from diffstudio.studio.generation.generate import generate

            assert model is not None
            yield from generate(request, model, resolved, context, weak)

    def _replay(self, queued: QueuedJob, request: PictureRequest) -> Replay | None:
        """The replay of a job that restarts another one; it is read again where the program has ended since."""
        replay = self._replays.get(queued.job)
        if replay is None and queued.restart is not None:
            replay = stored_replay(queued.restart, request, self._step_store)
        return replay

    def _done(self, queued: QueuedJob) -> int:
        """How many images of a job are saved. A crash may have come after the last was saved and before it was counted."""
        if queued.token and (queued.done or queued.attempts):
            return max(queued.done, self._gallery.saved_images(queued.token))
        return queued.done

    def _prepared_models(self, resolved: Resolved, context: JobContext) -> tuple[Model | None, Model | None]:
        """The job's model, compiled if the settings say so, and the weaker model for autoguidance.

        The first is None for an upscaler alone, the second without autoguidance.
        """

        def on_progress(title: str, fraction: float | None) -> None:
            self._emit(Loading(context.job, title, fraction))

        settings, stopped = self._settings(), context.job_control.stopped
        model = self._loader.model_for(resolved, settings, stopped, on_progress)
        if model is None:
            return None, None
        self._emit_load_notes(context.job, model)
        self._compile(context.job, model)
        weak = self._loader.weak_model_for(resolved, model, settings, stopped, on_progress)
        if weak is not None:
            self._emit_load_notes(context.job, weak)
        return model, weak

    def _emit_load_notes(self, job: JobId, model: Model) -> None:
        """Report once which text encoders and VAE came from elsewhere."""
        for note in model.load_notes:
            self._emit(Noted(job, note))
        model.load_notes = ()

    def _compile(self, job: JobId, model: Model) -> None:
        from diffstudio.models.compile import compile_network

        if note := compile_network(model, self._settings().compiled):
            self._emit(Noted(job, note))

    def acquire_lease(self, job: JobId, job_control: JobControl) -> None:
        def on_wait() -> None:
            self._emit(Loading(job, "Waiting for training to release the accelerator"))

        self._acquire("generating images", job_control.stopped, on_wait)

    def lease_for_live_task(self, cancelled: Callable[[], bool]) -> None:
        """Interrupted when it is cancelled while it waits."""
        self._acquire("computing what the Lab shows", cancelled, lambda: None)

    def _acquire(self, by: str, cancelled: Callable[[], bool], on_wait: Callable[[], None]) -> None:
        if self._lease is None:
            self._lease = Lease()
        self._lease.acquire(by, cancelled, priority=True, on_wait=on_wait)

    def release_lease(self) -> None:
        if self._lease is not None:
            self._lease.release()

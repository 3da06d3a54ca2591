"""Worker: one thread, one queue, holder of the accelerator's lease. It alone has models in memory.

Imports torch inside its thread, with the first job or when told to warm up; no Qt anywhere.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import psutil

from diffstudio.atomic import remove_part_files
from diffstudio.errors import BadRequest, DiffstudioError, Interrupted, OutOfMemory, StorageProblem
from diffstudio.models.library.library import Library
from diffstudio.models.library.lookup import find_vae
from diffstudio.models.memory.lease import Lease
from diffstudio.models.memory.model_cache import ModelCache
from diffstudio.studio.events import (
    ENDINGS,
    Cancelled,
    Event,
    Failed,
    ImageSaved,
    JobId,
    Loading,
    Noted,
    Paused,
    Picture,
    Resumed,
    Started,
)
from diffstudio.studio.generation.controlnets import RequestControlNets
from diffstudio.studio.generation.loras import RequestLoras
from diffstudio.studio.generation.upscaler_lookup import find_upscaler
from diffstudio.studio.jobs.device_guess import seems_accelerated
from diffstudio.studio.jobs.job_control import JobControl
from diffstudio.studio.jobs.memory_forecast import Machine
from diffstudio.studio.jobs.queue import Queue, QueuedJob
from diffstudio.studio.jobs.recording import Recording, Replay
from diffstudio.studio.prompts.wildcards import Wording
from diffstudio.studio.requests import LANCZOS, PictureRequest, UpscaleRequest
from diffstudio.studio.settings import Settings

if TYPE_CHECKING:
    from diffstudio.models.checkpoint import Checkpoint
    from diffstudio.models.model import Model
    from diffstudio.studio.generation.generate import ImageStore

_MOST_ATTEMPTS = 3  # of a job during which the program was killed each time
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Running:
    job: JobId
    request: PictureRequest
    control: JobControl
    recording: Recording = field(default_factory=Recording)


class Worker:
    """Makes what the queue asks for, one job at a time, and says so through `emit`, from its own thread or the caller's.

    All methods may be called from any thread. `close` must be called in the end.
    """

    def __init__(
        self,
        queue: Queue,
        library: Library,
        gallery: ImageStore,
        settings: Settings,
        emit: Callable[[Event], None],
        *,
        lease: Lease | None = None,
    ) -> None:
        self._queue, self._library, self._gallery, self._emit = queue, library, gallery, emit
        self.settings = settings  # may be replaced at any time: the next job reads it
        self._lease = lease
        self._changed = threading.Condition()
        self._running: _Running | None = None
        self._last: _Running | None = None  # the newest job that was begun, for its filmstrip and restarts
        self._replays: dict[JobId, Replay] = {}
        self._closing = False
        self._warm_up: str | None = None  # a checkpoint's name to have ready; "" for torch alone
        self._kept = ModelCache()
        self._thread = threading.Thread(target=self._work, name="diffstudio-worker", daemon=True)
        self._cleanup = threading.Thread(target=self._clean_up, name="diffstudio-cleanup", daemon=True)
        self._warm_up_at: float | None = None
        self._usual_threads = 0  # what torch chose for itself, once it is loaded
        self._kept_bytes = 0  # what the models in memory take

    # What a person asks

    def start(self, delay: float | None = None) -> None:
        """Begin with what the queue holds. After `delay` seconds without work the heavy imports are done ahead of it."""
        self._warm_up_at = None if delay is None else time.monotonic() + delay
        self._thread.start()
        self._cleanup.start()

    def warm_up(self, checkpoint: str = "") -> None:
        """Do the heavy imports now, and have this checkpoint ready, unless there is work already."""
        with self._changed:
            self._warm_up, self._warm_up_at = checkpoint, time.monotonic()
            self._changed.notify_all()

    def submit(self, request: PictureRequest) -> JobId:
        """Put it behind the others. StorageProblem when the queue cannot be written."""
        with self._changed:
            job = self._queue.submit(request)
            self._changed.notify_all()
        return job

    def pending(self) -> list[QueuedJob]:
        return self._queue.pending()

    def running(self) -> JobId | None:
        running = self._running
        return running.job if running is not None else None

    def machine(self) -> Machine | None:
        """What the next job is computed on. None as long as that is not known: an accelerator's memory is once torch is loaded."""
        if self._usual_threads:
            from diffstudio.models.memory import devices

            try:
                device = devices.choose_device(self.settings.device)
            except BadRequest:
                return None  # the job will say so
            return Machine(device.type, devices.device_bytes(device), devices.free_bytes(device) + self._kept_bytes)
        if self.settings.device == "cpu" or self.settings.device == "auto" and not seems_accelerated():
            about = psutil.virtual_memory()
            return Machine("cpu", int(about.total), int(about.available))
        return None

    def reorder(self, jobs: list[JobId]) -> None:
        self._queue.reorder(jobs)

    def stop(self, job: JobId) -> None:
        """End a job after the network call in flight, or take it out of the queue; Cancelled follows."""
        if not self._tell(job, JobControl.stop) and not self.cancel_pending(job):
            self._tell(job, JobControl.stop)  # it was begun just now

    def pause(self, job: JobId) -> None:
        """Pause the running job after the network call in flight; Paused follows. The accelerator is free meanwhile."""
        self._tell(job, JobControl.pause)

    def resume(self, job: JobId) -> None:
        self._tell(job, JobControl.resume)

    def cancel_pending(self, job: JobId) -> bool:
        """Take a job that waits out of the queue; Cancelled follows. False when it does not wait there."""
        removed = self._queue.remove_pending(job)
        if removed:
            self._replays.pop(job, None)
            self._emit(Cancelled(job))
        return removed

    def filmstrip(self, job: JobId) -> list[tuple[Picture, ...]]:
        """The previews of each step of the running or the last job, one for each image; none where there was no room for them."""
        record = self._record(job)
        return record.recording.film.steps() if record is not None else []

    def restart(self, job: JobId, from_step: int, request: PictureRequest | None = None) -> JobId:
        """Make the last job again from a step on: what its earlier steps estimated is told again, then the network goes on.

        `request` may change what the remaining steps are told (prompt, negative prompt, guidance), and the checkpoint.
        BadRequest when the job is not the last one, or what it did is no longer at hand.
        """
        record = self._record(job)
        if record is None or not record.recording.batches:
            raise BadRequest(
                "That picture cannot be taken up again", "only the newest job's steps are kept", "Make it once more"
            )
        if not record.recording.complete:
            raise BadRequest(
                "That job cannot be taken up again",
                "it was too large for its steps to be kept",
                "Make it once more with fewer images",
            )
        first_batch = record.recording.batches[0]
        steps = min(len(first_batch.calls_after) + 1, first_batch.steps)
        if not 1 <= from_step <= steps:
            raise BadRequest(f"The job cannot be taken up at step {from_step}", f"its steps go from 1 to {steps}")
        wanted = request if request is not None else record.request
        told = replace(wanted, prompt="", negative="", guidance=1.0, checkpoint="")
        if told != replace(record.request, prompt="", negative="", guidance=1.0, checkpoint=""):
            raise BadRequest(
                "The job cannot be taken up with other settings",
                "only the prompts, the guidance and the checkpoint may differ",
                "Make it once more",
            )
        with self._changed:
            again = self._queue.submit(wanted)
            self._replays[again] = Replay(record.recording, from_step)
            self._changed.notify_all()
        return again

    def close(self) -> None:
        """End the thread within one network call. A job in the middle stays in the queue for the next start."""
        with self._changed:
            self._closing = True
            running = self._running
            self._changed.notify_all()
        if running is not None:
            running.control.stop()
        for thread in (self._thread, self._cleanup):
            if thread.is_alive():
                thread.join()
        self._queue.close()

    def _tell(self, job: JobId, what: Callable[[JobControl], None]) -> bool:
        with self._changed:
            running = self._running
        if running is None or running.job != job:
            return False
        what(running.control)
        return True

    def _record(self, job: JobId) -> _Running | None:
        for record in (self._running, self._last):
            if record is not None and record.job == job:
                return record
        return None

    def _clean_up(self) -> None:
        """Delete what was half-written when the program or a training run was killed."""
        remove_part_files(self.settings.written_folders, cancelled=lambda: self._closing)

    # The thread

    def _work(self) -> None:
        while (queued := self._next()) is not None:
            self._do(queued)
        self._kept.clear()

    def _next(self) -> QueuedJob | None:
        """Wait for a job; None when it is time to end. Warms up while there is none."""
        while True:
            with self._changed:
                if self._closing:
                    return None
                queued = self._take()
                if queued is not None:
                    return queued
                warm_up_now = self._warm_up_at is not None and time.monotonic() >= self._warm_up_at
                if not warm_up_now:
                    left = None if self._warm_up_at is None else max(0.0, self._warm_up_at - time.monotonic())
                    self._changed.wait(left)
                    continue
                checkpoint, self._warm_up, self._warm_up_at = self._warm_up, None, None
            self._get_ready(checkpoint)

    def _take(self) -> QueuedJob | None:
        try:
            queued = self._queue.take()
        except StorageProblem:
            _log.exception("The queue cannot be read")
            return None
        if queued is not None:
            self._running = self._last = _Running(queued.job, queued.request, self._control(queued.job))
        return queued

    def _control(self, job: JobId) -> JobControl:
        """Whoever pauses lets go of the accelerator, so that training goes on meanwhile."""

        def on_pause() -> None:
            self._let_go()
            self._emit(Paused(job))

        def on_resume() -> None:
            self._hold(job, control)
            self._emit(Resumed(job))

        control = JobControl(on_pause, on_resume)
        return control

    def _do(self, queued: QueuedJob) -> None:
        running = self._running
        assert running is not None
        self._emit(Started(queued.job, queued.request))
        ending: Event | None = None
        try:
            if queued.attempts >= _MOST_ATTEMPTS:
                raise OutOfMemory(
                    f"The program ended {_MOST_ATTEMPTS} times while it worked on this",
                    "perhaps for want of memory",
                    "Ask for fewer or smaller images",
                )
            ending = self._make(queued, running)
        except Interrupted:
            ending = Cancelled(queued.job)
        except DiffstudioError as error:
            ending = Failed(queued.job, error)
        except Exception as error:  # noqa: BLE001 - the thread's roof: a person hears of it, and the next job is done
            _log.exception("Job %s failed", queued.job)
            ending = Failed(queued.job, _unexpected(error))
        finally:
            self._let_go()
        with self._changed:
            self._running = None
            put_back = self._closing and isinstance(ending, Cancelled)
        self._replays.pop(queued.job, None)
        with contextlib.suppress(StorageProblem):
            if put_back:
                self._queue.put_back(queued.job)
            else:
                self._queue.remove(queued.job)
        self._emit(ending)

    def _make(self, queued: QueuedJob, running: _Running) -> Event:
        """All events of a job but its first and its last, which is returned."""
        job = queued.job
        for event in self._events(queued, running):
            if isinstance(event, ENDINGS):
                return event
            if isinstance(event, ImageSaved):
                with contextlib.suppress(StorageProblem):  # the image is safe; at worst it is made twice after a crash
                    self._queue.saved(job, event.index + 1)
            self._emit(event)
        raise RuntimeError("generating ended without an ending")

    def _events(self, queued: QueuedJob, running: _Running) -> Iterator[Event]:
        job, control, request = queued.job, running.control, queued.request
        if isinstance(request, UpscaleRequest):
            yield from self._upscaled(request, job, running)
            return
        checkpoint = self._library.find(request.checkpoint)
        told, loras = Wording(request, checkpoint).of(queued.done), RequestLoras(self._library, checkpoint)
        loras.look_up(
            loras.read(told.prompt)[1]
        )  # what cannot be drawn or is not there is said before anything is loaded
        if request.enlarge > 1:
            find_upscaler(request.upscaler, self._library)
        steering = RequestControlNets(request, self._library, checkpoint)
        steering.look_up()
        vae = find_vae(self._library, request.vae) if request.vae else None
        model = self._loaded(
            checkpoint, control.stopped, lambda what, fraction: self._emit(Loading(job, what, fraction)), vae
        )
        steering.load(
            model, lambda what, fraction: self._emit(Loading(job, what, fraction)), control.stopped, self._room_beside
        )
        self._kept_bytes = self._kept.weights_bytes()
        self._say_with_what(job, model)
        self._compile(job, model)
        self._hold(job, control)
        from diffstudio.studio.generation.generate import generate

        yield from generate(
            request,
            model,
            job,
            self._gallery,
            control,
            previews=self.settings.previews,
            done=queued.done,
            recording=running.recording,
            replay=self._replays.get(job),
            library=self._library,
            drop_others=self._kept.drop_others,
        )

    def _upscaled(self, request: UpscaleRequest, job: JobId, running: _Running) -> Iterator[Event]:
        """A checkpoint is loaded only where one is named, and the accelerator held only where something computes on it."""
        control, model = running.control, None
        find_upscaler(request.upscaler, self._library)
        if request.checkpoint:
            checkpoint = self._library.find(request.checkpoint)
            vae = find_vae(self._library, request.vae) if request.vae else None
            model = self._loaded(
                checkpoint, control.stopped, lambda what, fraction: self._emit(Loading(job, what, fraction)), vae
            )
            self._say_with_what(job, model)
            self._compile(job, model)
        if request.checkpoint or request.upscaler != LANCZOS:
            self._hold(job, control)
        from diffstudio.models.memory import devices
        from diffstudio.studio.generation.upscale import upscale

        yield from upscale(
            request,
            model,
            job,
            self._gallery,
            control,
            device=devices.choose_device(self.settings.device),
            previews=self.settings.previews,
            recording=running.recording,
            replay=self._replays.get(job),
            library=self._library,
            drop_others=self._kept.drop_others,
        )

    def _say_with_what(self, job: JobId, model: Any) -> None:
        """Once: which text encoders and autoencoder came from elsewhere."""
        for note in getattr(model, "loaded_with", ()):
            self._emit(Noted(job, note))
        model.loaded_with = ()

    def _compile(self, job: JobId, model: Model) -> None:
        from diffstudio.models.compile import compile_network

        if note := compile_network(model, self.settings.compiled):
            self._emit(Noted(job, note))

    def _room_beside(self, model: Model, wanted_bytes: int) -> bool:
        """For a ControlNet; the models not used for longest go first."""
        from diffstudio.models.memory import devices

        room = self._kept.make_room_beside(
            model, wanted_bytes, devices.budget_bytes(model.device, self.settings.kept_gib)
        )
        devices.free_unused()
        return room

    def _hold(self, job: JobId, control: JobControl) -> None:
        if self._lease is None:
            self._lease = Lease()
        self._lease.acquire(
            "making pictures",
            control.stopped,
            pictures=True,
            on_wait=lambda: self._emit(Loading(job, "Waiting for training to step aside")),
        )

    def _let_go(self) -> None:
        if self._lease is not None:
            self._lease.release()

    def _get_ready(self, checkpoint: str | None) -> None:
        """Nobody waits for this, so nobody is told when it fails: the job that needs it will say why."""
        try:
            import diffstudio.studio.generation.generate  # noqa: F401

            if checkpoint:
                self._loaded(self._library.find(checkpoint), lambda: self._closing, _said_to_nobody)
        except Interrupted:
            _log.info("Warming up was interrupted")
        except (DiffstudioError, ImportError, OSError, RuntimeError):
            _log.info("Warming up failed", exc_info=True)

    def _loaded(
        self,
        checkpoint: Checkpoint,
        cancelled: Callable[[], bool],
        say: Callable[[str, float | None], None],
        vae: Checkpoint | None = None,
    ) -> Model:
        """The model of this checkpoint: the one in memory if the files are the same, else others make room for it first."""
        import sys

        if "torch" not in sys.modules:
            say("Starting the engine", None)
        import torch

        from diffstudio.models import loading
        from diffstudio.models.memory import devices, offload

        if cancelled():
            raise Interrupted("Stopped while loading")
        self._usual_threads = self._usual_threads or torch.get_num_threads()
        torch.set_num_threads(self.settings.threads or self._usual_threads)
        device = devices.choose_device(self.settings.device)
        budget = devices.budget_bytes(device, self.settings.kept_gib)
        kept = self._kept.get(checkpoint, device, vae)
        if kept is not None:
            self._kept.keep_within(budget)
            return kept
        dtype = devices.choose_dtype(device, checkpoint.parameters)
        self._kept.make_room(checkpoint.parameters * dtype.itemsize, budget)
        devices.free_unused()
        what = f"Loading {checkpoint.title or checkpoint.name}"

        def load(place: torch.device) -> Model:
            return loading.load(
                checkpoint,
                place,
                dtype,
                lambda fraction: say(what, fraction),
                cancelled,
                library=self._library,
                vae=vae,
            )

        model, how = offload.load_within(load, device, checkpoint.parameters * dtype.itemsize)
        model.loaded_with = (*getattr(model, "loaded_with", ()), *([how] if how else []))  # type: ignore[attr-defined]
        self._kept.put(model)
        self._kept_bytes = self._kept.weights_bytes()
        return model


def _said_to_nobody(what: str, fraction: float | None) -> None:
    """Progress that no job waits for."""


def _unexpected(error: Exception) -> DiffstudioError:
    if isinstance(error, MemoryError):
        return OutOfMemory(
            "There was not enough memory", remedy="Close other programs, or ask for fewer or smaller images"
        )
    said = (str(error).splitlines() or [""])[0][:300]
    return DiffstudioError(
        "The picture could not be made",
        f"{type(error).__name__}: {said}" if said else type(error).__name__,
        "Try again, with another checkpoint or sampler if it stays; the log holds the details",
    )

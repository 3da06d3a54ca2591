"""What a person does with the waiting jobs: duplicate, edit, remove, clear, bring back, and pause the queue. No torch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from diffstudio.studio.events import Cancelled, Event, JobId
from diffstudio.studio.jobs.job_records import QueuedJob, RemovedJob
from diffstudio.studio.jobs.queue import Queue
from diffstudio.studio.jobs.recording import Replay
from diffstudio.studio.jobs.restart_from_step import settings_before_restart
from diffstudio.studio.requests import PictureRequest


@dataclass(frozen=True, slots=True)
class RemovedJobs:
    """Jobs that were removed together, in order; `WaitingJobs.restore` puts them back."""

    jobs: Sequence[RemovedJob]
    replays: dict[JobId, Replay]  # of those that restart an earlier job whose steps are not in the step store

    def with_requests(self, change: Callable[[PictureRequest], PictureRequest]) -> RemovedJobs:
        """The same jobs with changed requests, as after a model was renamed."""
        return replace(self, jobs=[each.with_request(change) for each in self.jobs])


class WaitingJobs:
    """The waiting jobs of a worker. `changed` is notified when it may have something to do. Thread-safe.

    StorageProblem from any method when the queue cannot be read or written.
    """

    def __init__(self, queue: Queue, changed: threading.Condition, emit: Callable[[Event], None]) -> None:
        self._queue, self._changed, self._emit = queue, changed, emit
        self.replays: dict[JobId, Replay] = {}  # of jobs that restart an earlier one from a step

    def duplicate(self, job: JobId) -> JobId | None:
        """Add a copy of a waiting job right behind it. None when it is not waiting."""
        with self._changed:
            copy = self._queue.duplicate(job)
            if copy is not None and job in self.replays:
                self.replays[copy] = self.replays[job]
            self._changed.notify_all()
        return copy

    def begin_edit(self, job: JobId) -> PictureRequest | None:
        """What a waiting job makes; it is held back until `end_edit`, while others go on. None when it is not waiting."""
        with self._changed:
            queued = self._waiting(job)
            self._queue.held_back = job if queued is not None else None
            self._changed.notify_all()
        return queued.request if queued is not None else None

    def end_edit(self, request: PictureRequest | None) -> bool:
        """Let the job that was held back wait as the others do, with another request unless that is None.

        False when the job was removed meanwhile, and keeps its request.
        """
        with self._changed:
            job = self._queue.held_back
            waits = job is not None and (request is None or self._replace(job, request))
            self._queue.held_back = None  # not before the request is written: it stays held back when that fails
            self._changed.notify_all()
        return waits

    def _replace(self, job: JobId, request: PictureRequest) -> bool:
        before = self._waiting(job)
        if before is None:
            return False
        restarts = settings_before_restart(before.request) == settings_before_restart(request)
        replaced = self._queue.replace_request(job, request, before.restart if restarts else None)
        if not restarts:
            self.replays.pop(job, None)  # the recorded steps are not those of this request
        return replaced

    def _waiting(self, job: JobId) -> QueuedJob | None:
        return next((queued for queued in self._queue.pending() if queued.job == job), None)

    def remove(self, job: JobId) -> RemovedJobs | None:
        """Remove a waiting job; Cancelled follows. None when it is not waiting."""
        removed = self._queue.remove_pending(job)
        return self._cancelled([removed]) if removed is not None else None

    def clear(self) -> RemovedJobs:
        """Remove every waiting job; Cancelled follows for each."""
        return self._cancelled(self._queue.clear_pending())

    def _cancelled(self, removed: Sequence[RemovedJob]) -> RemovedJobs:
        replays = {each.job: self.replays.pop(each.job) for each in removed if each.job in self.replays}
        stored = [each.job for each in removed if each.restart is not None and each.restart.token]
        for job in stored:
            replays.pop(job, None)  # it is read from the step store again
        for each in removed:
            self._emit(Cancelled(each.job))
        return RemovedJobs(removed, replays)

    def restore(self, removed: RemovedJobs) -> None:
        """Put removed jobs back, each behind the job that it followed."""
        with self._changed:
            self._queue.restore(removed.jobs)
            self.replays |= removed.replays
            self._changed.notify_all()

    def is_queue_paused(self) -> bool:
        return self._queue.is_queue_paused()

    def set_queue_paused(self, paused: bool) -> None:
        """Start no further job, or go on with the queue; kept over a restart. The running job is not affected."""
        with self._changed:
            self._queue.set_queue_paused(paused)
            self._changed.notify_all()

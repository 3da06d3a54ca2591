"""LabJobs: starts the jobs of the Lab, each in a process and folder of its own, lists them and reports their status.

A job outlives the window that started it, so all its state is in its folder: see `job_folder`. No torch.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from diffstudio.atomic import make_folder
from diffstudio.errors import DiffstudioError, RunProblem, StorageProblem
from diffstudio.storage_errors import storage_errors
from diffstudio.studio.evaluations.job_folder import (
    EVENTS,
    LOCK,
    JobEvent,
    JobFailed,
    JobFinished,
    JobFolder,
    JobPaused,
    JobProgress,
    JobRequest,
    JobResumed,
    JobStarted,
    JobStopped,
    JobWaiting,
    is_job,
)
from diffstudio.studio.runs.process import LOCK as PROCESS_LOCK
from diffstudio.studio.runs.process import (
    Detached,
    Launch,
    is_locked,
    read_launch,
    start_detached,
    terminate,
    write_launch,
)
from diffstudio.studio.runs.runs import file_name
from diffstudio.studio.runs.status import log_tail, size_of
from diffstudio.studio.system_trash import move_to_system_trash
from diffstudio.training.run.run_folder import Command, RunFolder


class JobStatus(StrEnum):
    """The status of a job, from its last events and whether its process is alive."""

    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"  # for the accelerator, or for its turn
    PAUSED = "paused"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"  # its process ended without an event: it was killed, or the machine crashed


ALIVE = frozenset({JobStatus.STARTING, JobStatus.RUNNING, JobStatus.WAITING, JobStatus.PAUSED})

_END_SECONDS = 10.0  # for a process that is to end


@dataclass(frozen=True, slots=True)
class JobSummary:
    """A job's state for display."""

    job: JobFolder
    request: JobRequest
    status: JobStatus
    what: str = ""  # current or last work
    done: int = 0
    total: int = 0  # 0: unknown
    holder: str = ""  # what holds the accelerator while the job waits
    outcome: str = ""  # a sentence about how it ended; for a finished job, what could not be measured
    result: str = ""  # the file name of the result, once it exists
    pid: int | None = None
    stopping: bool = False  # a stop was requested, but it has not ended yet

    @property
    def name(self) -> str:
        return self.request.name or self.job.path.name

    @property
    def alive(self) -> bool:
        return self.status in ALIVE

    @property
    def fraction(self) -> float | None:
        """The completed share of the current work, 0 to 1; None if unknown."""
        return min(1.0, self.done / self.total) if self.total > 0 else None


@dataclass(slots=True)
class _Progress:
    """The state of a job according to its events so far."""

    offset: int = 0
    status: JobStatus = JobStatus.STARTING
    what: str = ""
    done: int = 0
    total: int = 0
    holder: str = ""
    outcome: str = ""
    result: str = ""
    pid: int | None = None
    worked: bool = False  # its process has done something that would be lost

    def read(self, job: JobFolder) -> None:
        if size_of(job.path / EVENTS) < self.offset:  # another job in the same folder
            self.__init__()  # type: ignore[misc]
        events, self.offset = job.events(self.offset)
        for event in events:
            self._take(event)

    def _take(self, event: JobEvent) -> None:
        match event:
            case JobStarted(pid):
                self.status, self.pid, self.outcome, self.result = JobStatus.RUNNING, pid, "", ""
                self.what, self.done, self.total, self.worked = "", 0, 0, False
            case JobProgress(what, done, total):
                self.status, self.what, self.done, self.total = JobStatus.RUNNING, what, done, total
                self.worked = self.worked or done > 0
            case JobWaiting(holder):
                self.status, self.holder = JobStatus.WAITING, holder
            case JobPaused():
                self.status = JobStatus.PAUSED
            case JobResumed():
                self.status = JobStatus.RUNNING
            case JobFinished(result, problem):
                self.status, self.result, self.outcome = JobStatus.FINISHED, result, problem
            case JobFailed():
                self.status, self.outcome = JobStatus.FAILED, event.sentence()
            case JobStopped():
                self.status, self.outcome = JobStatus.STOPPED, "Stopped before it had a result"


class LabJobs:
    """The jobs below one folder. All methods are thread-safe; they read only new events."""

    def __init__(self, folder: Path, *, command: Sequence[str] = (sys.executable, "-m", "diffstudio")) -> None:
        self.folder = folder
        self._command = tuple(command)
        self._progress: dict[Path, _Progress] = {}
        self._children: list[Detached] = []
        self._lock = threading.RLock()

    def start(self, verb: str, arguments: Sequence[str], name: str, *, working_folder: str = "") -> JobFolder:
        """Start a verb of the command line in a process and a folder of its own; `arguments` do not include `--out`.

        Relative paths among them are relative to `working_folder`, if it is given.
        StorageProblem if its folder cannot be created, RunProblem if the process cannot be started.
        """
        job = JobFolder(self._new_folder(f"{verb} {name}"))
        with self._lock:
            created = max([time.time(), *(one.request.created + 0.001 for one in self.list())])
            job.write_request(JobRequest(verb, tuple(arguments), name, created, working_folder))
            self._launch(job)
        return job

    def again(self, job: JobFolder) -> JobFolder:
        """Start a new job with the same request."""
        request = job.request()
        return self.start(
            request.verb, request.arguments, request.name or job.path.name, working_folder=request.working_folder
        )

    def list(self) -> list[JobSummary]:
        """All jobs in the folder, newest first. StorageProblem if it cannot be read."""
        with storage_errors(f"The Lab's folder {self.folder} cannot be read", self.folder):
            try:
                folders = [path for path in self.folder.iterdir() if is_job(path)]
            except FileNotFoundError:  # not created yet, or deleted
                return []
        with self._lock:
            self._children = [child for child in self._children if child.poll() is None]  # a zombie would seem alive
            summaries = [found for path in folders if (found := self.summary(JobFolder(path))) is not None]
        return sorted(summaries, key=lambda one: (-one.request.created, one.name))

    def summary(self, job: JobFolder) -> JobSummary | None:
        """The state of one job, from its events and its process; None if its request cannot be read."""
        try:
            request = job.request()
        except RunProblem:
            return None
        with self._lock:
            progress = self._progress.setdefault(job.path, _Progress())
            progress.read(job)
            launch = read_launch(job.path)
            status, outcome = _status_of(job, progress, launch, _is_running(job))
            return JobSummary(
                job,
                request,
                status,
                progress.what,
                progress.done,
                progress.total,
                progress.holder,
                outcome,
                progress.result if status is JobStatus.FINISHED else "",
                (launch.pid if launch is not None else progress.pid) if status in ALIVE else None,
                status in ALIVE and job.command() is Command.STOP,
            )

    def pause(self, job: JobFolder) -> None:
        """Pause the job at its next network call. Does nothing if it is not running."""
        self._send(job, Command.PAUSE)

    def resume(self, job: JobFolder) -> None:
        self._send(job, Command.RUN)

    def stop(self, job: JobFolder) -> None:
        """Stop the job at its next network call; a second call, or a call before it works, kills its process."""
        with self._lock:
            summary, launch = self.summary(job), read_launch(job.path)
            if summary is None or not summary.alive:
                return
            if summary.status is JobStatus.STARTING and launch is not None:
                write_launch(job.path, replace(launch, stopped=True))
            if (summary.status is JobStatus.STARTING or summary.stopping) and summary.pid is not None:
                terminate(summary.pid)
            job.send(Command.STOP)

    def rename(self, job: JobFolder, name: str) -> None:
        """Change the name of a job. RunProblem, StorageProblem."""
        job.write_request(replace(job.request(), name=name.strip()))

    def using(self, model: Path) -> Sequence[JobSummary]:
        """The jobs under way that name this file or folder. StorageProblem if they cannot be read."""
        return [one for one in self.list() if one.alive and one.request.after(model, model / "x") != one.request]

    def follow_renamed(self, old: Path, new: Path) -> None:
        """Put the new path of a model into the requests of all jobs that name it.

        A process that has not worked yet is started again with it; one that has may have the model open, and goes on.
        RunProblem, StorageProblem.
        """
        errors: list[DiffstudioError] = []
        with self._lock:
            for one in self.list():
                request = one.request.after(old, new)
                if request == one.request:
                    continue
                try:
                    one.job.write_request(request)
                    starts_again = one.status in (JobStatus.STARTING, JobStatus.WAITING) and not one.stopping
                    if starts_again and not self._progress[one.job.path].worked and one.pid is not None:
                        self._start_again(one.job, one.pid)
                except DiffstudioError as error:  # the others follow nevertheless
                    errors.append(error)
        if errors:
            raise errors[0]

    def _start_again(self, job: JobFolder, pid: int) -> None:
        """End a process that has not worked yet and start another one, unless it does not end."""
        terminate(pid)
        deadline = time.monotonic() + _END_SECONDS
        while _is_running(job) and time.monotonic() < deadline:
            time.sleep(0.02)
        if not _is_running(job):
            self._launch(job)

    def remove(self, job: JobFolder) -> None:
        """Move the job's folder to the system trash. RunProblem if it is running; StorageProblem."""
        with self._lock:
            summary = self.summary(job)
            if summary is not None and summary.alive:
                raise RunProblem(f"{summary.name} is still running", remedy="Cancel it first, then delete it")
        move_to_system_trash(job.path, f"The job {job.path.name} could not be moved to the trash")
        with self._lock:
            self._progress.pop(job.path, None)

    def _send(self, job: JobFolder, command: Command) -> None:
        summary = self.summary(job)
        if summary is not None and summary.alive:
            job.send(command)

    def _new_folder(self, name: str) -> Path:
        make_folder(self.folder)
        stem = file_name(name)
        for number in range(1, 10_000):
            path = self.folder / (stem if number == 1 else f"{stem} {number}")
            with (
                storage_errors(f"The job's folder {path} cannot be created", path),
                contextlib.suppress(FileExistsError),
            ):
                path.mkdir()
                return path
        raise RunProblem(f"There are too many jobs called {name}", remedy="Delete some of them")

    def _launch(self, job: JobFolder) -> None:
        request = job.request()
        command = [*self._command, request.verb, *request.arguments, "--out", str(job.path)]
        events_before = size_of(job.path / EVENTS)
        try:
            with (job.path / "log.txt").open("ab") as log:
                log_before = log.tell()
                child = start_detached(command, log, job.path / PROCESS_LOCK, request.working_folder or None)
        except OSError as error:
            raise RunProblem(
                f"The process of {request.name} cannot be started",
                error.strerror or str(error),
                "Free some space or memory, and start it again",
            ) from error
        self._children.append(child)
        with contextlib.suppress(StorageProblem):  # its events contain the pid too
            write_launch(job.path, Launch(child.pid, request.created, events_before, log_before, {}))


def _is_running(job: JobFolder) -> bool:
    return is_locked(job.path / PROCESS_LOCK) or is_locked(job.path / LOCK)


def _status_of(job: JobFolder, progress: _Progress, launch: Launch | None, running: bool) -> tuple[JobStatus, str]:
    silent = launch is not None and progress.offset <= launch.events_before  # no event since it was started
    if running:
        return (JobStatus.STARTING, "") if silent else (progress.status, progress.outcome)
    if silent and launch is not None:
        if launch.stopped:
            return JobStatus.STOPPED, "Stopped before it began"
        return JobStatus.FAILED, _last_log_line(job, launch.log_before) or "Its process ended before it began"
    if progress.status in ALIVE:
        return JobStatus.INTERRUPTED, "Its process was killed, or the machine was shut down"
    return progress.status, progress.outcome


def _last_log_line(job: JobFolder, log_before: int) -> str:
    if size_of(job.path / "log.txt") <= log_before:
        return ""
    return log_tail(RunFolder(job.path), lines=1).removeprefix("diffstudio: ")

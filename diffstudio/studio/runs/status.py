"""The status of a training run, from its events and whether its process is still running."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from diffstudio.plurals import count_of
from diffstudio.studio.runs.process import LOCK, Launch, is_locked, is_running
from diffstudio.training.run.events import (
    RunComparing,
    RunCrossValidated,
    RunEvent,
    RunFailed,
    RunFinished,
    RunHeldOut,
    RunPaused,
    RunPreparing,
    RunResumed,
    RunStarted,
    RunStep,
    RunStopped,
    RunVerdict,
    RunWaiting,
)
from diffstudio.training.run.run_folder import RunFolder, Status

LOG_TAIL_BYTES = 16_384

ALIVE = frozenset({Status.STARTING, Status.TRAINING, Status.WAITING, Status.PAUSED})
_KILLED = "Its process ended unexpectedly: it was killed, or the machine was shut down"


def waiting_text(holder: str, machines: int = 0) -> str:
    """What a run or job that waits for the accelerator, or for machines that have not joined, shows.

    `holder` has the accelerator; it may be empty.
    """
    if machines:
        return f"waiting for {count_of(machines, 'more machine')}"
    return f"waiting: the accelerator is busy {holder or 'with another job'}"


@dataclass(slots=True)
class RunProgress:
    """The state of a run according to its events so far."""

    offset: int = 0
    status: Status = Status.STARTING
    step: int = 0
    steps: int = 0
    loss: float | None = None
    held_out: float | None = None
    images_seen: int = 0
    images_per_second: float | None = None
    left_seconds: float | None = None
    pid: int | None = None
    verdict: str = ""
    learned: bool | None = None
    outcome: str = ""
    evidence: tuple[str, ...] = ()
    best_step: int | None = None
    progress: float | None = None
    waiting: RunWaiting | None = None  # the last time that it waited
    prepared: float | None = None  # the share of its images that is decoded, 0 to 1, during preparation
    compared: float | None = None  # the share of the images that choose a checkpoint at the end, 0 to 1
    folds: int = 0  # networks of the cross-validation that goes on; 0: none does

    def is_stale(self, run: RunFolder) -> bool:
        """Whether this describes an earlier run in the same folder."""
        return size_of(run.path / "events.jsonl") < self.offset

    def read(self, run: RunFolder) -> None:
        events, self.offset = run.events(self.offset)
        for event in events:
            self._take(event)

    def _take(self, event: RunEvent) -> None:
        self.step = event.step
        if not isinstance(event, RunPaused | RunPreparing):
            self.prepared = None
        self.compared = event.done / max(1, event.images) if isinstance(event, RunComparing) else None
        match event:
            case RunPreparing():
                self.status, self.prepared = Status.STARTING, event.done / max(1, event.images)
            case RunStarted():
                self.status, self.steps, self.pid = Status.TRAINING, event.steps, event.pid
                self.folds = 0
                self.verdict, self.learned, self.left_seconds, self.progress = "", None, None, None
                self.images_per_second = None
            case RunStep():
                self.status, self.steps = Status.TRAINING, event.steps
                self.loss, self.images_seen, self.left_seconds = event.loss, event.images_seen, event.left_seconds
                self.images_per_second, self.progress = event.images_per_second, event.progress
                self.folds = event.splits
            case RunHeldOut():
                self.held_out = event.loss
            case RunCrossValidated():
                self.folds, self.steps, self.progress, self.left_seconds = 0, event.best_step, None, None
            case RunPaused():
                self.status = Status.PAUSED
            case RunWaiting():
                self.status, self.waiting = Status.WAITING, event
            case RunVerdict():
                self.outcome, self.evidence, self.best_step = event.outcome, event.evidence, event.best_step
            case RunResumed():
                self.status = Status.TRAINING
            case RunStopped():
                self.status, self.verdict = Status.STOPPED, _stopped_at(event.step)
            case RunFinished():
                self.status, self.verdict, self.learned = Status.FINISHED, event.verdict, event.learned
                self.outcome, self.evidence, self.best_step = event.outcome, event.evidence, event.best_step
            case RunFailed():
                self.status, self.verdict = Status.FAILED, event.why
            case _:
                pass


def status_of(run: RunFolder, progress: RunProgress, launch: Launch | None, running: bool) -> tuple[Status, str]:
    """The status of a run and, unless it is alive, how it ended in a sentence.

    `running` is whether a process trains it. The events alone do not tell: they may be those of an earlier process.
    """
    if launch is not None and _has_not_begun(progress, launch):
        if running:
            return Status.STARTING, ""
        if launch.stopped:
            return Status.STOPPED, _stopped_at(progress.step) if progress.step else "Stopped before it started"
        return Status.FAILED, _last_log_line(run, launch.log_before)
    if progress.status not in ALIVE:
        return progress.status, progress.verdict
    return (progress.status, "") if running else (Status.INTERRUPTED, _KILLED)


def _has_not_begun(progress: RunProgress, launch: Launch) -> bool:
    """Whether the process that was started last has written no event yet, or prepares its images."""
    silent = progress.offset <= launch.events_before
    return silent or (progress.prepared is not None and progress.status is Status.STARTING)


def _stopped_at(step: int) -> str:
    return f"Stopped at step {step:,}; it can be resumed"


def _last_log_line(run: RunFolder, log_before: int) -> str:
    if size_of(run.path / "log.txt") > log_before:
        line = log_tail(run, lines=1)
        if line:
            return line
    return "Its process ended before training started"


def find_process(run: RunFolder, progress: RunProgress, launch: Launch | None) -> tuple[bool, int | None]:
    """Whether a process trains the run, and its pid, if it is known."""
    if launch is not None and is_locked(run.path / LOCK):
        return True, launch.pid
    pids = [pid for pid in (progress.pid,) if pid is not None]
    if launch is not None:
        pids.insert(0 if progress.offset <= launch.events_before else len(pids), launch.pid)
    if is_locked(run.lock_file):  # also of one started from a command line
        return True, next(iter(pids), None)
    for pid in pids:
        if is_running(pid, run.path):
            return True, pid
    return False, None


def log_tail(run: RunFolder, lines: int = 12) -> str:
    """The last lines that the run's processes wrote to standard error; empty when there are none."""
    try:
        with (run.path / "log.txt").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - LOG_TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    written = [line.rstrip() for line in re.split(r"[\r\n]+", text)]  # progress output rewrites its line with \r
    return "\n".join([line for line in written if line][-lines:])


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0

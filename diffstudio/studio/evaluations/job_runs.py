"""Training runs inside the folder of a Lab job: their state, their plan, and job commands. No torch."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from diffstudio.atomic import make_folder, write_text
from diffstudio.errors import BadRequest, RunProblem, StorageProblem, why_unreadable
from diffstudio.plurals import by_number
from diffstudio.studio.evaluations.job_folder import JobFolder, JobPaused, JobResumed, JobWaiting
from diffstudio.studio.evaluations.place import OTHER_FOLDER
from diffstudio.training.run.events import RunEvent, RunFailed, RunFinished, RunPaused, RunResumed, RunWaiting
from diffstudio.training.run.run_folder import Command, RunFolder

PLAN = "plan.json"  # in the folder of the job
_FORMAT = 1
_POLL_SECONDS = 0.2


class State(Enum):
    NEW = auto()
    UNFINISHED = auto()  # stopped, or its process was killed
    FINISHED = auto()
    FAILED = auto()


def state_of(run: RunFolder) -> State:
    """The state of a run according to its last event."""
    if not run.recipe_file.is_file():
        return State.NEW
    events, _ = run.events()
    last = events[-1] if events else None
    if isinstance(last, RunFinished):
        return State.FINISHED
    return State.FAILED if isinstance(last, RunFailed) else State.UNFINISHED


def check_plan(out: Path, folder: Path, minutes: float, what: str, run: RunFolder | None = None) -> None:
    """Store the plan of a job in `out`: the folder to train on, and for how long. `what` names the kind of job.

    A job with a single `run` may change its plan until the run is created; without a stored plan, the run's own recipe
    counts.

    BadRequest if an earlier job there had other images or another time; RunProblem, StorageProblem.
    """
    path = out / PLAN
    now = {"format": _FORMAT, "folder": str(folder.resolve()), "minutes": minutes}
    known: dict[str, Any] = now
    try:
        if path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            known = {name: before[name] for name in now}
        elif run is not None and run.recipe_file.is_file():
            known = now | {"folder": str(run.info().get("pictures")), "minutes": run.recipe().run.minutes}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunProblem(f"{path} cannot be read", why_unreadable(error), OTHER_FOLDER) from error
    if known != now and (run is None or run.recipe_file.is_file()):
        raise BadRequest(
            f"The folder {out} holds another {what}",
            f"it trains on {known['folder']}, {known['minutes']} {by_number(known['minutes'], 'minute', 'minutes')} for each model",
            OTHER_FOLDER,
        )
    if known != now or not path.is_file():
        make_folder(out)
        write_text(path, json.dumps(now))


class RunControl:
    """Inside the `with`, passes commands in a job's folder on to the run that trains in this process.

    A paused run saves its state and releases the accelerator, and its clock stops.
    """

    def __init__(self, run: RunFolder, job: Path, cancelled: Callable[[], bool]) -> None:
        self._run, self._job, self._cancelled = run, JobFolder(job), cancelled
        self._last = Command.RUN
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="run control", daemon=True)
        self.stopped = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        self.look()

    def show(self, event: RunEvent) -> None:
        """Record in the folder of the job that its run is paused, waiting or running again."""
        match event:
            case RunPaused():
                self._job.append(JobPaused())
            case RunWaiting():
                self._job.append(JobWaiting(event.holder))
            case RunResumed():
                self._job.append(JobResumed())

    def look(self) -> None:
        """Pass a new command on."""
        command = Command.STOP if self._cancelled() else self._job.command()
        self.stopped = self.stopped or command is Command.STOP
        again = (
            command is not Command.RUN and self._run.command() is not command
        )  # starting a run overwrites its command
        if (command is not self._last or again) and self._run.recipe_file.is_file():
            with contextlib.suppress(StorageProblem):
                self._run.send(command)
                self._last = command

    def _watch(self) -> None:
        while not self._end.wait(_POLL_SECONDS):
            self.look()


def resume_remedy(out: Path) -> str:
    """The remedy after a stop."""
    return f"Start it again with its result in {out} to resume it"

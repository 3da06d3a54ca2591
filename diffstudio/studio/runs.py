"""Runs: the training runs on this machine. Starts each in a process of its own, finds them again, says how each is doing.

A run outlives the window that started it, so nothing about it is kept in memory only: its folder says what it did
(`training.run_folder`), and `process.json` beside that which process was started on it last. A process is recognised by
its number *and* the time it was made, because numbers are used again. No torch, no Qt.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from diffstudio.errors import DiffstudioError, RunProblem, StorageProblem
from diffstudio.studio.requests import TrainRequest
from diffstudio.training.recipe import Recipe
from diffstudio.training.run_folder import (
    Command,
    RunEvent,
    RunFailed,
    RunFinished,
    RunFolder,
    RunHeldOut,
    RunPaused,
    RunResumed,
    RunStarted,
    RunStep,
    RunStopped,
    RunWaiting,
    Status,
)

FORMAT = 1                # of process.json
LONGEST_NAME = 60         # characters of a run's folder name
LOG_TAIL_BYTES = 16_384
SAME_PROCESS_SECONDS = 3  # two readings of one process's birth differ by less, whatever the clock did meanwhile

ALIVE = frozenset({Status.STARTING, Status.TRAINING, Status.WAITING, Status.PAUSED})
_GONE = "Its process ended without a word: it was killed, or the machine went down"


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run as a list shows it. Numbers are None until the run has said them."""

    run: RunFolder
    status: Status
    step: int = 0
    steps: int = 0
    loss: float | None = None
    held_out: float | None = None
    pictures_seen: int = 0
    pictures_per_second: float | None = None
    left_seconds: float | None = None
    pid: int | None = None                # of its process, while that lives
    verdict: str = ""                     # how it ended, in a sentence; empty while it goes on
    learned: bool | None = None           # of a finished run
    pictures: Path | None = None          # the folder it learns from
    created: float = 0.0                  # seconds since the epoch
    checkpoint: Path | None = None        # what can be generated from, once there is one

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def alive(self) -> bool:
        return self.status in ALIVE

    @property
    def fraction(self) -> float:
        """How much of the run is done, 0 to 1."""
        if self.status is Status.FINISHED:
            return 1.0
        return min(1.0, self.step / self.steps) if self.steps > 0 else 0.0


class Runs:
    """The runs below one folder. Every method may be called from any thread, and reads only what is new."""

    def __init__(self, folder: Path, *, command: Sequence[str] = (sys.executable, "-m", "diffstudio")) -> None:
        self.folder = folder
        self._command = tuple(command)
        self._told: dict[Path, _Told] = {}
        self._children: list[_Detached] = []
        self._lock = threading.RLock()

    def start(self, request: TrainRequest, *, name: str = "") -> RunFolder:
        """Start a new run in a process of its own; or, with `resume`, go on with the one in `request.run`.

        `name` is what the run is called when the request names no folder for it; otherwise it is called after its
        pictures. StorageProblem when its folder cannot be made, RunProblem when the process cannot be started.
        """
        if request.resume:
            if request.run is None:
                raise RunProblem("No run was named to resume")
            return self._resumed(RunFolder.open(request.run))
        if request.folder is None:
            raise RunProblem("No folder of pictures was given to train on")
        run = RunFolder(self._new_folder(request.run, name or request.folder.resolve().name))
        arguments = ["train", str(request.folder), "--recipe", request.recipe, "--run", str(run.path)]
        if request.minutes is not None:
            arguments += ["--minutes", f"{request.minutes:g}"]
        if request.steps is not None:
            arguments += ["--steps", str(request.steps)]
        self._launch(run, arguments, request)
        return run

    def list(self) -> list[RunSummary]:
        """Every run in the folder, the newest first."""
        try:
            folders = [path for path in self.folder.iterdir() if path.is_dir()]
        except OSError:  # not made yet, or not there any more
            return []
        with self._lock:
            self._reap()
            summaries = [self.summary(RunFolder(path)) for path in folders if _is_run(path)]
        return sorted(summaries, key=lambda summary: (-summary.created, summary.name))

    def summary(self, run: RunFolder) -> RunSummary:
        """How one run is doing now, told from its events and its process."""
        with self._lock:
            told = self._told.get(run.path)
            if told is None or told.is_stale(run):
                told = self._told[run.path] = _Told()
            told.read(run)
            launch = _read_launch(run.path)
            pid = _living(run, told, launch)
            status, verdict = _status(run, told, launch, pid)
            latest = run.latest_checkpoint
            return RunSummary(
                run=run, status=status, step=told.step, steps=told.steps, loss=told.loss, held_out=told.held_out,
                pictures_seen=told.pictures_seen, pictures_per_second=told.pictures_per_second,
                left_seconds=told.left_seconds if status in ALIVE else None, pid=pid, verdict=verdict,
                learned=told.learned if status is Status.FINISHED else None, pictures=_pictures(run, launch),
                created=_created(run, launch), checkpoint=latest if latest.is_file() else None)

    def pause(self, run: RunFolder) -> None:
        """Ask it to pause at its next step. Nothing happens to a run that is not going on."""
        if self.summary(run).alive:
            _send(run, Command.PAUSE)

    def resume(self, run: RunFolder) -> None:
        """Let a paused run go on; start a stopped or interrupted one again from where its last checkpoint was."""
        self._resumed(RunFolder.open(run.path))

    def stop(self, run: RunFolder) -> None:
        """Ask it to end at its next step, keeping what it learned."""
        with self._lock:
            summary = self.summary(run)
            launch = _read_launch(run.path)
            if not summary.alive:
                return
            if summary.status is Status.STARTING and launch is not None and launch.pid == summary.pid:
                _write_launch(run.path, replace(launch, stopped=True))  # it does not listen before its first step
                with contextlib.suppress(psutil.Error):
                    psutil.Process(launch.pid).terminate()
            else:
                _send(run, Command.STOP)

    def again(self, run: RunFolder) -> RunFolder:
        """Start a new run that asks for what a failed one asked for. RunProblem when that is not known any more."""
        launch = _read_launch(run.path)
        if launch is None or not launch.request:
            raise RunProblem(f"What was asked of the run {run.name} is not known", remedy="Choose its folder and start anew")
        request = TrainRequest.from_json(launch.request | {"run": None, "resume": False})
        return self.start(request, name=run.name)

    def pictures_per_second(self, recipe: Recipe) -> float | None:
        """The throughput that the newest run of the same network, size and batch measured here; None if there is none."""
        for summary in self.list():
            if not summary.pictures_per_second:
                continue
            with contextlib.suppress(DiffstudioError):
                other = summary.run.recipe()
                if (other.network, other.data.size, other.run.batch) == (recipe.network, recipe.data.size, recipe.run.batch):
                    return summary.pictures_per_second
        return None

    def _resumed(self, run: RunFolder) -> RunFolder:
        with self._lock:
            summary = self.summary(run)
            if summary.status is Status.FINISHED:
                raise RunProblem(f"The run {run.name} is finished", remedy="Start a new one to train for longer")
            _send(run, Command.RUN)
            if not summary.alive:
                self._launch(run, ["train", "--resume", "--run", str(run.path)], None)
        return run

    def _new_folder(self, wanted: Path | None, name: str) -> Path:
        try:
            if wanted is not None:
                wanted.mkdir(parents=True, exist_ok=True)
                return wanted
            self.folder.mkdir(parents=True, exist_ok=True)
            stem = file_name(name)
            for number in range(1, 10_000):
                path = self.folder / (stem if number == 1 else f"{stem} {number}")
                with contextlib.suppress(FileExistsError):
                    path.mkdir()
                    return path
        except OSError as error:
            raise StorageProblem(f"The run folder below {wanted or self.folder} cannot be made", error.strerror or str(error),
                                 "Free some space or choose another place") from error
        raise RunProblem(f"There are too many runs called {name}", remedy="Delete some of them")

    def _launch(self, run: RunFolder, arguments: Sequence[str], request: TrainRequest | None) -> None:
        before = _read_launch(run.path)
        asked = request.to_json() if request is not None else (before.request if before is not None else {})
        offset = _size(run.path / "events.jsonl")
        try:
            with (run.path / "log.txt").open("ab") as log:
                log_offset = log.tell()
                child = _Detached([*self._command, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=log, **_outliving())
        except OSError as error:
            raise RunProblem("The training process cannot be started", error.strerror or str(error),
                             "Free some space or memory, then try again") from error
        self._children.append(child)
        born = time.time()
        with contextlib.suppress(psutil.Error):
            born = psutil.Process(child.pid).create_time()
        with contextlib.suppress(OSError):  # the events will name the process too
            _write_launch(run.path, _Launch(child.pid, born, offset, log_offset, asked))

    def _reap(self) -> None:
        """Let the ended children go: a zombie would look alive to others."""
        self._children = [child for child in self._children if child.poll() is None]


def file_name(name: str) -> str:
    """A name that every file system takes, as near to `name` as that allows."""
    plain = re.sub(r'[<>:"/\\|?*\x00-\x1f]+', " ", name)
    plain = re.sub(r"\s+", " ", plain)[:LONGEST_NAME].strip(" .")
    return plain or "run"


def log_tail(run: RunFolder, lines: int = 12) -> str:
    """The last lines that the run's processes wrote to standard error; empty when there are none."""
    try:
        with (run.path / "log.txt").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - LOG_TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    written = [line.rstrip() for line in re.split(r"[\r\n]+", text)]  # progress rewrites its line with a \r
    return "\n".join([line for line in written if line][-lines:])


@dataclass(frozen=True, slots=True)
class _Launch:
    """The process last started on a run, as process.json says."""

    pid: int
    born: float              # seconds since the epoch
    events_before: int       # bytes of events.jsonl when it was started
    log_before: int          # bytes of log.txt then
    request: dict[str, Any]  # a TrainRequest as JSON
    stopped: bool = False    # by a person, before it said anything


@dataclass(slots=True)
class _Told:
    """What the events of one run have said so far."""

    offset: int = 0
    status: Status = Status.STARTING
    step: int = 0
    steps: int = 0
    loss: float | None = None
    held_out: float | None = None
    pictures_seen: int = 0
    pictures_per_second: float | None = None
    left_seconds: float | None = None
    pid: int | None = None
    verdict: str = ""
    learned: bool | None = None
    def is_stale(self, run: RunFolder) -> bool:
        """Whether this was told by another run that had the same place."""
        return _size(run.path / "events.jsonl") < self.offset

    def read(self, run: RunFolder) -> None:
        events, self.offset = run.events(self.offset)
        for event in events:
            self._take(event)

    def _take(self, event: RunEvent) -> None:
        self.step = event.step
        match event:
            case RunStarted():
                self.status, self.steps, self.pid = Status.TRAINING, event.steps, event.pid
                self.verdict, self.learned, self.left_seconds = "", None, None
            case RunStep():
                self.status, self.steps = Status.TRAINING, event.steps
                self.loss, self.pictures_seen, self.left_seconds = event.loss, event.pictures_seen, event.left_seconds
                self.pictures_per_second = event.pictures_per_second
            case RunHeldOut():
                self.held_out = event.loss
            case RunPaused():
                self.status = Status.PAUSED
            case RunWaiting():
                self.status = Status.WAITING
            case RunResumed():
                self.status = Status.TRAINING
            case RunStopped():
                self.status, self.verdict = Status.STOPPED, _stopped_at(event.step)
            case RunFinished():
                self.status, self.verdict, self.learned = Status.FINISHED, event.verdict, event.learned
            case RunFailed():
                self.status, self.verdict = Status.FAILED, event.why
            case _:
                pass


def _status(run: RunFolder, told: _Told, launch: _Launch | None, pid: int | None) -> tuple[Status, str]:
    silent = launch is not None and told.offset <= launch.events_before  # nothing said since it was started
    if pid is not None:
        if silent or told.status not in ALIVE:
            ended = told.status not in ALIVE and not silent
            return (told.status, told.verdict) if ended else (Status.STARTING, "")
        return told.status, ""
    if silent and launch is not None and launch.stopped:
        return Status.STOPPED, _stopped_at(told.step) if told.step else "Stopped before it began"
    if silent and launch is not None:
        return Status.FAILED, _last_words(run, launch.log_before)
    if told.status in ALIVE:
        return Status.INTERRUPTED, _GONE
    return told.status, told.verdict


def _stopped_at(step: int) -> str:
    return f"Stopped at step {step:,}; it can go on from there"


def _last_words(run: RunFolder, log_before: int) -> str:
    if _size(run.path / "log.txt") > log_before:
        words = log_tail(run, lines=1)
        if words:
            return words
    return "Its process ended before it could begin"


def _living(run: RunFolder, told: _Told, launch: _Launch | None) -> int | None:
    """The number of the process that works on the run, None when there is none."""
    if launch is not None and _lives(launch.pid, born_near=launch.born):
        return launch.pid
    if told.pid is not None and (launch is None or told.pid != launch.pid):  # started from a command line
        spoke = _modified(run.path / "events.jsonl")
        if _lives(told.pid, born_before=spoke):
            return told.pid
    return None


def _lives(pid: int, *, born_near: float | None = None, born_before: float | None = None) -> bool:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        born = process.create_time()
        if born_near is not None:  # number and birth are enough; its command line is empty for its first moments
            return abs(born - born_near) <= SAME_PROCESS_SECONDS
        if born_before is not None and born > born_before + SAME_PROCESS_SECONDS:
            return False
        return "train" in process.cmdline()
    except psutil.AccessDenied:
        return True  # someone else's, or the system forbids looking: the number and the time must do
    except psutil.Error:
        return False


def _read_launch(folder: Path) -> _Launch | None:
    try:
        values = json.loads((folder / "process.json").read_text(encoding="utf-8"))
        if values["format"] > FORMAT:
            return None
        request = values.get("request")
        return _Launch(int(values["pid"]), float(values["born"]), int(values["events_before"]), int(values["log_before"]),
                       request if isinstance(request, dict) else {}, values.get("stopped") is True)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_launch(folder: Path, launch: _Launch) -> None:
    beside = folder / "process.json.part"
    beside.write_text(json.dumps({"format": FORMAT} | asdict(launch)), encoding="utf-8")
    beside.replace(folder / "process.json")


def _is_run(folder: Path) -> bool:
    return (folder / "recipe.toml").is_file() or (folder / "process.json").is_file()


def _pictures(run: RunFolder, launch: _Launch | None) -> Path | None:
    with contextlib.suppress(DiffstudioError, KeyError, TypeError):
        return Path(run.about()["pictures"])
    asked = launch.request.get("folder") if launch is not None else None
    return Path(asked) if isinstance(asked, str) else None


def _created(run: RunFolder, launch: _Launch | None) -> float:
    with contextlib.suppress(DiffstudioError, KeyError, TypeError, ValueError):
        return float(run.about()["created"])
    return launch.born if launch is not None else _modified(run.path)


def _send(run: RunFolder, command: Command) -> None:
    try:
        run.send(command)
    except OSError as error:
        raise StorageProblem(f"The run {run.name} cannot be told to {command}", error.strerror or str(error),
                             "Free some space, then try again") from error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


class _Detached(subprocess.Popen[bytes]):
    """A child that is meant to outlive this object, so its end is no resource that was forgotten."""

    def __del__(self, *_: Any) -> None:
        self.poll()


def _outliving() -> dict[str, Any]:
    """What makes a child outlive its parent, its terminal and its signals."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}

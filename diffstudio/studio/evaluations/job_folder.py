"""JobFolder: the folder of a job of the Lab, through which the job's process and the window communicate.

    request.json        {"format": 1, "verb": "evaluate", "arguments": ["starter", "photos", "--count", "100"], ...}
    events.jsonl        one JSON object per line, appended as things happen: see below
    control.json        {"format": 1, "command": "run" | "pause" | "stop"}, written by the window
    evaluation.json     the result of `evaluate`; other verbs write `<verb>.json`
    log.txt             standard error of the process, if the window started it
    job.lock            locked by the process that does the work
    process.json        the process that the window started last; it locks process.lock

Every event has `format`, `event`, `at` (seconds since the epoch), and the fields of its class:

    started   pid                       once for every process that does the work
    progress  what, done, total         `total` is 0 if it is unknown
    waiting   holder                    for the accelerator, or for its turn
    paused, resumed
    finished  result, problem           the file of the result; what could not be measured
    failed    what, why, remedy
    stopped

Reading needs no torch. Damaged lines and unknown events are skipped.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, get_args, get_type_hints

from filelock import FileLock, Timeout

from diffstudio.atomic import make_folder, write_text
from diffstudio.errors import NOT_A_JSON_OBJECT, DiffstudioError, RunProblem, newer_format, why_unreadable
from diffstudio.storage_errors import storage_errors
from diffstudio.training.run.run_folder import CONTROL, Command, RunFolder

FORMAT = 1
EVENTS, REQUEST, LOCK = "events.jsonl", "request.json", "job.lock"
OF_JOB = frozenset({EVENTS, REQUEST, LOCK, CONTROL, "log.txt", "process.json", "process.lock"})  # not of its result
_RESULTS = {"evaluate": "evaluation.json"}  # results that are not named after their verb
_LOOKED_AT_SECONDS = 0.5  # much longer than another process holds the lock just to test it


@dataclass(frozen=True, slots=True)
class JobStarted:
    event: ClassVar[str] = "started"
    pid: int


@dataclass(frozen=True, slots=True)
class JobProgress:
    event: ClassVar[str] = "progress"
    what: str
    done: int
    total: int  # 0: unknown


@dataclass(frozen=True, slots=True)
class JobWaiting:
    event: ClassVar[str] = "waiting"
    holder: str  # what holds the accelerator: `generating images`, `training NAME`


@dataclass(frozen=True, slots=True)
class JobPaused:
    event: ClassVar[str] = "paused"


@dataclass(frozen=True, slots=True)
class JobResumed:
    """After JobPaused or JobWaiting."""

    event: ClassVar[str] = "resumed"


@dataclass(frozen=True, slots=True)
class JobFinished:
    event: ClassVar[str] = "finished"
    result: str  # the name of its file in the folder
    problem: str = ""  # what could not be measured, and why


@dataclass(frozen=True, slots=True)
class JobFailed:
    event: ClassVar[str] = "failed"
    what: str
    why: str = ""
    remedy: str = ""

    def sentence(self) -> str:
        return str(DiffstudioError(self.what, self.why, self.remedy))


@dataclass(frozen=True, slots=True)
class JobStopped:
    event: ClassVar[str] = "stopped"


JobEvent: TypeAlias = (
    JobStarted | JobProgress | JobWaiting | JobPaused | JobResumed | JobFinished | JobFailed | JobStopped
)
_KINDS: dict[str, type[JobEvent]] = {kind.event: kind for kind in get_args(JobEvent)}


@dataclass(frozen=True, slots=True)
class JobRequest:
    """The request of a job: a verb of the command line with its arguments, without `--out`."""

    verb: str
    arguments: tuple[str, ...]
    name: str = ""  # given by the user; empty: the name of the folder
    created: float = 0.0  # seconds since the epoch
    working_folder: str = ""  # base of relative paths among the arguments

    def after(self, old: Path, new: Path) -> JobRequest:
        """The same request with another path for a model. One that is named without its path is not looked for."""
        folder = Path(self.working_folder)
        arguments = (str(new) if folder / argument == old else argument for argument in self.arguments)
        return replace(self, arguments=tuple(arguments))


@dataclass(frozen=True, slots=True)
class JobFolder:
    path: Path

    @property
    def result_file(self) -> Path:
        """The path of the job's result. RunProblem if its request cannot be read."""
        return self.path / result_name(self.request().verb)

    def request(self) -> JobRequest:
        """The stored request. RunProblem if it is damaged, or a newer version of the program wrote it."""
        values = self._read_json(REQUEST)
        written, verb, arguments = values.get("format"), values.get("verb"), values.get("arguments")
        if not isinstance(written, int) or not isinstance(verb, str) or not isinstance(arguments, list):
            raise RunProblem(self._damaged(REQUEST), "its verb or its arguments are missing")
        if written > FORMAT:
            raise newer_format(f"The job {self.path.name}", written, FORMAT)
        created = values.get("created")
        return JobRequest(
            verb,
            tuple(map(str, arguments)),
            str(values.get("name") or ""),
            float(created) if isinstance(created, int | float) else 0.0,
            str(values.get("working_folder") or ""),
        )

    def absolute(self, path: str) -> Path:
        """The absolute path for one among the job's arguments, which may be relative to the job's working folder."""
        with suppress(RunProblem):
            return Path(self.request().working_folder) / path
        return Path(path)

    def write_request(self, request: JobRequest) -> None:
        """Store the request. StorageProblem if that fails."""
        make_folder(self.path)
        write_text(self.path / REQUEST, json.dumps({"format": FORMAT} | asdict(request)))

    def append(self, event: JobEvent) -> None:
        """Append an event to events.jsonl. StorageProblem if that fails; earlier events stay."""
        line = json.dumps({"format": FORMAT, "event": event.event, "at": time.time()} | asdict(event))
        path = self.path / EVENTS
        with storage_errors(f"{path} cannot be written", path), path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else f"\n{line}"  # a killed process left an incomplete line
            file.write(line.encode() + b"\n")

    def events(self, offset: int = 0) -> tuple[list[JobEvent], int]:
        """The events from byte `offset` on, and the offset after them: pass it to the next call to get new events."""
        try:
            with (self.path / EVENTS).open("rb") as file:
                file.seek(offset)
                data = file.read()
        except OSError:  # not written yet, or deleted meanwhile
            return [], 0
        lines = data[: data.rfind(b"\n") + 1]
        return list(_parsed(lines)), offset + len(lines)

    def last_event(self) -> JobEvent | None:
        """The last event; None without any."""
        events, _ = self.events()
        return events[-1] if events else None

    def send(self, command: Command) -> None:
        """Write the command into the control file. StorageProblem if that fails."""
        RunFolder(self.path).send(command)

    def command(self) -> Command:
        """The command in the control file; RUN without one."""
        return RunFolder(self.path).command()

    def has_foreign_control(self) -> bool:
        """Whether the control file is one of another program: it has no command."""
        try:
            return "command" not in self._read_json(CONTROL)
        except RunProblem:
            return os.path.lexists(self.path / CONTROL)

    def result(self, name: str) -> dict[str, Any]:
        """The result in the file of this name. RunProblem if it cannot be read."""
        return self._read_json(name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the process that does the work; the system releases it if the process is killed.

        RunProblem if another process holds it, StorageProblem if the folder cannot be written to.
        """
        lock = FileLock(self.path / LOCK, thread_local=False)
        with storage_errors(f"Nothing can be written into {self.path}", self.path):
            try:
                lock.acquire(timeout=_LOOKED_AT_SECONDS)
            except Timeout:
                raise RunProblem(
                    f"The folder {self.path} is in use",
                    "another job writes its result there",
                    "Wait until it ends, or name another folder",
                ) from None
        try:
            yield
        finally:
            lock.release()

    def _damaged(self, name: str) -> str:
        return f"{name} of the job {self.path.name} is damaged"

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            value = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise RunProblem(f"{name} of the job {self.path.name} cannot be read", why_unreadable(error)) from error
        if not isinstance(value, dict):
            raise RunProblem(self._damaged(name), NOT_A_JSON_OBJECT)
        return value


def result_name(verb: str) -> str:
    """The name of the file that holds the result of a verb."""
    return _RESULTS.get(verb, f"{verb}.json")


def is_job(folder: Path) -> bool:
    return (folder / REQUEST).is_file()


def without_out(arguments: Sequence[str]) -> tuple[str, ...]:
    """The arguments of a verb without the folder of its result and without `--json`."""
    kept: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--out":
            next(rest, None)
        elif argument != "--json" and not argument.startswith("--out="):
            kept.append(argument)
    return tuple(kept)


def _parsed(lines: bytes) -> Iterator[JobEvent]:
    for line in lines.splitlines():
        try:
            values = json.loads(line)
            kind = _KINDS[values["event"]]
            if values["format"] > FORMAT:
                continue
            hints = get_type_hints(kind)
            found = {field.name: values[field.name] for field in fields(kind) if field.name in values}
            if all(type(value) is hints[name] for name, value in found.items()):
                yield kind(**found)
        except (ValueError, KeyError, TypeError, RecursionError):
            continue

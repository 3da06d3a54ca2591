"""The process of a training run: `process.json` in the run's folder records the one started last.

It is recognised by the lock on `process.lock` or, once it trains, on `run.lock`: pids are reused, and start times move
when the system's clock is set.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import psutil
from filelock import FileLock, Timeout

from diffstudio.atomic import write_text

if sys.platform != "win32":
    import fcntl

FORMAT = 1  # of process.json
LOCK = "process.lock"  # in the run's folder, locked by the process started for it


@dataclass(frozen=True, slots=True)
class Launch:
    """The process last started for a run: the content of process.json."""

    pid: int
    born: float  # when it was started, seconds since the epoch by the clock of then
    events_before: int  # size of events.jsonl in bytes when it was started
    log_before: int  # size of log.txt then
    request: dict[str, Any]  # a TrainRequest as JSON
    stopped: bool = False  # by the user, before its first event


def read_launch(folder: Path) -> Launch | None:
    try:
        values = json.loads((folder / "process.json").read_text(encoding="utf-8"))
        if values["format"] > FORMAT:
            return None
        request = values.get("request")
        return Launch(
            int(values["pid"]),
            float(values["born"]),
            int(values["events_before"]),
            int(values["log_before"]),
            request if isinstance(request, dict) else {},
            values.get("stopped") is True,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_launch(folder: Path, launch: Launch) -> None:
    """StorageProblem when it cannot be written."""
    write_text(folder / "process.json", json.dumps({"format": FORMAT} | asdict(launch)))


def is_running(pid: int, run: Path) -> bool:
    """Whether the process `pid` trains that run, judged by its command line: for a process that holds no lock yet.

    Its start time says nothing: it moves when the system's clock is set.
    """
    try:
        process = psutil.Process(pid)
        arguments = process.cmdline()
        return process.status() != psutil.STATUS_ZOMBIE and "train" in arguments and str(run) in arguments
    except psutil.Error:
        return False


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock on this file. False where there is no such file, or locks do not work."""
    if sys.platform == "win32":  # pragma: no cover - no shared locks there
        try:
            with FileLock(path, blocking=False) if path.is_file() else contextlib.nullcontext():
                return False
        except (OSError, Timeout) as error:
            return isinstance(error, Timeout)
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that look do not see each other
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
    finally:
        os.close(descriptor)
    return False


def start_detached(command: Sequence[str], log: IO[bytes], lock: Path, working_folder: str | None = None) -> Detached:
    """Start a process that survives this one, its terminal and its signals. OSError when it cannot be started.

    From its first moment to its end it holds the lock on the file `lock`: it inherits the open file. Not on Windows,
    where locks are not inherited, nor on file systems without locks.
    """
    options = _detached_options() | {"cwd": working_folder}
    if sys.platform == "win32":  # pragma: no cover
        return Detached(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, **options)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return Detached(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, pass_fds=(descriptor,), **options
        )
    finally:
        os.close(descriptor)


def terminate(pid: int) -> None:
    with contextlib.suppress(psutil.Error):
        psutil.Process(pid).terminate()


class Detached(subprocess.Popen[bytes]):
    """A child process that may outlive this object without a ResourceWarning."""

    def __del__(self, *_: object) -> None:
        self.poll()


def _detached_options() -> dict[str, Any]:
    """Popen options by which a child survives its parent, its terminal and its signals."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}

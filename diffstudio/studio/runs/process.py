"""The process of a training run: `process.json` in the run's folder records the one started last.

A process is identified by its pid *and* its start time, because pids are reused.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from diffstudio.atomic import write_text

FORMAT = 1  # of process.json
SAME_PROCESS_SECONDS = 3  # the tolerance for two readings of a process's start time


@dataclass(frozen=True, slots=True)
class Launch:
    """The process last started for a run: the content of process.json."""

    pid: int
    born: float  # start time, seconds since the epoch
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


def is_running(pid: int, *, born_near: float | None = None, born_before: float | None = None) -> bool:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        born: float = process.create_time()
        if born_near is not None:  # its command line is still empty right after the start
            return abs(born - born_near) <= SAME_PROCESS_SECONDS
        if born_before is not None and born > born_before + SAME_PROCESS_SECONDS:
            return False
        return "train" in process.cmdline()
    except psutil.AccessDenied:
        return True  # not readable, for example another user's: the pid has to do
    except psutil.Error:
        return False


def start_detached(command: Sequence[str], log: IO[bytes]) -> Detached:
    """Start a process that survives this one, its terminal and its signals. OSError when it cannot be started."""
    return Detached(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, **_detached_options())


def start_time(pid: int) -> float:
    """The start time of a process, in seconds since the epoch."""
    with contextlib.suppress(psutil.Error):
        created: float = psutil.Process(pid).create_time()
        return created
    return time.time()


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

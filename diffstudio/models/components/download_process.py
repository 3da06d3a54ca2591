"""Runs a download in a child process: the program itself is offline, and a process can be ended at any time. No torch.

The child reports progress as lines of JSON, at least twice a second, and ends when nobody reads them any more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

import diffstudio
from diffstudio.errors import FREE_SPACE_OR_FOLDER, DiffstudioError, Interrupted, StorageProblem
from diffstudio.plurals import human_bytes

PARTIAL_FOLDER = ".fetching"  # hidden, so that the library does not scan it
LOCK = "lock"  # the file in the folder of a download that its child process locks
_TERMINATE_SECONDS = 10.0  # before the child process is killed
_REPORT_SECONDS = 0.4
_POLL_SECONDS = 0.1
_LOCK_SECONDS = 2.0  # in which the child of a killed program ends
CONNECTION_LOST = "the connection was lost"
ALREADY_RUNNING = "it is being downloaded already"


def run_download(
    arguments: Sequence[str],
    read: Callable[[str], None],
    cancelled: Callable[[], bool],
    most_seconds: float = float("inf"),
) -> bool:
    """Run `python -m` with these arguments, online, and give every line that it prints to `read`.

    False if it was ended because it took longer than `most_seconds`. Interrupted soon after `cancelled()`, which is
    called in another thread, becomes true. The process has ended by then.
    """
    over, stopped, late = threading.Event(), threading.Event(), threading.Event()
    until = time.monotonic() + most_seconds

    def watch() -> None:
        while not over.wait(_POLL_SECONDS):
            if cancelled():
                stopped.set()
            elif time.monotonic() > until:
                late.set()
            else:
                continue
            _end(process)
            return

    with subprocess.Popen(
        [sys.executable, "-P", "-m", *arguments],  # -P: modules in the current folder are not imported
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        env=_online(),
        creationflags=_no_console(),
    ) as process:
        watcher = threading.Thread(target=watch, name="download-watcher", daemon=True)
        watcher.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                read(line)
        finally:
            over.set()
            watcher.join()
            _end(process)
    if stopped.is_set():
        raise interrupted()
    return not late.is_set()


def interrupted() -> Interrupted:
    return Interrupted("Stopped while downloading", remedy="The next download resumes where this one stopped")


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_TERMINATE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def _no_console() -> int:
    if sys.platform == "win32":  # pragma: no cover
        return subprocess.CREATE_NO_WINDOW
    return 0


def _online() -> dict[str, str]:
    """The environment of the child: it finds this package wherever it is started, and no passwords."""
    package = Path(diffstudio.__file__).resolve().parents[1]
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(path)]
    return os.environ | {
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "0",
        "NETRC": os.devnull,  # requests would send the passwords in ~/.netrc
        "PYTHONPATH": os.pathsep.join([str(package), *others]),
        "PYTHONUNBUFFERED": "1",
    }


class ChildOutput:
    """Reads the lines of the child process. Progress and a full disk are handled here, all else by a subclass."""

    def __init__(self, what: str, on_progress: Callable[[int, int], None]) -> None:
        self._what, self._on_progress = what, on_progress  # `what` is downloaded, as a message names it
        self.problem: DiffstudioError | None = None

    def read(self, line: str) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            return  # printed by a library
        if not isinstance(message, dict):
            return
        if "done" in message:
            self._on_progress(int(message["done"]), int(message["of"]))
        elif "full" in message:
            size = int(message["full"])
            self.problem = StorageProblem(
                f"There is not enough disk space for {self._what}",
                f"it takes {human_bytes(size)}" if size else "less than 1 GiB is free, and its size is not known",
                FREE_SPACE_OR_FOLDER,
            )
        else:
            self.take(message)

    def take(self, message: Mapping[str, Any]) -> None:
        """Read any other message."""


# ---- in the child process --------------------------------------------------------------------------------------------


def report(**message: object) -> None:
    """Print one line for the parent process; where that has been killed, this process ends too."""
    try:
        print(json.dumps(message), flush=True)
    except OSError:
        os._exit(1)  # from any thread: what has been written of the file stays for the next download


@contextmanager
def only_writer(folder: Path) -> Iterator[bool]:
    """Whether no other process is downloading into this folder; none does as long as the block runs."""
    lock = FileLock(folder / LOCK, timeout=_LOCK_SECONDS)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@contextmanager
def reported_size(path: Path, size: int) -> Iterator[None]:
    """Report how much of a file there is, of `size` bytes, as long as the block runs."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_REPORT_SECONDS):
            report(done=path.stat().st_size if path.exists() else 0, of=size)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()

"""Runs a download in a child process: the program itself is offline, and a process can be ended at any time. No torch.

The child reports progress as lines of JSON, at least twice a second.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from diffstudio.errors import Interrupted

PARTIAL_FOLDER = ".fetching"  # hidden, so that the library does not scan it
_TERMINATE_SECONDS = 10.0  # before the child process is killed
_REPORT_SECONDS = 0.4
CONNECTION_LOST = "the connection was lost"


def run_download(arguments: Sequence[str], read: Callable[[str], None], cancelled: Callable[[], bool]) -> None:
    """Run `python -m` with these arguments, online, and give every line that it prints to `read`.

    Interrupted soon after `cancelled()` becomes true; the process has ended by then.
    """
    with subprocess.Popen(
        [sys.executable, "-m", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        env=_online(),
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if cancelled():
                    raise Interrupted(
                        "Stopped while downloading", remedy="The next download resumes where this one stopped"
                    )
                read(line)
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_TERMINATE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def _online() -> dict[str, str]:
    return os.environ | {
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "0",
        "PYTHONUNBUFFERED": "1",
    }


# ---- in the child process --------------------------------------------------------------------------------------------


def report(**message: object) -> None:
    """Print one line for the parent process."""
    print(json.dumps(message), flush=True)


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

"""The program itself, in processes of its own: started twice, and killed in the middle of its work."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from PySide6.QtNetwork import QLocalSocket
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.models.memory.lease import Lease
from diffstudio.studio.events import Finished
from diffstudio.studio.jobs.queue import Queue
from diffstudio.studio.requests import GenerateRequest
from diffstudio.ui.shell.single_instance import name_for
from tests.models.tiny import write_tiny_checkpoint
from tests.ui.desktop_helpers import PATIENCE_MS, EventRecorder, close_desktop, open_desktop

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("dressed"),
    pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9 on Windows"),
]
ROOT = Path(__file__).resolve().parents[2]
Start = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    """Starts the program as the command line does; whatever still runs at the end is killed."""
    started: list[subprocess.Popen[bytes]] = []

    def start_it() -> subprocess.Popen[bytes]:
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "diffstudio"],
                cwd=ROOT,
                stderr=subprocess.PIPE,
                env=os.environ | {"QT_QPA_PLATFORM": "offscreen"},
            )
        )
        return started[-1]

    yield start_it
    for process in started:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


@pytest.fixture
def tiny() -> Path:
    return write_tiny_checkpoint(paths.checkpoints() / "tiny.safetensors")


def is_open() -> bool:
    """The window has been painted, after which the queue is opened, and answers."""
    socket = QLocalSocket()
    socket.connectToServer(name_for(paths.data()))
    return socket.waitForConnected(100) and (paths.data() / "queue.sqlite").is_file()


def ends_well(process: subprocess.Popen[bytes]) -> str:
    """With exit code 0; what it said on standard error."""
    _, message = process.communicate(timeout=PATIENCE_MS / 1000)
    assert process.returncode == 0, message.decode()
    return message.decode()


def test_a_second_start_leaves_the_first_alone_and_ends_well(qtbot: QtBot, start: Start, tiny: Path) -> None:
    first = start()
    qtbot.waitUntil(is_open, timeout=PATIENCE_MS)
    assert ends_well(start()) == ""
    assert first.poll() is None
    first.send_signal(signal.SIGTERM)
    assert "Traceback" not in ends_well(first)
    (paths.data() / "queue.sqlite").unlink()
    third = start()  # the first is gone: this one is a window again
    qtbot.waitUntil(is_open, timeout=PATIENCE_MS)
    assert third.poll() is None
    third.send_signal(signal.SIGTERM)
    ends_well(third)


def test_two_started_at_once_are_one_window(qtbot: QtBot, start: Start, tiny: Path) -> None:
    both = start(), start()
    qtbot.waitUntil(lambda: any(process.poll() is not None for process in both), timeout=PATIENCE_MS)
    ended, opened = sorted(both, key=lambda process: process.poll() is None)
    assert ended.returncode == 0 and opened.poll() is None
    qtbot.waitUntil(is_open, timeout=PATIENCE_MS)
    opened.send_signal(signal.SIGTERM)
    ends_well(opened)


def test_a_job_goes_on_after_kill_9(qtbot: QtBot, start: Start, tiny: Path) -> None:
    """Nothing is lost and nothing is half-written."""
    count = 4
    asked = Queue(paths.data() / "queue.sqlite")
    asked.submit(GenerateRequest("red apple", checkpoint="tiny", steps=1000, count=count, seed=5, sampler="euler"))
    asked.submit(GenerateRequest("next", checkpoint="tiny", steps=2))
    asked.close()
    program = start()
    qtbot.waitUntil(lambda: running_in_queue() == 1, timeout=PATIENCE_MS)
    qtbot.waitUntil(accelerator_held, timeout=PATIENCE_MS)
    program.send_signal(signal.SIGKILL)
    program.communicate()
    kept = Queue(paths.data() / "queue.sqlite")
    waiting = kept.pending()
    kept.close()
    assert [job.request.prompt for job in waiting] == ["red apple", "next"]
    assert waiting[0].attempts == 1
    desktop = open_desktop(qtbot)  # no lock of the dead one is in its way
    ears = EventRecorder(desktop)
    try:
        qtbot.waitUntil(
            lambda: desktop.worker is not None and not desktop.worker.pending() and desktop.worker.running() is None,
            timeout=PATIENCE_MS,
        )
        qtbot.waitUntil(ears.heard(Finished), timeout=PATIENCE_MS)
        made = sorted(paths.images().rglob("*.png"))
        assert len(made) == count + 1
        assert not [path for path in paths.images().rglob("*") if path.is_file() and path.suffix != ".png"]
        for path in made:
            with Image.open(path) as picture:
                picture.load()
                assert picture.size == (16, 16)
    finally:
        close_desktop(desktop)


def running_in_queue() -> int:
    """Read from beside the program, as it works."""
    database = sqlite3.connect(f"file:{paths.data() / 'queue.sqlite'}?mode=ro", uri=True, timeout=10)
    try:
        return int(database.execute("SELECT COUNT(*) FROM jobs WHERE running = 1").fetchone()[0])
    finally:
        database.close()


def accelerator_held() -> bool:
    return Lease(paths.data()).holder() == "generating images"

"""Runs that wait get their turn in the order in which they came, whatever became of those before them."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from diffstudio.errors import Interrupted, StorageProblem
from diffstudio.training.run.turn import Turn

WAIT_FOR_EVER = """
import sys
from pathlib import Path
from diffstudio.training.run.turn import Turn
Turn(Path(sys.argv[1])).acquire("the killed one")
"""


def waiting(folder: Path) -> int:
    return len(list((folder / "waiting").glob("*.lock")))


def wait_until(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while waiting(folder) != count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_first_come_first_served_and_a_killed_process_is_passed_over(tmp_path: Path) -> None:
    first, served = Turn(tmp_path), []
    first.acquire("the first")
    assert first.is_held and Turn(tmp_path).holder() == "the first" and waiting(tmp_path) == 0
    killed = subprocess.Popen([sys.executable, "-c", WAIT_FOR_EVER, str(tmp_path)])
    wait_until(tmp_path, 1)

    def run(name: str) -> None:
        turn = Turn(tmp_path)
        turn.acquire(name)
        served.append(name)
        turn.release()

    threads = []
    for count, name in enumerate(("second", "third", "fourth", "fifth"), start=2):
        threads.append(threading.Thread(target=run, args=(name,)))
        threads[-1].start()
        wait_until(tmp_path, count)
    killed.kill()
    killed.wait()
    first.release()
    for thread in threads:
        thread.join(60)
    assert served == ["second", "third", "fourth", "fifth"]
    assert waiting(tmp_path) == 0 and first.holder() is None


def test_who_stops_waiting_leaves_the_line(tmp_path: Path) -> None:
    first, second = Turn(tmp_path), Turn(tmp_path)
    first.acquire("the first")
    with pytest.raises(Interrupted):
        second.acquire("the second", cancelled=lambda: True)
    assert waiting(tmp_path) == 0 and not second.is_held


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    turn = Turn(tmp_path)
    (tmp_path / "waiting").touch()
    with pytest.raises(StorageProblem, match="waiting cannot be written to: .* is not a folder"):
        turn.acquire("a run")

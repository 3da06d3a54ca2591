"""The fixtures of conftest.py really notice what a test leaves behind: a file of careless tests, each of which they
fail.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CARELESS = """
import socket, subprocess, sys, threading, time, warnings
import pytest

KEPT = []

def test_tidy(qtbot):
    from PySide6.QtWidgets import QLabel
    qtbot.addWidget(QLabel("closed by pytest-qt"))

def test_thread():
    threading.Thread(target=time.sleep, args=(30,), daemon=True).start()

def test_widget(qtbot):
    from PySide6.QtWidgets import QLabel
    KEPT.append(QLabel("left"))
    KEPT[-1].show()

def test_timer(qtbot):
    from PySide6.QtCore import QTimer
    KEPT.append(QTimer())
    KEPT[-1].start(1000)

def test_network():
    with socket.socket() as careless:
        careless.settimeout(1)
        careless.connect(("192.0.2.1", 80))

def test_warning():
    warnings.warn("careless")

def test_qt_warning(qtbot):
    from PySide6.QtCore import qWarning
    qWarning("careless")

def test_process():
    KEPT.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"]))
"""


def test_careless_tests_fail(tmp_path: Path) -> None:
    file = tmp_path / "test_careless.py"
    file.write_text(CARELESS)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "tests.conftest",
            "-c",
            str(ROOT / "pyproject.toml"),
            "--rootdir",
            str(ROOT),
            "-p",
            "no:cacheprovider",
            "-v",
            str(file),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    message = done.stdout
    assert done.returncode == 1, message + done.stderr
    summary = message[message.rindex("short test summary") :]
    for name, complaint in {
        "test_thread": "threads left running",
        "test_widget": "widgets or timers left behind",
        "test_timer": "widgets or timers left behind",
        "test_process": "processes left running",
        "test_network": "reached for the network",
        "test_warning": "careless",
        "test_qt_warning": "",
    }.items():
        assert re.search(rf"(FAILED|ERROR) .*::{name}\b", summary), summary
        assert complaint in message, message
    assert not re.search(r"(FAILED|ERROR) .*::test_tidy\b", summary), summary

"""The program as a person starts it, in a real X display: a window comes up, takes keys, and makes a picture.

Run by `packaging/bootstrap.py test` under Xvfb. What the screen shows in the end is kept as window.png in the folder that
DIFFSTUDIO_ARTEFACTS names.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtGui import QGuiApplication, QImage
from PySide6.QtWidgets import QApplication

from diffstudio import paths

pytestmark = pytest.mark.real_display
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def program(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-m", "diffstudio"], cwd=ROOT, stderr=subprocess.PIPE) as process:
        yield process
        if process.poll() is None:
            process.kill()


def screen() -> QImage:
    """The whole display as it is now, whoever drew it."""
    return QGuiApplication.primaryScreen().grabWindow(0).toImage()


def window_in(image: QImage) -> QImage:
    """Without the display's own black to the right of and below the window, which no theme of ours uses."""
    width, height = image.width(), image.height()
    while width > 1 and image.pixelColor(width - 1, 20).rgb() == 0xFF000000:
        width -= 1
    while height > 1 and image.pixelColor(20, height - 1).rgb() == 0xFF000000:
        height -= 1
    return image.copy(0, 0, width, height)


def colours(image: QImage) -> int:
    small = image.scaled(160, 100)
    return len({small.pixel(x, y) for x in range(160) for y in range(100)})


def until(true: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.1)
    return False


def keys(*arguments: str) -> None:
    subprocess.run(["xdotool", *arguments], check=True, timeout=30, env=os.environ | {"LC_ALL": "C.UTF-8"})


@pytest.mark.timeout(300)
def test_the_window_comes_up_and_makes_a_picture(qapp: QApplication, program: subprocess.Popen[bytes]) -> None:
    assert qapp.platformName() == "xcb", "this test needs QT_QPA_PLATFORM=xcb and a display"
    kept = Path(os.environ.get("DIFFSTUDIO_ARTEFACTS", str(paths.data()))) / "window.png"
    try:
        assert until(lambda: colours(screen()) > 20, 60), "no window came up"
        if shutil.which("xdotool"):
            keys("search", "--sync", "--onlyvisible", "--name", "diffstudio", "windowfocus", "--sync")
            keys("type", "--delay", "20", "red apple")
            keys("key", "ctrl+Return")
            pictures = paths.images()
            assert until(lambda: any(pictures.rglob("*.png")), 120), "no picture was made from what was typed"
            time.sleep(1.0)  # for the eye: the picture has faded in
    finally:
        window_in(screen()).save(str(kept))
    program.send_signal(signal.SIGTERM)
    assert until(lambda: program.poll() is not None, 30), "the window did not close when it was told to"
    assert program.returncode == 0
    assert program.stderr is not None
    said = program.stderr.read().decode()
    assert "Traceback" not in said and "QWidget" not in said, said

"""The program as a person starts it, in a real X display: a window comes up, takes keys, makes a picture, comes
forward.

Run by `packaging/bootstrap.py test` under Xvfb. What the screen shows in the end is kept as window.png in the folder
that DIFFSTUDIO_ARTEFACTS names.
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
from PySide6.QtWidgets import QApplication, QWidget

from diffstudio import paths
from diffstudio.ui.widgets import theme
from tests.models.tiny import write_tiny_checkpoint

pytestmark = pytest.mark.real_display
ROOT = Path(__file__).resolve().parents[2]
GROUNDS = frozenset({theme.DARK.background, theme.DARK.panel})


@pytest.fixture
def program(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    if not paths.starter().is_file():
        write_tiny_checkpoint(paths.checkpoints() / "tiny.safetensors")
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


def shows_the_window() -> bool:
    """A good part of the screen is the grounds of the dark theme (a picture may fill the rest), and there is much else."""
    image = window_in(screen())
    sampled = [image.pixelColor(x, y).name() for x in range(0, image.width(), 16) for y in range(0, image.height(), 16)]
    on_ground = sum(colour in GROUNDS for colour in sampled)
    return set(sampled) >= GROUNDS and on_ground > len(sampled) / 3 and colours(image) > 20


def until(true: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
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
        assert until(shows_the_window, 120), "no window came up"
        if shutil.which("xdotool"):
            keys("search", "--sync", "--onlyvisible", "--name", "diffstudio", "windowfocus", "--sync")
            keys("type", "--delay", "20", "red apple")
            keys("key", "ctrl+Return")
            pictures = paths.images()
            assert until(lambda: any(pictures.rglob("*.png")), 120), "no picture was made from what was typed"
            time.sleep(1.0)  # for the eye: the picture has faded in
        assert shows_the_window()
    finally:
        window_in(screen()).save(str(kept))
    closes_well(program)


@pytest.mark.timeout(300)
def test_a_second_start_brings_the_window_forward(qapp: QApplication, program: subprocess.Popen[bytes]) -> None:
    assert until(shows_the_window, 120), "no window came up"
    cover = QWidget()
    cover.setStyleSheet("background: #a000a0;")
    cover.setGeometry(QGuiApplication.primaryScreen().geometry())
    cover.show()
    try:
        assert until(lambda: colours(screen()) == 1, 60), "the other program's window did not come up"
        second = subprocess.run([sys.executable, "-m", "diffstudio"], cwd=ROOT, timeout=120, check=False)
        assert second.returncode == 0
        assert until(shows_the_window, 60), "the window stayed behind the other program's"
    finally:
        cover.close()
        cover.deleteLater()
    closes_well(program)


def closes_well(program: subprocess.Popen[bytes]) -> None:
    program.send_signal(signal.SIGTERM)
    assert until(lambda: program.poll() is not None, 60), "the window did not close when it was told to"
    assert program.returncode == 0
    assert program.stderr is not None
    message = program.stderr.read().decode()
    assert "Traceback" not in message and "QWidget" not in message, message

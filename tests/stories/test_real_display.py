"""The program as a person starts it, in a real X display: a window comes up, takes keys, makes a picture, comes
forward; under a window manager, images are dragged with a real pointer, from other programs too.

Run by `packaging/bootstrap.py test` under Xvfb. What the screen shows in the end is kept as window.png in the folder
that DIFFSTUDIO_ARTEFACTS names.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from PySide6.QtCore import QEvent, QObject, QPoint, QRect
from PySide6.QtGui import QGuiApplication, QImage
from PySide6.QtWidgets import QApplication, QWidget

from diffstudio import paths
from diffstudio.models.detection.types import Layout
from diffstudio.ui.generate.queue_and_history import RecentImage
from diffstudio.ui.generate.room import GenerateRoom
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.images.image_reading import read_image
from tests.models.tiny import write_tiny_checkpoint
from tests.ui.samples import checkpoint

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


# Dragging under a window manager

PLACE = QRect(40, 60, 1000, 720)  # of the room; the other program's window is to the right of it
# A file manager in short: a window that is dragged as the file it was started with. It says when it is shown.
OTHER_PROGRAM = """
import sys
from PySide6.QtCore import QMimeData, QTimer, QUrl
from PySide6.QtGui import QDrag
from PySide6.QtWidgets import QApplication, QLabel

class File(QLabel):
    def mouseMoveEvent(self, event):
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(sys.argv[1])])
        drag = QDrag(self)
        drag.setMimeData(data)
        drag.exec()

app = QApplication([])
file = File("a file")
file.setGeometry(1120, 200, 200, 200)
file.show()
places = []

def say_once_it_rests():
    places.append(file.mapToGlobal(file.rect().center()).toTuple() if file.windowHandle().isExposed() else None)
    if len(places) > 4 and places[-1] and len(set(places[-5:])) == 1:
        timer.stop()
        print(places[-1], flush=True)

timer = QTimer(interval=200, timeout=say_once_it_rests)
timer.start()
app.exec()
"""


@pytest.fixture
def window_manager() -> Iterator[None]:
    if not shutil.which("openbox") or not shutil.which("xdotool"):
        pytest.skip("dragging needs openbox and xdotool (on Debian: apt-get install openbox xdotool)")
    with subprocess.Popen(["openbox"], stderr=subprocess.DEVNULL) as manager:
        yield
        manager.terminate()


@pytest.fixture
def room(dressed: QApplication, home: Path, window_manager: None, tmp_path: Path) -> Iterator[GenerateRoom]:
    """The Generate room with a recent image, on the screen."""
    image = tmp_path / "recent.png"
    Image.new("RGB", (48, 32), "blue").save(image)
    room = GenerateRoom()
    model = checkpoint("sd1", family="sd1", width=512, height=512, metadata={}, layout=Layout.ORIGINAL)
    room.set_checkpoints([model], 0)
    room.set_recent([RecentImage(image, read_image(image))], 1)
    room.setGeometry(PLACE)
    room.show()
    assert until(lambda: room.isActiveWindow(), 60), "the window manager did not show the room"
    yield room
    room.close()
    room.deleteLater()


class DragMoves(QObject):
    """Counts the moves of a drag that came to a window of ours, and is told from any thread how many.

    The program in which a drag started sends a move only once the last one was answered: so the second one says that
    a drop would be taken. Dropped sooner, which on a busy machine it is, the drag is given up.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        self.count += event.type() is QEvent.Type.DragMove and watched.isWindowType()
        return False


def pull(start: QPoint, end: QPoint, moves: DragMoves) -> None:
    """Press the button at one point of the screen, move in small steps, release at the other once it would be taken."""
    steps = [start + (end - start) * (part / 12) for part in range(13)]
    words = [word for at in steps for word in ("mousemove", str(at.x()), str(at.y()), "sleep", "0.1")]
    keys(*words[:5], "mousedown", "1", *words[5:])
    before, limit = moves.count, time.monotonic() + 60
    while moves.count < before + 2 and time.monotonic() < limit:
        for step in ("1", "-1"):
            keys("mousemove_relative", "--", step, "0", "sleep", "0.2")
    keys("mouseup", "1")


def drag_with_the_pointer(start: QPoint, end: QPoint) -> None:
    """Drags with the button of the mouse, from a thread: what starts the drag runs an event loop of its own."""
    moves = DragMoves()
    application = QApplication.instance()
    assert application is not None
    application.installEventFilter(moves)
    pointer = threading.Thread(target=pull, args=(start, end, moves))
    pointer.start()
    try:
        assert until(lambda: not pointer.is_alive(), 120), "the pointer did not arrive"
        assert moves.count >= 2, "no drag came to the room"
    finally:
        pointer.join()
        application.removeEventFilter(moves)


def centre(widget: QWidget) -> QPoint:
    return widget.mapToGlobal(widget.rect().center())


@pytest.mark.timeout(300)
def test_a_recent_image_is_dragged_onto_the_init_image(room: GenerateRoom, tmp_path: Path) -> None:
    section = room.panel.init_image
    assert section.image_path() is None
    drag_with_the_pointer(centre(room.right.thumbs[0]), centre(section.choose_button))
    assert until(lambda: section.image_path() == tmp_path / "recent.png", 30)


@pytest.mark.timeout(300)
def test_a_file_is_dragged_from_another_program(room: GenerateRoom, tmp_path: Path) -> None:
    file = tmp_path / "from elsewhere.png"
    Image.new("RGB", (32, 48), "red").save(file)
    section = room.panel.init_image
    command = [sys.executable, "-c", OTHER_PROGRAM, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            x, y = (int(number) for number in other.stdout.readline().strip("()\n").split(","))
            drag_with_the_pointer(QPoint(x, y), centre(section.choose_button))
            assert until(lambda: section.image_path() == file, 30)
        finally:
            other.terminate()

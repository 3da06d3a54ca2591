"""Screenshots are taken when all that they show was read, on a slow machine too."""

from __future__ import annotations

import asyncio
import importlib
import threading
import time
from pathlib import Path

import pytest
from PySide6.QtGui import QPaintEvent
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from diffstudio.ui.tasks import Tasks

PACKAGING = Path(__file__).resolve().parents[2] / "packaging"


class SlowImages(QWidget):
    """Asks for a first image when it is painted, and for the next one when it has one. Painting is slow."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks, self.gate, self.read = Tasks("slow"), threading.Event(), list[str]()
        self._first: asyncio.Task[None] | None = None

    def paintEvent(self, event: QPaintEvent) -> None:
        time.sleep(0.06)  # meanwhile its thread ends
        if self._first is None:
            self._first = self.tasks.start(self._read_all())

    def _read(self) -> None:
        self.gate.wait(30)
        time.sleep(0.03)

    async def _read_all(self) -> None:
        for name in ("first", *map(str, range(20))):
            await self.tasks.to_thread(self._read)
            self.read.append(name)


@pytest.fixture
def images(qtbot: QtBot) -> SlowImages:
    images = SlowImages()
    qtbot.addWidget(images, before_close_func=lambda _: images.tasks.close())
    images.show()
    return images


def test_a_window_is_complete_when_the_images_of_its_paints_were_read(
    images: SlowImages, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(PACKAGING))
    session = importlib.import_module("screenshots.session")
    shown: list[list[str]] = []

    async def look() -> None:
        await session.settled(images)
        shown.append(list(images.read))

    looking = Tasks("looking")
    looking.start(look())
    qtbot.wait(800)
    assert not shown and not images.read
    images.gate.set()
    qtbot.waitUntil(lambda: bool(shown))
    assert len(shown[0]) == 21
    looking.close()

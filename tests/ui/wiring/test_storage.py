"""The databases are opened in a thread, and closed again whenever the window is closed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.jobs.queue import Queue
from diffstudio.studio.settings import load_settings
from diffstudio.ui.app import Desktop
from diffstudio.ui.wiring.navigation import GALLERY
from diffstudio.ui.wiring.storage import Storage, open_storage


@pytest.fixture
def desktop(qtbot: QtBot, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desktop]:
    monkeypatch.setattr(paths, "starter", lambda: home / "none")
    desktop = Desktop(load_settings())
    qtbot.addWidget(desktop.window)
    yield desktop
    desktop.window.close()
    desktop.close()


class Opening:
    """Notes in which thread the gallery is opened, and waits there until it may go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.threads: list[threading.Thread] = []
        self.may_go_on = threading.Event()
        real = Gallery.__init__

        def slow(gallery: Gallery, *args: Path) -> None:
            self.threads.append(threading.current_thread())
            self.may_go_on.wait(60)
            real(gallery, *args)

        monkeypatch.setattr(Gallery, "__init__", slow)


def test_the_window_does_not_wait_for_its_databases(
    desktop: Desktop, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = Opening(monkeypatch)
    desktop.start_services()
    qtbot.waitUntil(lambda: bool(opening.threads))
    desktop.start_services()  # once is enough
    assert desktop.gallery is None and desktop.worker is None
    opening.may_go_on.set()
    qtbot.waitUntil(lambda: desktop.worker is not None)
    assert len(opening.threads) == 1 and opening.threads[0] is not threading.main_thread()


def test_a_room_that_needs_them_waits(desktop: Desktop, qtbot: QtBot) -> None:
    desktop.start_services()
    desktop.window.show_room(GALLERY)
    assert desktop.gallery is not None and desktop.worker is not None


def test_closed_while_they_are_opened(desktop: Desktop, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    opening, closed = Opening(monkeypatch), list[Storage]()
    real = Storage.close
    monkeypatch.setattr(Storage, "close", lambda storage: (closed.append(storage), real(storage))[1])
    desktop.start_services()
    qtbot.waitUntil(lambda: bool(opening.threads))
    threading.Timer(0.2, opening.may_go_on.set).start()
    desktop.close()
    assert len(closed) == 1 and closed[0].queue is not None and desktop.worker is None


def test_a_gallery_without_a_queue_is_kept(home: Path) -> None:
    paths.data().mkdir(parents=True, exist_ok=True)
    (paths.data() / "queue.sqlite").mkdir()
    first = open_storage(home / "images", None)
    assert first.problem is not None and first.queue is None and first.gallery is not None
    (paths.data() / "queue.sqlite").rmdir()
    second = open_storage(home / "elsewhere", first.gallery)
    assert second.gallery is first.gallery and second.problem is None and isinstance(second.queue, Queue)
    second.close()

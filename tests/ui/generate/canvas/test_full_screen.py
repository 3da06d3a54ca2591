"""Full screen: F11 or a double click shows the canvas alone, Escape brings it back into its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from diffstudio.studio.events import Finished, ImageSaved
from diffstudio.studio.requests import GenerateRequest
from diffstudio.ui.generate.room import GenerateRoom
from tests.ui.samples import checkpoint, picture, stepped, whole_job

pytestmark = pytest.mark.usefixtures("dressed")
REQUEST = GenerateRequest("red apple", steps=4, seed=7)


@pytest.fixture
def room(qtbot: QtBot) -> GenerateRoom:
    room = GenerateRoom()
    qtbot.addWidget(room)
    room.panel.background_work_requested.connect(lambda work, done: done(work()))
    room.resize(1366, 700)
    room.show()
    qtbot.waitExposed(room)
    room.set_checkpoints([checkpoint()])
    return room


def enter(qtbot: QtBot, room: GenerateRoom) -> None:
    room.activateWindow()
    room.canvas.setFocus()
    qtbot.waitUntil(room.canvas.hasFocus)
    qtbot.keyClick(room.canvas, Qt.Key.Key_F11)
    qtbot.waitUntil(lambda: room.full_screen.isVisible() and room.canvas.hasFocus())


def test_f11_and_escape(qtbot: QtBot, room: GenerateRoom) -> None:
    qtbot.keyClick(room, Qt.Key.Key_F11)
    assert not room.full_screen.isVisible()  # there is nothing to show
    for event in whole_job(1, REQUEST):
        room.handle_event(event)
    place = room.canvas.geometry()
    enter(qtbot, room)
    assert room.full_screen.isFullScreen() and room.canvas.window() is room.full_screen
    assert room.canvas.zoom_bar.full_screen.accessibleName() == "Leave full screen"
    qtbot.keyClick(room.canvas, Qt.Key.Key_1)
    qtbot.keyClick(room.canvas, Qt.Key.Key_Escape)  # the zoom first
    assert room.full_screen.isVisible() and room.canvas.is_fitted()
    qtbot.keyClick(room.canvas, Qt.Key.Key_Escape)
    assert not room.full_screen.isVisible() and room.canvas.window() is room.window()
    qtbot.waitUntil(lambda: room.canvas.isVisible() and room.canvas.width() == place.width())
    assert room.canvas.path() == Path("/images/1-0.png")


def test_a_double_click_enters_and_leaves_and_a_closed_window_too(qtbot: QtBot, room: GenerateRoom) -> None:
    for event in whole_job(1, REQUEST):
        room.handle_event(event)
    for _ in range(2):
        qtbot.mouseDClick(room.canvas, Qt.MouseButton.LeftButton, pos=room.canvas.rect().center())
        qtbot.waitUntil(room.full_screen.isVisible)
        qtbot.mouseDClick(room.canvas, Qt.MouseButton.LeftButton, pos=room.canvas.rect().center())
        assert not room.full_screen.isVisible() and room.canvas.isVisible()
    room.full_screen.toggle()
    room.full_screen.close()  # by the window manager
    assert room.canvas.window() is room.window() and room.canvas.isVisible()
    room.full_screen.toggle()
    qtbot.keyClick(room.full_screen, Qt.Key.Key_F11)
    assert not room.full_screen.isVisible()


def test_what_happens_meanwhile_is_seen(qtbot: QtBot, room: GenerateRoom) -> None:
    room.handle_event(whole_job(1, REQUEST)[0])
    room.handle_event(stepped(1, 1, 4))
    enter(qtbot, room)
    room.handle_event(stepped(1, 2, 4))
    assert room.canvas.image().pixelColor(0, 0).red() == 20
    room.handle_event(ImageSaved(1, 0, Path("/images/a.png"), picture(200)))
    room.handle_event(Finished(1, 1.0))
    assert room.canvas.image().pixelColor(0, 0).red() == 200 and room.full_screen.isVisible()
    room.full_screen.leave()


def test_a_finished_image_shows_its_seed_which_is_copied(qtbot: QtBot, room: GenerateRoom, qapp: QApplication) -> None:
    request = GenerateRequest("red apple", steps=4, seed=2**40, count=2)
    events = whole_job(1, request)
    for event in events[:-3]:
        room.handle_event(event)
    assert not room.seed.isVisible()
    for event in events[-3:]:
        room.handle_event(event)
    assert room.seed.text() == f"Seed {2**40}"
    room.canvas.setFocus()
    qtbot.keyClick(room.canvas, Qt.Key.Key_Right)
    assert room.seed.accessibleName() == f"Copy seed {2**40 + 1}"
    qtbot.mouseClick(room.seed, Qt.MouseButton.LeftButton)
    assert qapp.clipboard().text() == str(2**40 + 1)
    room.filmstrip.setValue(2)
    assert room.seed.isVisible()  # also while its steps are browsed

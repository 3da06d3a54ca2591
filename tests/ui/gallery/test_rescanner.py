"""What other programs do in the folder is noticed when a person comes back to the gallery."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from PySide6.QtCore import QCoreApplication, QEvent
from pytestqt.qtbot import QtBot

from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.ui.gallery import rescanner
from diffstudio.ui.gallery.room import GalleryRoom
from tests.ui.gallery.test_room import add, settle

Back = Callable[[GalleryRoom], None]


def enter_room(room: GalleryRoom) -> None:
    room.hide()
    room.show()


def activate_window(room: GalleryRoom) -> None:
    QCoreApplication.sendEvent(room, QEvent(QEvent.Type.WindowActivate))


@pytest.mark.parametrize("come_back", [enter_room, activate_window])
def test_added_and_removed_files_are_noticed_when_a_person_comes_back(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot, come_back: Back
) -> None:
    kept, removed = add(gallery, "kept"), add(gallery, "removed")
    room = show()
    removed.path.unlink()
    for folder in (gallery.folder, kept.path.parent, gallery.folder / "new" / "inner"):
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (5, 5)).save(folder / "foreign.png")
    come_back(room)
    settle(qtbot, room)
    assert {image.path.name for image in room.model.rows(0, 9)} == {kept.path.name, "foreign.png"}
    assert room.model.rowCount() == 4 and room.message.text() == "Folder rescanned: 3 added, 1 gone."


def test_nothing_is_rescanned_where_nothing_has_changed_and_nothing_is_said_twice(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add(gallery)
    room = show()
    calls = []
    real = rescanner.rescan
    monkeypatch.setattr(rescanner, "rescan", lambda *values: (calls.append(1), real(*values))[1])
    activate_window(room)
    settle(qtbot, room)
    assert not calls
    (gallery.folder / "bad.png").write_text("no image")
    activate_window(room)
    settle(qtbot, room)
    assert calls == [1] and room.message.text().startswith("Skipped: bad.png")
    room.message.hide()
    add(gallery, "more")
    activate_window(room)
    settle(qtbot, room)
    assert calls == [1, 1] and room.message.text() == ""
    gallery.folder.rename(tmp_path / "away")
    for expected in (3, 3):
        activate_window(room)
        settle(qtbot, room)
        assert len(calls) == expected and "cannot be read" in room.message.text()


def test_a_folder_that_is_away_at_the_start_is_noticed_when_it_is_back(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot, tmp_path: Path
) -> None:
    add(gallery)
    gallery.folder.rename(tmp_path / "away")
    room = show()
    assert "cannot be read" in room.message.text()
    room.message.hide()
    activate_window(room)
    settle(qtbot, room)
    assert not room.message.isVisible()
    (tmp_path / "away").rename(gallery.folder)
    activate_window(room)
    settle(qtbot, room)
    assert room.message.text() == "Folder rescanned: 1 back with their folder."


def test_nothing_is_rescanned_while_images_are_deleted(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(gallery)
    room, goes_on, calls = show(), threading.Event(), list[object]()
    real = gallery.delete
    monkeypatch.setattr(gallery, "delete", lambda ids: goes_on.wait(30) and real(ids))
    monkeypatch.setattr(rescanner, "rescan", lambda *_: calls.append(1))
    room.grid.selectAll()
    qtbot.waitUntil(lambda: len(room.chosen()) == 1)
    room.delete_chosen()
    add(gallery, "new")
    qtbot.wait(50)
    activate_window(room)
    qtbot.wait(100)
    goes_on.set()
    settle(qtbot, room)
    assert not calls and room.model.rowCount() == 0

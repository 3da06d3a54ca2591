"""Deleting many images and bringing them back, while a person goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from pytestqt.qtbot import QtBot

from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.ui.gallery.room import GalleryRoom
from diffstudio.ui.shell import gallery_changes
from tests.ui.gallery.test_room import add, open_trash, settle


@pytest.mark.parametrize("trashed", [False, True])
def test_a_second_press_while_images_are_moved_does_nothing_more(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, trashed: bool
) -> None:
    images = [add(gallery, word) for word in ("one", "two", "three")]
    if trashed:
        gallery.delete([image.id for image in images])
    room, goes_on = show(), threading.Event()
    monkeypatch.setattr(gallery_changes, "MANY", 2)
    name, press = ("undo", room.restore_chosen) if trashed else ("delete", room.delete_chosen)
    if trashed:
        open_trash(qtbot, room)
    real = getattr(gallery, name)
    monkeypatch.setattr(gallery, name, lambda ids: goes_on.wait(30) and real(ids))
    room.grid.selectAll()
    qtbot.waitUntil(lambda: len(room.chosen()) == 3)
    press()
    press()
    qtbot.waitUntil(lambda: "of 3" in room.message.text())
    goes_on.set()
    settle(qtbot, room)
    expected = "3 images restored to the gallery." if trashed else "3 images moved to the trash."
    assert room.message.text() == expected and room.model.rowCount() == 0
    assert room.message.banner.action.isVisibleTo(room.message) != trashed

"""The full view shows the file as it is now."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image
from pytestqt.qtbot import QtBot

from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.ui.gallery.room import GalleryRoom
from tests.ui.gallery.test_room import add, settle


def colour(room: GalleryRoom) -> str:
    image = room.image_view.image()
    return "" if image.isNull() else image.pixelColor(5, 5).name()


def test_an_image_that_changed_on_the_disk_is_shown_as_it_is_when_it_is_opened_again(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    image = add(gallery)
    room = show()
    room.open_image(image.path)
    qtbot.waitUntil(lambda: colour(room) == "#ff0000")
    room.close_full()
    Image.new("RGB", (90, 30), "blue").save(image.path)
    room._open(room.model.index_of(image.id))
    qtbot.waitUntil(lambda: colour(room) == "#0000ff")
    assert room.image_view._size.toTuple() == (90, 30)


def test_a_rescan_renews_the_image_that_is_open(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    image = add(gallery)
    room = show()
    room.open_image(image.path)
    qtbot.waitUntil(lambda: colour(room) == "#ff0000")
    Image.new("RGB", (90, 30), "blue").save(image.path)
    room.rescan()
    settle(qtbot, room)
    qtbot.waitUntil(lambda: colour(room) == "#0000ff")
    assert room.is_full() and [each.id for each in room.chosen()] == [image.id]

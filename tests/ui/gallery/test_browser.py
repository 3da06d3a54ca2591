"""What of the gallery is on the screen."""

from __future__ import annotations

from collections.abc import Callable

from pytestqt.qtbot import QtBot

from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.ui.gallery.room import GalleryRoom
from tests.ui.gallery.test_room import add, settle, titles


def test_a_click_on_a_tag_with_quotes_finds_its_images(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    for prompt, tag in (("one", 'q"uo te'), ("two", '"x"'), ("three", "x")):
        gallery.tag(add(gallery, prompt).id, [tag])
    room = show()
    for tag, expected in (('q"uo te', "one"), ('"x"', "two"), ("x", "three")):
        room.search_tag(tag)
        settle(qtbot, room)
        assert titles(room) == [expected], room.top_bar.search.text()

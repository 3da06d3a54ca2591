"""What of the gallery is on the screen."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from PySide6.QtCore import Qt
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


def test_images_of_an_earlier_folder_are_shown_and_a_missing_one_names_its_place(
    gallery: Gallery, qtbot: QtBot, tmp_path: Path
) -> None:
    image = add(gallery, "old")
    with closing(Gallery(tmp_path / "new", gallery.database)) as after:
        room = GalleryRoom(after)
        qtbot.addWidget(room)
        room.show()
        settle(qtbot, room)
        look_at_old_image(room, image.path, qtbot)
        room.shut_down()


def look_at_old_image(room: GalleryRoom, path: Path, qtbot: QtBot) -> None:
    assert titles(room) == ["old"] and room.model.rows(0, 0)[0].path == path
    qtbot.waitUntil(lambda: room.model.thumbnail(room.model.rows(0, 0)[0]) is not None)
    room.grid.selectAll()
    settle(qtbot, room)
    with qtbot.waitSignal(room.use_settings_requested) as used:
        room.selection_actions.use_settings()
    assert used.args is not None and used.args[0].prompt == "old"
    shutil.rmtree(path.parents[1])
    room.rescan()
    settle(qtbot, room)
    tooltip = room.model.data(room.model.index(0), Qt.ItemDataRole.ToolTipRole)
    assert str(path.parent) in tooltip and str(path.parent) in room.details.missing.text()
    room.delete_chosen()
    settle(qtbot, room)
    assert titles(room) == [] and room.message.text() == "“old” removed."

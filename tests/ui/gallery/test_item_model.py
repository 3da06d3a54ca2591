"""Many images at once: they are selected, deleted, restored and tagged without a freeze of the window."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from PySide6.QtCore import QItemSelectionModel, Qt
from pytestqt.qtbot import QtBot

from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.search import GalleryQuery, SortOrder
from diffstudio.ui.gallery.item_model import PAGE, runs
from diffstudio.ui.gallery.room import GalleryRoom
from tests.ui.gallery.test_room import add, settle

MANY = 120


@pytest.fixture
def many(gallery: Gallery) -> list[int]:
    """The ids of images without settings, the newest first."""
    ids = []
    for number in range(MANY):
        path = gallery.folder / f"{number:03}.png"
        path.write_bytes(b"not read")
        ids.append(gallery.record(path, None, 8, 8).id)
    return ids[::-1]


def select(room: GalleryRoom, rows: range) -> None:
    for row in rows:
        room.grid.selectionModel().select(room.model.index(row), QItemSelectionModel.SelectionFlag.Select)


def shown(room: GalleryRoom) -> list[int]:
    return [image.id for image in room.model.rows(0, room.model.rowCount())]


def selected(room: GalleryRoom) -> list[int]:
    return [image.id for image in room.chosen()]


@pytest.mark.parametrize("rows", [range(10, 110), range(0, MANY, 2), range(5, 8)], ids=["block", "every second", "few"])
def test_many_images_are_deleted_and_restored_with_few_changes_of_the_selection(
    gallery: Gallery, many: list[int], show: Callable[[], GalleryRoom], qtbot: QtBot, rows: range
) -> None:
    room = show()
    order = shown(room)
    select(room, rows)
    gone = [order[row] for row in rows]
    assert selected(room) == gone
    changes, messages = [], []
    room.grid.selectionModel().selectionChanged.connect(lambda *_: changes.append(1))
    room._trash.progressed.connect(lambda *values: messages.append(room.message.text()))
    room.delete_chosen()
    settle(qtbot, room)
    assert shown(room) == [each for each in order if each not in gone] and room.model.total == MANY - len(gone)
    assert len(changes) < 6
    assert room.message.text() == f"{len(gone)} images moved to the trash."
    assert bool(messages) == (len(gone) >= 50)
    assert all(text.startswith("Moving images to the trash: ") and f"of {len(gone)}…" in text for text in messages)
    room.undo()
    settle(qtbot, room)
    assert shown(room) == order and room.model.total == MANY


def test_many_changed_images_keep_their_place_and_stay_selected(
    gallery: Gallery, many: list[int], show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    room = show()
    order = shown(room)
    select(room, range(0, MANY, 2))
    before = set(selected(room))
    room.selection_actions.add_tags(["cat"])
    settle(qtbot, room)
    assert shown(room) == order and set(selected(room)) == before
    assert {image.id for image in room.model.rows(0, MANY) if image.tags} == before
    room.model.show(GalleryQuery(order=SortOrder.STARRED))
    settle(qtbot, room)
    select(room, range(1, MANY, 2))
    starred = set(selected(room))
    room.selection_actions.star_selected()
    settle(qtbot, room)
    assert set(shown(room)[: len(starred)]) == starred == set(selected(room))


def test_ctrl_a_selects_all_that_match_and_the_button_says_how_many(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    with gallery.writing() as connection:
        connection.executemany(
            "INSERT INTO images (path, created, modified_ns, size_bytes, width, height, prompt, negative, checkpoint) "
            "VALUES (?, ?, 1, 1, 64, 64, ?, '', '')",
            [(f"{number}.png", float(number), ("apple", "pear")[number % 2]) for number in range(5 * PAGE)],
        )
    room = GalleryRoom(gallery)
    qtbot.addWidget(room, before_close_func=lambda widget: widget.shut_down())
    room._shown_before = True  # a rescan would find none of these
    room.resize(1100, 700)
    room.show()
    room.model.show(GalleryQuery("apple"))
    settle(qtbot, room)
    assert room.model.rowCount() == PAGE
    room.grid.setFocus()
    qtbot.keyClick(room.grid, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    settle(qtbot, room)
    assert len(room.chosen()) == 5 * PAGE // 2 == room.grid.selected_count()
    assert room.details.delete.text() == f"Delete {5 * PAGE // 2:,}"


def test_a_refresh_keeps_the_selection_and_the_place(
    gallery: Gallery, many: list[int], show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    room = show()
    room.grid.scrollToBottom()
    scrolled = room.grid.verticalScrollBar().value()
    select(room, range(MANY - 3, MANY))
    before = selected(room)
    room.refresh()
    settle(qtbot, room)
    assert selected(room) == before and room.grid.verticalScrollBar().value() == scrolled > 0
    room.model.show(GalleryQuery(starred=True))
    settle(qtbot, room)
    assert selected(room) == []


def test_deletions_are_undone_one_after_the_other(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    images = [add(gallery, prompt) for prompt in ("a", "b", "c")]
    room = show()
    room.open_image(images[2].path)
    settle(qtbot, room)
    for left in (2, 1, 0):
        room.delete_chosen()
        settle(qtbot, room)
        assert room.model.rowCount() == left
    for back in (1, 2, 3):
        room.undo()
        settle(qtbot, room)
        assert room.model.rowCount() == back
    room.undo()
    settle(qtbot, room)
    assert room.message.text() == "There is no deletion to undo."


def test_opening_the_trash_ends_the_offer_to_undo(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    add(gallery, "a")
    room = show()
    room.grid.selectAll()
    settle(qtbot, room)
    room.delete_chosen()
    settle(qtbot, room)
    assert "moved to the trash" in room.message.text()
    room.show_trash()
    settle(qtbot, room)
    assert room.message.text() == "" and room.model.rowCount() == 1
    room.grid.selectAll()
    settle(qtbot, room)
    room.restore_chosen()
    settle(qtbot, room)
    room.leave_trash()
    settle(qtbot, room)
    room.undo()  # it is back already
    settle(qtbot, room)
    assert room.message.text() == "There is no deletion to undo."


def test_runs() -> None:
    assert runs([]) == [] and runs([1, 2, 3, 5, 8, 9]) == [(1, 3), (5, 5), (8, 9)]

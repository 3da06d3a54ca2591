"""The Gallery room as a person uses it."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PySide6.QtCore import QModelIndex, QPoint, QPointF, Qt
from PySide6.QtGui import QImage, QWheelEvent
from PySide6.QtWidgets import QApplication, QFileDialog, QMenu, QMessageBox, QPushButton, QWidget
from pytestqt.qtbot import QtBot

from diffstudio.errors import StorageProblem
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.records import GalleryImage
from diffstudio.studio.gallery.search import GalleryQuery, Period, SortOrder
from diffstudio.studio.gallery.view_state import GalleryViewState
from diffstudio.studio.metadata import metadata
from diffstudio.studio.requests import ControlNetUse, GenerateRequest, SamplerName, SpacingName
from diffstudio.ui.gallery.grid import star_rect, thumbnail_rect
from diffstudio.ui.gallery.item_model import PAGE, GalleryModel
from diffstudio.ui.gallery.layout import NARROW
from diffstudio.ui.gallery.room import GalleryRoom
from diffstudio.ui.tasks import NewestFirstQueue, Tasks
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.inputs.combo_box import ComboBox


def settle(qtbot: QtBot, room: GalleryRoom) -> None:
    """Wait until everything that was asked for is done and shown."""
    qtbot.waitUntil(lambda: not room.busy())


def add(
    gallery: Gallery, prompt: str = "red apple", colour: str = "red", size: tuple[int, int] = (64, 48), **more: Any
) -> GalleryImage:
    return gallery.add(Image.new("RGB", size, colour), GenerateRequest(prompt=prompt, **more), extra={"device": "cpu"})


def titles(room: GalleryRoom) -> list[str]:
    return [room.model.data(room.model.index(row)) for row in range(room.model.rowCount())]


def click(qtbot: QtBot, button: QWidget) -> None:
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def pick(
    qtbot: QtBot, room: GalleryRoom, row: int, modifier: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier
) -> None:
    spot = thumbnail_rect(room.grid.visualRect(room.model.index(row))).center()
    qtbot.mouseClick(room.grid.viewport(), Qt.MouseButton.LeftButton, modifier, spot)


def test_an_empty_gallery_invites(qtbot: QtBot, show: Callable[[], GalleryRoom]) -> None:
    room = show()
    assert not room.details.tags.isVisibleTo(room.details), "there is nothing to tag"
    assert room.empty.isVisible() and not room.details.isVisible()
    assert room.empty.button is not None
    with qtbot.waitSignal(room.generate_requested):
        click(qtbot, room.empty.button)


def test_a_picture_made_while_the_room_is_open_appears_first(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    add(gallery, "old")
    room = show()
    room.image_added(add(gallery, "new").path)
    settle(qtbot, room)
    assert titles(room) == ["new", "old"]
    assert room.top_bar.count_label.text() == "2 images"
    room.image_added(gallery.images()[0].path)
    settle(qtbot, room)
    assert room.model.rowCount() == 2
    room.image_added(Path("/elsewhere/x.png"))
    settle(qtbot, room)
    qtbot.waitUntil(lambda: room.model.thumbnail(gallery.images()[0]) is not None)
    assert room.grid.isVisible() and not room.empty.isVisible()


def test_the_settings_of_the_chosen_picture_are_shown_and_reused(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    add(
        gallery,
        "a ghost",
        seed=2**62,
        steps=31,
        guidance=4.5,
        sampler=SamplerName.DPMPP_2M_SDE,
        negative="fog",
        spacing=SpacingName.LOG_SNR,
    )
    room = show()
    pick(qtbot, room, 0)
    qtbot.waitUntil(lambda: ("Program", f"diffstudio {metadata.__version__}") in room.details.facts.facts())
    facts = dict(room.details.facts.facts())
    assert room.details.prompt.text() == "a ghost" and room.details.negative.text() == "fog"
    assert (facts["Seed"], facts["Steps"], facts["CFG scale"]) == (str(2**62), "31", "4.5")
    assert (facts["Sampler"], facts["Scheduler"], facts["Size"]) == ("DPM++ 2M SDE", "Log-SNR", "64 × 48 px")
    assert facts["Computed on"] == "CPU"
    with qtbot.waitSignal(room.use_settings_requested) as caught:
        click(qtbot, room.details.use_settings)
    assert caught.args[0] == gallery.images()[0].request
    with qtbot.waitSignal(room.use_settings_requested):
        qtbot.keyClick(room.grid, Qt.Key.Key_U, Qt.KeyboardModifier.ControlModifier)


def test_what_steered_a_picture_and_what_decoded_it_is_told(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    add(
        gallery,
        "a ghost <lora:ink:0.5>",
        init=Path("/a/start.png"),
        outpaint=(0, 0, 32, 16),
        vae="vae/softer.safetensors",
        controls=(
            ControlNetUse("sd15_canny", Path("/a/lines.png"), scale=0.8),
            ControlNetUse("sd15_depth", Path("/a/depth.png")),
        ),
    )
    room = show()
    pick(qtbot, room, 0)
    assert titles(room) == ["a ghost"] and room.details.prompt.text() == "a ghost <lora:ink:0.5>"
    facts = room.details.facts.facts()
    for fact in (
        ("Init image", "start.png"),
        ("Outpaint", "32 px right, 16 px below"),
        ("VAE", "softer"),
        ("ControlNet", "lines.png, sd15_canny at 0.8"),
        ("ControlNet", "depth.png, sd15_depth at 1"),
    ):
        assert fact in facts


def test_another_programs_picture_tells_what_was_not_taken_over(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text(
        "parameters", "a fort\nSteps: 9, Sampler: Euler a, CFG scale: 7, Seed: 4, Face restoration: CodeFormer"
    )
    Image.new("RGB", (32, 32)).save(gallery.folder / "theirs.png", pnginfo=info)
    Image.new("RGB", (32, 32)).save(gallery.folder / "photo.png")
    room = show()  # the first look finds both
    qtbot.waitUntil(lambda: room.model.rowCount() == 2)
    assert "2 added" in room.message.text()
    row = titles(room).index("a fort")
    pick(qtbot, room, row)
    qtbot.waitUntil(room.details.not_imported.isVisible)
    assert "Face restoration: CodeFormer" in room.details.not_imported.text()
    assert ("Program", "AUTOMATIC1111") in room.details.facts.facts()
    pick(qtbot, room, 1 - row)
    assert room.details.placeholder.isVisible() and not room.details.use_settings.isVisible()
    assert not room.details.not_imported.isVisible()


def test_searching_and_the_filter_for_stars(gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot) -> None:
    for word in ("red apple", "rocket", "green apple"):
        add(gallery, word)
    room = show()
    qtbot.keyClick(room.grid, Qt.Key.Key_F, Qt.KeyboardModifier.ControlModifier)
    assert room.top_bar.search.hasFocus()
    qtbot.keyClicks(room.top_bar.search, "apple")
    qtbot.waitUntil(lambda: titles(room) == ["green apple", "red apple"])
    assert room.top_bar.count_label.text() == "2 images"
    corner = star_rect(room.grid.visualRect(room.model.index(1))).center()
    qtbot.mouseClick(room.grid.viewport(), Qt.MouseButton.LeftButton, pos=corner)
    settle(qtbot, room)
    assert gallery.count(starred=True) == 1
    click(qtbot, room.top_bar.starred)
    settle(qtbot, room)
    assert titles(room) == ["red apple"]
    pick(qtbot, room, 0)
    qtbot.keyClick(room.grid, Qt.Key.Key_D, Qt.KeyboardModifier.ControlModifier)
    settle(qtbot, room)
    assert room.no_matches.isVisible()  # unstarred, it leaves the starred
    assert room.no_matches.button is not None
    click(qtbot, room.no_matches.button)
    settle(qtbot, room)
    assert len(titles(room)) == 3 and room.top_bar.search.text() == "" and not room.top_bar.starred.isChecked()
    room.top_bar.search.setText("rock")
    qtbot.keyClick(room.top_bar.search, Qt.Key.Key_Return)
    settle(qtbot, room)
    room.image_added(add(gallery, "an owl").path)
    settle(qtbot, room)
    assert titles(room) == ["rocket"]
    room.image_added(add(gallery, "rocket two").path)
    settle(qtbot, room)
    assert titles(room) == ["rocket two", "rocket"]


def test_delete_and_undo_by_keyboard_and_by_banner(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    images = [add(gallery, word) for word in ("one", "two", "three", "four")]
    room = show()
    with qtbot.waitSignal(room.changed):
        pick(qtbot, room, 1)
        qtbot.keyClick(room.grid, Qt.Key.Key_Delete)
        settle(qtbot, room)
    assert titles(room) == ["four", "two", "one"]
    assert "“three” moved to the trash" in room.message.text()
    assert not images[2].path.exists()
    assert room.current() == gallery.get(images[1].id)  # the next one is chosen
    assert room.top_bar.trash.isVisible()
    click(qtbot, room.message.banner.action)
    settle(qtbot, room)
    assert titles(room) == ["four", "three", "two", "one"] and images[2].path.exists()
    assert room.message.text() == "" and not room.top_bar.trash.isVisible()
    pick(qtbot, room, 0)
    pick(qtbot, room, 2, Qt.KeyboardModifier.ShiftModifier)
    assert "3 images selected" in room.details.placeholder.text()
    click(qtbot, room.details.delete)
    settle(qtbot, room)
    assert titles(room) == ["one"] and "3 images moved" in room.message.text()
    qtbot.keyClick(room.grid, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    settle(qtbot, room)
    assert titles(room) == ["four", "three", "two", "one"]
    qtbot.keyClick(room.grid, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)  # nothing is left to undo
    settle(qtbot, room)
    assert len(titles(room)) == 4


def test_what_is_still_being_deleted_when_the_trash_is_opened_appears_in_it(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    for word in ("one", "two"):
        add(gallery, word)
    room, opened, delete = show(), threading.Event(), Gallery.delete

    def late(self: Gallery, image_ids: Any) -> Any:  # in a thread
        assert opened.wait(30)
        return delete(self, image_ids)

    monkeypatch.setattr(Gallery, "delete", late)
    pick(qtbot, room, 0)
    qtbot.keyClick(room.grid, Qt.Key.Key_Delete)
    room.show_trash()
    qtbot.waitUntil(room.in_trash)
    opened.set()
    qtbot.waitUntil(lambda: titles(room) == ["two"] and "1 image" in room.trash_bar.heading.text())
    settle(qtbot, room)
    assert room.in_trash() and titles(room) == ["two"]


def test_what_cannot_be_deleted_is_said(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(gallery)
    room = show()

    def refuse(_: object) -> list[int]:  # in a thread
        raise StorageProblem("x.png could not be deleted", "the folder may not be written to", "Look at its rights")

    monkeypatch.setattr(gallery, "delete", refuse)
    pick(qtbot, room, 0)
    qtbot.keyClick(room.grid, Qt.Key.Key_Delete)
    settle(qtbot, room)
    assert room.message.text() == "x.png could not be deleted: the folder may not be written to. Look at its rights."
    assert room.model.rowCount() == 1


def test_one_picture_large_with_zoom_and_neighbours(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    for word, colour in (("one", "red"), ("two", "green"), ("three", "blue")):
        add(gallery, word, colour, (100, 50))
    room = show()
    pick(qtbot, room, 1)
    qtbot.keyClick(room.grid, Qt.Key.Key_Return)
    assert room.is_full() and room.image_view.hasFocus()
    qtbot.waitUntil(lambda: room.image_view.image().size().width() == 100)
    assert room.image_view.image().pixelColor(50, 25).green() > 100
    fitted = room.image_view.zoom()
    assert fitted > 1 and room.full.zoom.percent.text() == f"{100 * fitted:.0f}%"
    qtbot.keyClick(room.image_view, Qt.Key.Key_Right)
    assert room.details.prompt.text() == "one" and not room.full.next.isEnabled()
    qtbot.keyClick(room.image_view, Qt.Key.Key_Right)  # the last: nothing follows
    assert room.details.prompt.text() == "one"
    click(qtbot, room.full.previous)
    assert room.details.prompt.text() == "two"
    qtbot.waitUntil(lambda: not room.image_view.image().isNull())
    qtbot.keyClick(room.image_view, Qt.Key.Key_1)
    assert room.image_view.zoom() == 1.0 and room.full.zoom.percent.text() == "100%"
    qtbot.keyClick(room.image_view, Qt.Key.Key_Plus)
    assert room.image_view.zoom() == 2
    for _ in range(6):  # larger than the view: one that fits stays in its middle
        qtbot.keyClick(room.image_view, Qt.Key.Key_Plus)
    large = room.image_view.zoom()
    spot = room.image_view.image_rect().center() + QPointF(30, 12)
    before = _image_point(room, spot)
    _wheel(room.image_view, spot, 120)
    assert large < room.image_view.zoom() < 32
    moved = (_image_point(room, spot) - before) * room.image_view.zoom()
    assert moved.manhattanLength() <= 2  # what is under the pointer stays there, to a px
    for _ in range(60):
        click(qtbot, room.full.zoom.zoom_in)
    assert room.image_view.zoom() == 32.0
    click(qtbot, room.full.zoom.percent)
    assert room.image_view.is_fitted() and room.image_view.zoom() == pytest.approx(fitted)
    qtbot.keyClick(room.image_view, Qt.Key.Key_Delete)
    settle(qtbot, room)
    assert room.is_full() and room.details.prompt.text() == "one" and room.model.rowCount() == 2
    qtbot.keyClick(room.image_view, Qt.Key.Key_Escape)
    assert not room.is_full() and room.grid.hasFocus()


def _image_point(room: GalleryRoom, at: QPointF) -> QPointF:
    return (at - room.image_view.image_rect().topLeft()) / room.image_view.zoom()


def _wheel(widget: QWidget, at: QPointF, turned: int) -> None:
    event = QWheelEvent(
        at,
        QPointF(widget.mapToGlobal(at.toPoint())),
        QPoint(),
        QPoint(0, turned),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(widget, event)


def test_a_small_image_is_shown_pixel_by_pixel_in_the_full_view_and_compared(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    halves = Image.new("RGB", (8, 8), "black")
    halves.paste("white", (4, 0, 8, 8))
    for prompt in ("one", "two"):
        gallery.add(halves, GenerateRequest(prompt=prompt), extra={})
    room = show()
    qtbot.waitUntil(lambda: room.model.rowCount() == 2)
    room.grid.setCurrentIndex(room.model.index(0))
    room.grid.setFocus()
    qtbot.keyClick(room.grid, Qt.Key.Key_Return)
    qtbot.waitUntil(room.is_full)
    qtbot.waitUntil(lambda: not room.image_view.grab().isNull() and not room.busy())
    qtbot.waitUntil(lambda: room.image_view.image_rect().width() > 100)
    room.compare([room.model.image(room.model.index(row)).path for row in (0, 1)])
    qtbot.waitUntil(lambda: room.is_comparing() and not room.compare_view.pane.image(1).isNull())
    for view, place in (
        (room.image_view, room.image_view.image_rect()),
        (room.compare_view.pane, room.compare_view.pane.image_rect(0)),
    ):
        seen, y = view.grab().toImage(), round(place.center().y())
        middle = range(round(place.x()) + 20, round(place.right()) - 20)
        assert {seen.pixelColor(x, y).lightness() for x in middle} == {0, 255}, "no grey between black and white"


def test_deleting_the_last_picture_in_the_full_view_ends_in_the_empty_gallery(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    image = add(gallery)
    room = show()
    room.open_image(Path("/nowhere.png"))
    settle(qtbot, room)
    assert not room.is_full()
    room.open_image(image.path)
    settle(qtbot, room)
    assert room.is_full()
    qtbot.keyClick(room.image_view, Qt.Key.Key_Delete)
    settle(qtbot, room)
    assert not room.is_full() and room.empty.isVisible() and not room.details.isVisible()
    click(qtbot, room.message.banner.action)
    settle(qtbot, room)
    assert room.grid.isVisible() and titles(room) == ["red apple"]


def test_a_picture_that_vanished_says_so(gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot) -> None:
    image = add(gallery)
    room = show()
    image.path.unlink()
    pick(qtbot, room, 0)
    qtbot.keyClick(room.grid, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: "cannot be read" in room.image_view.accessibleDescription())
    qtbot.keyClick(room.image_view, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert "cannot be read" in room.message.text()
    room.close_full()
    room.rescan()
    qtbot.waitUntil(room.empty.isVisible)
    assert "1 gone" in room.message.text()


def test_copy_and_drag_carry_the_file_and_the_pixels(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    image, other = add(gallery, colour="blue"), add(gallery)
    room = show()
    pick(qtbot, room, 1)
    qtbot.keyClick(room.grid, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    data = QApplication.clipboard().mimeData()
    assert [Path(url.toLocalFile()) for url in data.urls()] == [image.path]
    pixels = data.imageData()
    assert isinstance(pixels, QImage) and pixels.pixelColor(3, 3).blue() == 255
    dragged = room.model.mimeData([room.model.index(0), room.model.index(1)])
    assert [Path(url.toLocalFile()) for url in dragged.urls()] == [other.path, image.path]
    assert room.model.flags(room.model.index(0)) & Qt.ItemFlag.ItemIsDragEnabled


def test_save_as_asks_where_and_keeps_the_settings(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot, tmp_path: Path
) -> None:
    add(gallery, "keep me", seed=3)
    room = show()
    pick(qtbot, room, 0)
    qtbot.keyClick(room.grid, Qt.Key.Key_S, Qt.KeyboardModifier.ControlModifier)
    dialog = room.findChild(QFileDialog)
    assert dialog is not None and dialog.isVisible()
    dialog.fileSelected.emit(str(tmp_path / "mine.webp"))
    dialog.close()
    settle(qtbot, room)
    assert metadata.read(tmp_path / "mine.webp").request.seed == 3
    assert room.message.text() == f"Saved as {tmp_path / 'mine.webp'}."
    room.selection_actions.save_as()
    dialog = room.findChildren(QFileDialog)[-1]
    dialog.fileSelected.emit(str(tmp_path / "nowhere" / "x.png"))
    dialog.close()
    settle(qtbot, room)
    assert "could not be written" in room.message.text()


@pytest.mark.qt_log_ignore("grabbing the keyboard", extend=True)  # the offscreen platform, about itself
def test_the_menu_offers_what_works(gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot) -> None:
    add(gallery)
    Image.new("RGB", (8, 8)).save(gallery.folder / "photo.png")
    os.utime(gallery.folder / "photo.png", (1, 1))
    room = show()
    qtbot.waitUntil(lambda: room.model.rowCount() == 2)
    for row, expected in ((0, True), (1, False)):
        pick(qtbot, room, row)
        room.grid.customContextMenuRequested.emit(QPoint(5, 5))
        menu = room.findChildren(QMenu)[-1]
        texts = [action.text() for action in menu.actions()]
        assert ("Use settings" in texts) is expected
        assert {"Open", "Star", "Copy image", "Use for img2img", "Save as…", "Show in folder", "Delete"} <= set(texts)
        menu.close()


def test_the_trash_is_a_place_to_look_into(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [add(gallery, word) for word in ("one", "two", "three")]
    gallery.delete([image.id for image in images[:2]])
    room = show()
    open_trash(qtbot, room)
    assert titles(room) == ["two", "one"] and room.trash_bar.heading.text() == "Trash: 2 images"
    assert not room.top_bar.isVisible() and not room.trash_bar.restore.isEnabled()
    pick(qtbot, room, 0)
    assert room.details.restore.isVisible() and not room.details.star.isVisible()
    assert "Deleted" in dict(room.details.facts.facts()) and room.details.note.isReadOnly()
    assert dict(room.details.facts.facts())["File"] == images[1].path.name, "the name that it had"
    qtbot.keyClick(room.grid, Qt.Key.Key_D, Qt.KeyboardModifier.ControlModifier)  # nothing is starred in the trash
    with qtbot.waitSignal(room.changed):
        click(qtbot, room.trash_bar.restore)
    settle(qtbot, room)
    assert titles(room) == ["one"] and "1 image restored" in room.message.text() and images[1].path.is_file()
    qtbot.keyClick(room.grid, Qt.Key.Key_Escape)
    settle(qtbot, room)
    assert titles(room) == ["three", "two"] and room.top_bar.isVisible() and gallery.count(starred=True) == 0


def test_a_copy_of_an_image_in_the_trash_has_the_images_own_name(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    image = add(gallery, "one")
    gallery.delete([image.id])
    room = show()
    open_trash(qtbot, room)
    pick(qtbot, room, 0)
    click(qtbot, room.details.save)
    dialog = room.findChild(QFileDialog)
    assert dialog is not None and [Path(file).name for file in dialog.selectedFiles()] == [image.path.name]
    dialog.close()
    menu = room.selection_actions.menu(None)
    assert "Save as…" in {action.text() for action in menu.actions() if action.isEnabled()}


def test_the_trash_takes_the_place_of_a_comparison(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    images = [add(gallery, word) for word in ("one", "two", "three")]
    gallery.delete([images[0].id])
    room = show()
    room.compare([image.path for image in images[1:]])
    qtbot.waitUntil(room.is_comparing)
    room.show_trash()
    settle(qtbot, room)
    assert titles(room) == ["one"] and room.trash_bar.isVisible() and room.grid.isVisible()


def test_images_in_the_trash_are_deleted_for_good_or_handed_to_the_systems_trash(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [add(gallery, word) for word in ("one", "two", "three")]
    gallery.delete([image.id for image in images])
    room = show()
    open_trash(qtbot, room)
    pick(qtbot, room, 1)
    qtbot.keyClick(room.grid, Qt.Key.Key_Delete)
    _answer(qtbot, room, "Cancel")
    settle(qtbot, room)
    assert gallery.trash_count() == 3
    click(qtbot, room.details.delete)
    assert f"Delete {images[1].path.name} permanently?" in {box.text() for box in room.findChildren(QMessageBox)}
    _answer(qtbot, room, "Delete permanently")
    settle(qtbot, room)
    assert titles(room) == ["three", "one"] and room.message.text() == "1 image deleted permanently."
    taken: list[str] = []
    monkeypatch.setattr("send2trash.send2trash", lambda path: (taken.append(str(path)), os.unlink(path)))
    click(qtbot, room.trash_bar.empty)
    _answer(qtbot, room, "Empty trash")
    settle(qtbot, room)
    assert len(taken) == 2 and gallery.trash_count() == 0 and room.empty_trash.isVisible()
    assert "2 images moved to the system trash" in room.message.text()
    click(qtbot, room.empty_trash.button)
    settle(qtbot, room)
    assert room.empty.isVisible() and not room.top_bar.trash.isVisible()


def open_trash(qtbot: QtBot, room: GalleryRoom) -> None:
    click(qtbot, room.top_bar.trash)
    settle(qtbot, room)


def _answer(qtbot: QtBot, room: GalleryRoom, text: str) -> None:
    box = room.findChildren(QMessageBox)[-1]
    button = next(button for button in box.findChildren(QPushButton) if button.text().replace("&", "") == text)
    click(qtbot, button)


def test_pages_are_fetched_as_they_are_scrolled_to(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    total = 3 * PAGE
    with gallery.writing() as connection:
        connection.executemany(
            "INSERT INTO images (path, created, modified_ns, size_bytes, width, height, prompt, negative, checkpoint) "
            "VALUES (?, ?, 1, 1, 64, 64, '', '', '')",
            [(f"{number}.png", float(number)) for number in range(total)],
        )
    thumbnails, tasks = NewestFirstQueue("test"), Tasks("test", workers=1)
    model = GalleryModel(gallery, thumbnails, tasks)
    idle = lambda: not tasks.busy()  # noqa: E731
    model.show()
    qtbot.waitUntil(idle)
    assert model.rowCount() == PAGE and model.total == total and model.canFetchMore(QModelIndex())
    newest = add(gallery, "newest")
    tasks.start(model.insert([newest]))
    qtbot.waitUntil(idle)
    while model.has_more():
        model.fetchMore(QModelIndex())
        qtbot.waitUntil(idle)
    names = [image.path.name for row in range(model.rowCount()) if (image := model.image(model.index(row)))]
    assert names == [newest.path.name, *(f"{number}.png" for number in reversed(range(total)))]
    model.remove(gallery.delete([newest.id]))
    qtbot.waitUntil(idle)
    assert model.rowCount() == model.total == total
    thumbnails.close()
    tasks.close()


def test_rows_that_come_and_go_while_a_page_is_read_shift_nothing(gallery: Gallery, qtbot: QtBot) -> None:
    with gallery.writing() as connection:
        connection.executemany(
            "INSERT INTO images (path, created, modified_ns, size_bytes, width, height, prompt, negative, checkpoint) "
            "VALUES (?, ?, 1, 1, 64, 64, '', '', '')",
            [(f"{number}.png", float(number)) for number in range(2 * PAGE)],
        )
    thumbnails, tasks = NewestFirstQueue("test"), Tasks("test", workers=1)
    model = GalleryModel(gallery, thumbnails, tasks)
    model.show()
    qtbot.waitUntil(lambda: not tasks.busy())
    first = [image.id for row in range(3) if (image := model.image(model.index(row)))]
    model.fetchMore(QModelIndex())
    model.remove(gallery.delete(first))  # before the page arrives
    qtbot.waitUntil(lambda: not tasks.busy())
    while model.has_more():
        model.fetchMore(QModelIndex())
        qtbot.waitUntil(lambda: not tasks.busy())
    assert model.rowCount() == 2 * PAGE - 3 == model.total
    model.show(GalleryQuery("no such word"))
    model.show()  # the answer to the first question is not shown
    qtbot.waitUntil(lambda: not tasks.busy())
    assert model.rowCount() == 2 * PAGE - 3
    thumbnails.close()
    tasks.close()


def test_the_model_keeps_qts_rules(gallery: Gallery, qtbot: QtBot, qtmodeltester: Any) -> None:
    images = [add(gallery, word) for word in ("one", "two", "three")]
    thumbnails, tasks = NewestFirstQueue("test"), Tasks("test", workers=1)
    model = GalleryModel(gallery, thumbnails, tasks)
    qtmodeltester.check(model)
    for change in (
        lambda: model.show(),
        lambda: model.remove([images[1].id]),
        lambda: tasks.start(model.insert([images[1]])),
        lambda: model.show(GalleryQuery("two")),
    ):
        change()
        qtbot.waitUntil(lambda: not tasks.busy())
        qtmodeltester.check(model)
    thumbnails.close()
    tasks.close()


def test_the_windows_thread_never_touches_the_database(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [add(gallery, word) for word in ("one", "two", "three")]
    connection, found = gallery._connection, []

    def watched() -> Any:
        if threading.current_thread() is threading.main_thread():
            found.append("".join(traceback.format_stack(limit=6)))
        return connection()

    monkeypatch.setattr(gallery, "_connection", watched)
    monkeypatch.setattr("send2trash.send2trash", os.unlink)
    room = show()
    pick(qtbot, room, 0)
    for key in (Qt.Key.Key_D, Qt.Key.Key_F):
        qtbot.keyClick(room.grid, key, Qt.KeyboardModifier.ControlModifier)
        settle(qtbot, room)
    room.image_added(images[0].path)
    room.open_image(images[1].path)
    settle(qtbot, room)
    qtbot.keyClick(room.image_view, Qt.Key.Key_Right)
    qtbot.keyClick(room.image_view, Qt.Key.Key_Delete)
    qtbot.keyClick(room.image_view, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)  # waits for the deletion
    settle(qtbot, room)
    assert room.model.rowCount() == 3
    room.close_full()
    qtbot.keyClick(room.grid, Qt.Key.Key_Delete)
    settle(qtbot, room)
    open_trash(qtbot, room)
    click(qtbot, room.trash_bar.empty)
    _answer(qtbot, room, "Empty trash")
    settle(qtbot, room)
    room.leave_trash()
    room.top_bar.search.setText("one")
    room.refresh()
    room.clear_filters()
    room.rescan()
    settle(qtbot, room)
    assert room.model.rowCount() == 2
    assert found == []


def test_a_note_is_saved_when_the_typing_pauses_the_selection_changes_or_the_window_closes(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    first, second = add(gallery, "one"), add(gallery, "two")
    room = show()
    assert not room.details.note.isVisible()
    pick(qtbot, room, 1)
    room.details.note.setFocus()
    qtbot.keyClicks(room.details.note, "hands ")
    qtbot.keyClick(room.details.note, Qt.Key.Key_X)
    qtbot.keyClick(room.details.note, Qt.Key.Key_Backspace)
    qtbot.keyClick(room.details.note, Qt.Key.Key_Delete)  # in the text: no image is deleted
    qtbot.waitUntil(lambda: (record := gallery.get(first.id)) is not None and record.note == "hands ")
    settle(qtbot, room)
    assert room.details.note.toPlainText() == "hands " and room.model.rowCount() == 2
    qtbot.keyClicks(room.details.note, "are odd")
    pick(qtbot, room, 0)
    settle(qtbot, room)
    record = gallery.get(first.id)
    assert record is not None and record.note == "hands are odd" and room.details.note.toPlainText() == ""
    room.details.note.insertPlainText("keep")
    room.shut_down()
    record = gallery.get(second.id)
    assert record is not None and record.note == "keep"


def test_a_rescan_that_finds_nothing_says_so_only_when_it_was_asked_for(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    add(gallery, "one")
    room = show()
    assert room.message.text() == ""
    click(qtbot, room.top_bar.rescan_button)
    settle(qtbot, room)
    assert room.message.text() == "Folder rescanned: nothing has changed."


def test_undo_by_keyboard_after_the_last_image_was_deleted(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    """The grid is hidden then: the focus must not leave the room, whose shortcut this is."""
    add(gallery, "one")
    room = show()
    room.activateWindow()
    pick(qtbot, room, 0)
    qtbot.waitUntil(room.grid.hasFocus)
    qtbot.keyClick(room.grid, Qt.Key.Key_Delete)
    settle(qtbot, room)
    assert room.empty.isVisible() and room.empty.button.hasFocus()
    qtbot.keyClick(room.empty.button, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    settle(qtbot, room)
    assert titles(room) == ["one"] and room.grid.hasFocus()
    qtbot.keyClick(room.grid, Qt.Key.Key_Delete)
    settle(qtbot, room)
    room.message.banner.action.setFocus()
    qtbot.keyClick(room.message.banner.action, Qt.Key.Key_Space)
    settle(qtbot, room)
    assert titles(room) == ["one"] and room.grid.hasFocus()
    room.top_bar.rescan_button.setFocus()
    qtbot.keyClick(room.top_bar.rescan_button, Qt.Key.Key_Space)
    assert room.grid.hasFocus()
    settle(qtbot, room)


def test_images_of_a_missing_folder_are_greyed_until_it_is_back(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    image = add(gallery, "far away", "red")
    gallery.star(image.id)
    room = show()
    qtbot.waitUntil(lambda: room.model.thumbnail(image) is not None)
    index = room.model.index(0)
    middle = thumbnail_rect(room.grid.visualRect(index)).center() + QPoint(30, 30)
    before = room.grid.viewport().grab().toImage().pixelColor(middle)
    assert before.red() > 200 and before.blue() < 60
    away = gallery.folder.with_name("away")
    gallery.folder.rename(away)
    room.rescan()
    settle(qtbot, room)
    assert "cannot be read" in room.message.text() and titles(room) == ["far away"]
    assert f"Its folder is missing: {image.path.parent}" in room.model.data(index, Qt.ItemDataRole.ToolTipRole)
    assert room.model.data(index, Qt.ItemDataRole.AccessibleTextRole).endswith("starred, missing")
    grey = room.grid.viewport().grab().toImage().pixelColor(middle)
    assert max(grey.red(), grey.green(), grey.blue()) - min(grey.red(), grey.green(), grey.blue()) < 30
    pick(qtbot, room, 0)
    qtbot.keyClick(room.grid, Qt.Key.Key_D, Qt.KeyboardModifier.ControlModifier)
    settle(qtbot, room)
    assert "is missing. Connect its drive" in room.message.text()
    away.rename(gallery.folder)
    room.rescan()
    settle(qtbot, room)
    assert "1 back with their folder" in room.message.text()
    assert "missing" not in room.model.data(index, Qt.ItemDataRole.ToolTipRole)
    (gallery.folder / image.path.parent.name).rename(away)
    room.rescan()
    settle(qtbot, room)
    assert "1 missing with their folder" in room.message.text() and room.message.banner.property("kind") == "warn"
    pick(qtbot, room, 0)
    assert "Its folder is missing" in room.details.missing.text() and room.details.missing.isVisible()
    qtbot.keyClick(room.grid, Qt.Key.Key_Delete)
    settle(qtbot, room)
    assert "“far away” removed. Files come back with their folders." in room.message.text()
    away.rename(image.path.parent)
    room.rescan()
    settle(qtbot, room)
    assert titles(room) == ["far away"] and gallery.count(starred=True) == 1


def test_narrow_wide_light_and_dark_all_fit(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot, qapp: QApplication
) -> None:
    add(gallery, "word " * 400 + "x" * 3000, negative="n" * 500, checkpoint="c" * 200)
    room = show()
    pick(qtbot, room, 0)
    for wish in ("light", "dark"):
        theme.apply(qapp, wish)
        for width in (500, NARROW, 1900):
            qtbot.waitUntil(lambda width=width: room.resize(width, 500) or room.width() == width)
            assert room.details.isVisible() is (width >= NARROW)
            for part in (room.details.prompt, room.details.facts, room.top_bar.rescan_button):
                if part.isVisible():
                    qtbot.waitUntil(lambda part=part: part.mapTo(room, QPoint(part.width(), 0)).x() <= room.width())
            assert not room.grab().isNull()
    qtbot.waitUntil(lambda: room.resize(500, 500) or room.width() == 500)
    qtbot.keyClick(room.grid, Qt.Key.Key_Return)
    assert room.details.isVisible() and room.minimumSizeHint().width() <= 880  # of the smallest window


def test_every_control_has_a_name_and_a_tip(gallery: Gallery, show: Callable[[], GalleryRoom]) -> None:
    add(gallery)
    room = show()
    for button in room.findChildren(QPushButton):
        if not button.objectName().startswith("qt_"):
            assert button.accessibleName(), button.text()
            assert button.toolTip() or not button.isEnabled() or button.isHidden(), button.text()
    assert room.top_bar.search.accessibleName() and room.grid.accessibleName() and room.image_view.accessibleName()


def test_closing_in_the_middle_of_thumbnails_leaves_nothing_running(
    gallery: Gallery, show: Callable[[], GalleryRoom]
) -> None:
    for number in range(30):
        add(gallery, f"picture {number}")
    room = show()
    room.refresh()
    room.grab()
    room.shut_down()
    assert not room._thumbnails.busy()


def test_settings_of_a_newer_program_are_not_called_absent(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    image = add(gallery)
    with gallery.writing() as connection:
        connection.execute(
            "UPDATE images SET request = ? WHERE id = ?", ['{"kind": "generate", "format": 99}', image.id]
        )
    room = show()
    qtbot.waitUntil(lambda: room.model.rowCount() == 1)
    pick(qtbot, room, 0)
    assert "cannot be read by this version" in room.details.placeholder.text()


def test_images_restored_before_one_that_cannot_be_are_shown(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [add(gallery, colour=colour) for colour in ("red", "blue")]
    gallery.delete([image.id for image in images])
    room, undo = show(), gallery.undo

    def fails_at_the_second(image_ids: list[int]) -> list[int]:
        if images[0].id in image_ids:
            raise StorageProblem("The second could not be brought back", "the disk is full")
        return undo(image_ids)

    monkeypatch.setattr(gallery, "undo", fails_at_the_second)
    room._trash.restore(gallery.trashed())
    settle(qtbot, room)
    assert room.model.rowCount() == 1 and "could not be brought back" in room.message.text()


def test_an_image_whose_thumbnail_cannot_be_stored_is_shown_all_the_same(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(image: GalleryImage) -> Path:
        raise StorageProblem("The thumbnail could not be saved", "the disk is full")

    monkeypatch.setattr(gallery, "thumbnail", full)
    image = add(gallery, colour="blue")
    room = show()
    qtbot.waitUntil(lambda: room.model.thumbnail(image) is not None)
    assert not room.model.unreadable(image)


# Order, filters, thumbnail size


def test_the_order_the_period_and_the_thumbnail_size_are_chosen_and_kept(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    for word, seed in (("pear", 3), ("apple", 1), ("fig", 2)):
        add(gallery, word, seed=seed)
    os.utime(gallery.images()[2].path, (1e9, 1e9))
    room = show()
    settle(qtbot, room)
    seen: list[GalleryViewState] = []
    room.view_changed.connect(seen.append)
    for order, expected in (
        (SortOrder.PROMPT, ["apple", "fig", "pear"]),
        (SortOrder.SEED, ["apple", "fig", "pear"]),
        (SortOrder.OLDEST, ["pear", "apple", "fig"]),
    ):
        choose(qtbot, room.top_bar.order, order)
        settle(qtbot, room)
        assert titles(room) == expected and seen[-1].query.order is order
    choose(qtbot, room.top_bar.period, Period.WEEK)
    settle(qtbot, room)
    assert titles(room) == ["apple", "fig"] and room.top_bar.count_label.text() == "2 images"
    before = room.grid.gridSize().width()
    room.top_bar.cell.setValue(240)
    assert room.grid.gridSize().width() > before and seen[-1].cell == 240
    again = GalleryRoom(gallery, seen[-1])
    qtbot.addWidget(again, before_close_func=lambda widget: widget.shut_down())
    with qtbot.waitExposed(again):
        again.show()
    settle(qtbot, again)
    assert titles(again) == ["apple", "fig"] and again.grid.cell() == again.top_bar.cell.value() == 240
    again.image_added(add(gallery, "kiwi").path)  # it comes last in this order
    settle(qtbot, again)
    assert titles(again) == ["apple", "fig", "kiwi"]


def choose(qtbot: QtBot, combo: ComboBox, value: object) -> None:
    index = next(index for index in range(combo.count()) if combo._values[index] == value)
    combo.setCurrentIndex(index)
    combo.activated.emit(index)


def test_a_star_moves_an_image_to_the_front_where_the_starred_come_first(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    for word in ("one", "two", "three"):
        add(gallery, word)
    room = show()
    choose(qtbot, room.top_bar.order, SortOrder.STARRED)
    settle(qtbot, room)
    pick(qtbot, room, 2)
    qtbot.keyClick(room.grid, Qt.Key.Key_D, Qt.KeyboardModifier.ControlModifier)
    settle(qtbot, room)
    assert titles(room) == ["one", "three", "two"] and room.details.prompt.text() == "one"
    qtbot.keyClick(room.grid, Qt.Key.Key_D, Qt.KeyboardModifier.ControlModifier)
    settle(qtbot, room)
    assert titles(room) == ["three", "two", "one"]


def test_a_search_that_finds_nothing_says_how_to_search(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    add(gallery, "apple", seed=42, sampler=SamplerName.HEUN)
    room = show()
    for text, expected in (
        ("seed:x", "a seed is a whole number"),
        ("lora:none", "matches “lora:none”"),
        ("seed:42 -size:64x48", "a minus excludes"),
    ):
        room.top_bar.search.setText(text)
        qtbot.keyClick(room.top_bar.search, Qt.Key.Key_Return)
        settle(qtbot, room)
        assert room.no_matches.isVisible() and expected in room.no_matches.text.text()
    room.top_bar.search.setText("seed:42 sampler:heun")
    qtbot.keyClick(room.top_bar.search, Qt.Key.Key_Return)
    settle(qtbot, room)
    assert titles(room) == ["apple"]


def test_the_date_is_shown_while_scrolling(gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot) -> None:
    for number in range(40):
        add(gallery, f"{number}")
    room = show()
    room.grid.verticalScrollBar().setValue(60)
    assert room.grid.date.isVisible() and len(room.grid.date.text()) == len("2026-11-26")
    qtbot.waitUntil(lambda: not room.grid.date.isVisible())


# Tags


def test_tags_are_added_to_the_selected_images_searched_for_and_removed(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    images = [add(gallery, word) for word in ("one", "two", "three")]
    room = show()
    assert not room.details.tags.isVisible()
    pick(qtbot, room, 2)
    type_tags(qtbot, room, "best, sea side,")
    assert [chip.tag for chip in room.details.tags.chips] == ["best", "sea side"]
    pick(qtbot, room, 1, Qt.KeyboardModifier.ControlModifier)
    assert room.details.tags.chips == []  # not of both
    type_tags(qtbot, room, "Best")
    assert [chip.tag for chip in room.details.tags.chips] == ["best"]
    assert [gallery.get(image.id).tags for image in images] == [("best", "sea side"), ("Best",), ()]  # type: ignore[union-attr]
    click(qtbot, room.details.tags.chips[0])
    settle(qtbot, room)
    assert titles(room) == ["two", "one"] and room.top_bar.search.text() == "tag:best"
    pick(qtbot, room, 1)
    chip = next(chip for chip in room.details.tags.chips if chip.tag == "best")
    chip.setFocus()
    qtbot.keyClick(chip, Qt.Key.Key_Delete)
    settle(qtbot, room)
    assert titles(room) == ["two"] and gallery.count("tag:best") == 1  # it no longer matches
    assert room.details.tags._known.stringList() == ["Best", "sea side"]


def type_tags(qtbot: QtBot, room: GalleryRoom, text: str) -> None:
    room.details.tags.field.setFocus()
    qtbot.keyClicks(room.details.tags.field, text)
    qtbot.keyClick(room.details.tags.field, Qt.Key.Key_Return)
    settle(qtbot, room)


# Comparing


def test_two_selected_images_are_compared_with_one_zoom(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    add(gallery, "small", "red", (64, 48))
    add(gallery, "large", "blue", (128, 96))
    room = show()
    pick(qtbot, room, 0)
    pick(qtbot, room, 1, Qt.KeyboardModifier.ControlModifier)
    assert room.details.compare.text() == "Compare"
    click(qtbot, room.details.compare)
    settle(qtbot, room)
    view, pane = room.compare_view, room.compare_view.pane
    qtbot.waitUntil(lambda: not pane.image(0).isNull() and not pane.image(1).isNull())
    assert view.isVisible() and [name.text() for name in view.names] == ["large", "small"]
    left, right = pane.image_rect(0), pane.image_rect(1)
    assert left.size() == right.size() and left.y() == right.y() and left.right() < right.left()
    spot = pane.areas()[1].center() + QPointF(40, 20)
    share = QPointF((spot.x() - right.x()) / right.width(), (spot.y() - right.y()) / right.height())
    _wheel(pane, spot, 240)
    for index, room_of in enumerate(pane.areas()):  # the same place of both images is at the same place of its room
        rect, at = pane.image_rect(index), spot - pane.areas()[1].topLeft() + room_of.topLeft()
        there = QPointF((at.x() - rect.x()) / rect.width(), (at.y() - rect.y()) / rect.height())
        assert (there - share).manhattanLength() < 2 / rect.height()
    assert pane.image_rect(0).width() > 1.5 * left.width()
    qtbot.keyClick(pane, Qt.Key.Key_0)
    click(qtbot, view.mode.chip("over"))
    assert pane.image_rect(0) == pane.image_rect(1) and view.divider.isVisible()
    middle = pane.height() // 2
    qtbot.mousePress(pane, Qt.MouseButton.LeftButton, pos=QPoint(pane.width() // 2, middle))
    qtbot.mouseMove(pane, QPoint(pane.width() // 4, middle))
    qtbot.mouseRelease(pane, Qt.MouseButton.LeftButton, pos=QPoint(pane.width() // 4, middle))
    assert pane.divider() == pytest.approx(0.25, abs=0.01) and view.divider.value() == pytest.approx(250, abs=10)
    seen = pane.grab().toImage()
    at = round(pane.image_rect(0).x()) + 20
    assert seen.pixelColor(at, middle).blue() > 200 and seen.pixelColor(pane.width() // 2, middle).red() > 200
    qtbot.keyClick(pane, Qt.Key.Key_Right)
    assert pane.divider() == pytest.approx(0.27, abs=0.01)
    click(qtbot, view.swap)
    assert [name.text() for name in view.names] == ["small", "large"] and pane.image(0).width() == 64
    qtbot.keyClick(pane, Qt.Key.Key_Escape)
    assert room.grid.isVisible() and room.grid.hasFocus()


def test_one_image_is_compared_with_the_next_that_is_selected(
    gallery: Gallery, show: Callable[[], GalleryRoom], qtbot: QtBot
) -> None:
    for word in ("one", "two"):
        add(gallery, word)
    room = show()
    pick(qtbot, room, 0)
    click(qtbot, room.details.compare)
    assert "Select the image to compare" in room.message.text()
    click(qtbot, room.message.banner.action)
    pick(qtbot, room, 1)
    settle(qtbot, room)
    assert not room.compare_view.isVisible()  # cancelled
    click(qtbot, room.details.compare)
    pick(qtbot, room, 0)
    settle(qtbot, room)
    assert room.compare_view.isVisible() and [name.text() for name in room.compare_view.names] == ["one", "two"]
    click(qtbot, room.compare_view.back)
    gallery.images()[0].path.unlink()
    pick(qtbot, room, 1)
    pick(qtbot, room, 0, Qt.KeyboardModifier.ControlModifier)
    room.selection_actions.compare()
    settle(qtbot, room)
    qtbot.waitUntil(lambda: "cannot be read" in room.compare_view.pane.accessibleDescription())

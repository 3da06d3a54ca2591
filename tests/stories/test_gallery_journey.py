"""The gallery as one story, in the whole window: find, sort, tag, star, compare, delete, restore, and come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QContextMenuEvent
from PySide6.QtWidgets import QApplication, QMenu, QMessageBox, QPushButton, QWidget
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.search import SortOrder
from diffstudio.studio.requests import GenerateRequest, SamplerName
from diffstudio.ui.app import GALLERY, GENERATE, Desktop
from diffstudio.ui.gallery.grid import thumbnail_rect
from diffstudio.ui.gallery.room import GalleryRoom
from diffstudio.ui.window import RailButton
from tests.ui.desktop_helpers import PATIENCE_MS, close_desktop, open_desktop

pytestmark = [
    pytest.mark.usefixtures("dressed", "home"),
    pytest.mark.qt_log_ignore("grabbing the keyboard", extend=True),
]

LEFT, CONTROL = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.ControlModifier
NONE = Qt.KeyboardModifier.NoModifier


@pytest.fixture
def desktop(qtbot: QtBot) -> Iterator[list[Desktop]]:
    """Those that the story opens, one after the other."""
    opened: list[Desktop] = []
    yield opened
    for each in opened:
        close_desktop(each)


def make_images() -> None:
    gallery = Gallery(paths.images(), paths.data() / "gallery.sqlite")
    for prompt, seed, sampler, colour in (
        ("a fox <lora:ink:0.8>", 30, SamplerName.EULER, "red"),
        ("an owl <lora:ink:1>", 10, SamplerName.HEUN, "green"),
        ("a boat", 20, SamplerName.EULER, "blue"),
    ):
        request = GenerateRequest(prompt=prompt, seed=seed, sampler=sampler, checkpoint="tiny")
        gallery.add(Image.new("RGB", (32, 32), colour), request)
    gallery.close()


def titles(room: GalleryRoom) -> list[str]:
    return [room.model.data(room.model.index(row)) for row in range(room.model.rowCount())]


def pick(qtbot: QtBot, room: GalleryRoom, title: str, modifier: Qt.KeyboardModifier = NONE) -> None:
    row = titles(room).index(title)
    spot = thumbnail_rect(room.grid.visualRect(room.model.index(row))).center()
    qtbot.mouseClick(room.grid.viewport(), LEFT, modifier, spot)


def search(qtbot: QtBot, room: GalleryRoom, text: str, expected: list[str]) -> None:
    room.top_bar.search.setFocus()
    room.top_bar.search.selectAll()
    qtbot.keyClicks(room.top_bar.search, text)
    qtbot.keyClick(room.top_bar.search, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: titles(room) == expected)


def menu_of(qtbot: QtBot, widget: QWidget, room: QWidget) -> dict[str, QAction]:
    """Open the menu of an image with the right mouse button."""
    at = widget.rect().center()
    event = QContextMenuEvent(QContextMenuEvent.Reason.Mouse, at, widget.mapToGlobal(at))
    QApplication.sendEvent(widget, event)
    qtbot.waitUntil(lambda: any(menu.isVisible() for menu in room.findChildren(QMenu)))
    menu = next(menu for menu in room.findChildren(QMenu) if menu.isVisible())
    return {action.text(): action for action in menu.actions() if action.text()}


def choose(actions: dict[str, QAction], text: str) -> None:
    menu: Any = actions[text].parent()
    actions[text].trigger()
    menu.close()


def answer(qtbot: QtBot, room: QWidget, text: str) -> None:
    box = room.findChildren(QMessageBox)[-1]
    button = next(each for each in box.findChildren(QPushButton) if each.text().replace("&", "") == text)
    qtbot.mouseClick(button, LEFT)


def test_the_gallery(qtbot: QtBot, desktop: list[Desktop]) -> None:
    make_images()
    desktop.append(open_desktop(qtbot))
    window = desktop[0].window
    room: Any = window.show_room(GALLERY)
    wait = lambda condition: qtbot.waitUntil(condition, timeout=PATIENCE_MS)  # noqa: E731
    wait(lambda: not room.busy() and room.model.rowCount() == 3)
    find_sort_and_tag(qtbot, room)
    compare(qtbot, room)
    delete_and_restore(qtbot, room)
    from_the_generate_room(qtbot, desktop[0], wait)
    close_desktop(desktop[0])

    desktop.append(open_desktop(qtbot))
    again: Any = desktop[1].window.show_room(GALLERY)
    wait(lambda: not again.busy() and again.model.rowCount() > 0)
    assert titles(again) == ["an owl", "a fox"]  # the order that was chosen
    assert again.grid.cell() == 200 and again.model.image(again.model.index(1)).tags == ("best",)


def find_sort_and_tag(qtbot: QtBot, room: GalleryRoom) -> None:
    assert titles(room) == ["a boat", "an owl", "a fox"]
    search(qtbot, room, "lora:ink", ["an owl", "a fox"])
    search(qtbot, room, "lora:ink sampler:euler", ["a fox"])
    search(qtbot, room, "seed:20", ["a boat"])
    room.clear_filters()
    index = room.top_bar.order.findText("Seed, lowest first")
    room.top_bar.order.setCurrentIndex(index)
    room.top_bar.order.activated.emit(index)
    qtbot.waitUntil(lambda: titles(room) == ["an owl", "a boat", "a fox"])
    assert room.model.query.order is SortOrder.SEED
    room.top_bar.cell.setValue(200)
    pick(qtbot, room, "a fox")
    room.details.tags.field.setFocus()
    qtbot.keyClicks(room.details.tags.field, "best")
    qtbot.keyClick(room.details.tags.field, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: [chip.tag for chip in room.details.tags.chips] == ["best"])
    search(qtbot, room, "tag:best", ["a fox"])
    room.clear_filters()
    qtbot.waitUntil(lambda: room.model.rowCount() == 3 and not room.busy())


def compare(qtbot: QtBot, room: GalleryRoom) -> None:
    pick(qtbot, room, "an owl")
    pick(qtbot, room, "a fox", CONTROL)
    qtbot.mouseClick(room.details.compare, LEFT)
    qtbot.waitUntil(lambda: room.is_comparing() and not room.compare_view.pane.image(1).isNull())
    qtbot.mouseClick(room.compare_view.mode.chip("over"), LEFT)
    qtbot.keyClick(room.compare_view.pane, Qt.Key.Key_Plus)
    assert room.compare_view.pane.image_rect(0) == room.compare_view.pane.image_rect(1)
    rail = room.window().findChildren(RailButton)[0]
    rail.setFocus()
    qtbot.keyClick(rail, Qt.Key.Key_Escape)
    assert not room.is_comparing(), "Escape leaves it wherever in the window the focus is"


def delete_and_restore(qtbot: QtBot, room: GalleryRoom) -> None:
    for title in ("a boat", "an owl"):
        pick(qtbot, room, title)
        qtbot.keyClick(room.grid, Qt.Key.Key_Delete)
        qtbot.waitUntil(lambda title=title: not room.busy() and title not in titles(room))
    qtbot.mouseClick(room.top_bar.trash, LEFT)
    qtbot.waitUntil(lambda: not room.busy() and titles(room) == ["an owl", "a boat"])
    pick(qtbot, room, "an owl")
    qtbot.mouseClick(room.trash_bar.restore, LEFT)
    qtbot.waitUntil(lambda: not room.busy() and titles(room) == ["a boat"])
    pick(qtbot, room, "a boat")
    qtbot.mouseClick(room.trash_bar.purge, LEFT)
    answer(qtbot, room, "Delete permanently")
    qtbot.waitUntil(lambda: not room.busy() and room.empty_trash.isVisible())
    qtbot.mouseClick(room.trash_bar.back, LEFT)
    qtbot.waitUntil(lambda: not room.busy() and titles(room) == ["an owl", "a fox"])


def from_the_generate_room(qtbot: QtBot, desktop: Desktop, wait: Callable[[Callable[[], bool]], None]) -> None:
    """The same menu does the same there, and the gallery shows it."""
    gallery: Any = desktop.window.room(GALLERY)
    generate = desktop.generate_room
    desktop.window.show_room(GENERATE)
    recent = lambda word: next(each for each in generate.right.thumbs if word in str(each.target.path))  # noqa: E731
    settled = lambda count: wait(lambda: len(generate.right.thumbs) == count and not desktop.tasks.busy())  # noqa: E731
    settled(2)
    choose(menu_of(qtbot, recent("owl"), generate), "Star")
    wait(lambda: any(image.starred for image in gallery.model._images))
    settled(2)
    assert "Remove star" in menu_texts(qtbot, recent("owl"), generate)
    choose(menu_of(qtbot, recent("owl"), generate), "Delete")
    wait(lambda: titles(gallery) == ["a fox"])
    settled(1)
    qtbot.mouseClick(desktop.window.banner.action, LEFT)
    wait(lambda: titles(gallery) == ["an owl", "a fox"])
    settled(2)
    choose(menu_of(qtbot, recent("fox"), generate), "Compare with…")
    wait(lambda: desktop.window.current_room() == GALLERY and not gallery.busy())
    pick(qtbot, gallery, "an owl")
    wait(gallery.is_comparing)
    assert [name.text() for name in gallery.compare_view.names] == ["a fox", "an owl"]
    gallery.close_full()
    desktop.window.show_room(GENERATE)
    path = recent("fox").target.path
    choose(menu_of(qtbot, recent("fox"), generate), "Use for img2img")
    wait(lambda: generate.panel.init_image.image_path() == path)
    assert isinstance(path, Path)


def menu_texts(qtbot: QtBot, widget: QWidget, room: QWidget) -> list[str]:
    actions = menu_of(qtbot, widget, room)
    menu: Any = next(iter(actions.values())).parent()
    menu.close()
    qtbot.wait(0)
    return list(actions)


def test_an_action_that_cannot_apply_says_why(qtbot: QtBot, desktop: list[Desktop]) -> None:
    from PySide6.QtGui import QImage

    from diffstudio.ui.widgets.images.image_menu import ImageActions, ImageTarget

    parent = QWidget()
    qtbot.addWidget(parent)
    actions = ImageActions(parent)
    image = QImage(8, 8, QImage.Format.Format_RGB32)
    for targets, disabled in (
        (
            [ImageTarget(image=image, is_preview=True)],
            {"Use for img2img": "not saved yet", "Star": "not in the gallery"},
        ),
        (
            [ImageTarget(image=image, prompt="x")],
            {"Show in folder": "not been saved to a file", "Delete": "not in the gallery"},
        ),
        ([ImageTarget(image=image), ImageTarget(image=image)], {"Upscale…": "Select a single image"}),
        ([ImageTarget(image=image)] * 3, {"Compare with…": "Select one or two images"}),
    ):
        menu = actions.menu(targets)
        entries = {action.text(): action for action in menu.actions() if action.text()}
        for text, why in disabled.items():
            assert not entries[text].isEnabled() and why in entries[text].toolTip(), text
        assert menu.toolTipsVisible()
        menu.close()
    with qtbot.waitSignal(actions.start_requested) as started:
        entries = {action.text(): action for action in actions.menu([ImageTarget(image=image)]).actions()}
        entries["Use for img2img"].trigger()
    assert started.args[0].parent == paths.data() / "pasted"

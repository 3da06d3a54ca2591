"""A gallery, and its room as a person sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.ui.gallery.room import GalleryRoom
from diffstudio.ui.widgets import theme


@pytest.fixture
def gallery(tmp_path: Path, home: Path) -> Iterator[Gallery]:
    gallery = Gallery(tmp_path / "images", tmp_path / "gallery.sqlite")
    yield gallery
    gallery.close()


@pytest.fixture
def show(qtbot: QtBot, qapp: QApplication, gallery: Gallery) -> Callable[[], GalleryRoom]:
    def make() -> GalleryRoom:
        theme.apply(qapp, "dark")
        room = GalleryRoom(gallery)
        qtbot.addWidget(room, before_close_func=lambda widget: widget.shut_down())
        room.resize(1100, 700)
        with qtbot.waitExposed(room):
            room.show()
        qtbot.waitUntil(lambda: not room.busy())
        return room

    return make

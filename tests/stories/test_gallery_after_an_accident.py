"""The window's first minute after a damaged gallery database, a missing drive, or a kill."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.requests import GenerateRequest
from tests.ui.desktop_helpers import PATIENCE_MS, close_desktop, open_desktop

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("dressed")]
PART = ".diffstudio-0123456789abcdef.part"


def gallery_of_three() -> list[Path]:
    """In the home: one starred image, one deleted, and one more."""
    gallery = Gallery(paths.images(), paths.data() / "gallery.sqlite")
    made = [gallery.add(Image.new("RGB", (8, 8)), GenerateRequest(word)) for word in ("one", "two", "three")]
    gallery.star(made[0].id)
    gallery.delete([made[1].id])
    gallery.close()
    return [image.path for image in made]


def test_a_damaged_database_is_rebuilt_and_the_window_says_so(qtbot: QtBot, home: Path) -> None:
    kept = gallery_of_three()
    database = paths.data() / "gallery.sqlite"
    database.write_bytes(database.read_bytes()[:5000])
    for folder in (paths.images(), paths.images() / ".trash", kept[0].parent):
        (folder / PART).write_bytes(b"half an image")  # of a kill
    (paths.images() / ".trash" / "9-x.png.diffstudio.json").write_text("{}")  # announced, and not moved
    desktop = open_desktop(qtbot)
    try:
        message = desktop.window.banner.text()
        assert "The gallery's database was damaged." in message and "gallery.sqlite.damaged-" in message
        gallery = desktop.gallery
        assert gallery is not None and gallery.damaged_copy is not None and gallery.damaged_copy.is_file()
        qtbot.waitUntil(lambda: gallery.count() == 2 and not gallery.needs_rescan, timeout=PATIENCE_MS)
        assert [image.path for image in gallery.images(starred=True)] == [kept[0]] and gallery.trash_count() == 1
        qtbot.waitUntil(lambda: not list(paths.images().rglob("*.part")), timeout=PATIENCE_MS)
        assert not (paths.images() / ".trash" / "9-x.png.diffstudio.json").exists()
    finally:
        close_desktop(desktop)


def test_a_missing_drive_is_said_and_nothing_is_forgotten(qtbot: QtBot, home: Path) -> None:
    gallery_of_three()
    away = paths.images().rename(paths.images().with_name("away"))
    desktop = open_desktop(qtbot)
    try:
        qtbot.waitUntil(lambda: "cannot be read" in desktop.window.banner.text(), timeout=PATIENCE_MS)
        gallery = desktop.gallery
        assert gallery is not None and not paths.images().exists()
        assert [image.missing for image in gallery.images()] == [True, True]
        away.rename(paths.images())
    finally:
        close_desktop(desktop)
    desktop = open_desktop(qtbot)
    try:
        gallery = desktop.gallery
        assert gallery is not None
        qtbot.waitUntil(lambda: not any(image.missing for image in gallery.images()), timeout=PATIENCE_MS)
        assert gallery.count(starred=True) == 1 and gallery.trash_count() == 1
    finally:
        close_desktop(desktop)


def test_damage_while_the_window_is_open_is_repaired_and_said(qtbot: QtBot, home: Path) -> None:
    gallery_of_three()
    desktop = open_desktop(qtbot)
    try:
        qtbot.waitUntil(lambda: not desktop.tasks.busy(), timeout=PATIENCE_MS)
        gallery = desktop.gallery
        assert gallery is not None
        gallery.close()
        gallery.database.write_bytes(b"no database at all " * 100)
        assert gallery.images() == []  # in whichever thread reads first
        qtbot.waitUntil(lambda: "database was damaged" in desktop.window.banner.text(), timeout=PATIENCE_MS)
        qtbot.waitUntil(lambda: gallery.count() == 2 and gallery.count(starred=True) == 1, timeout=PATIENCE_MS)
    finally:
        close_desktop(desktop)

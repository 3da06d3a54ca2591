"""Help, as a person asks for it: F1 in each room, the list of shortcuts, and what the program is made of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QGuiApplication, QImage
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from diffstudio import __version__, paths
from diffstudio.studio.requests import UpscaleRequest
from diffstudio.studio.settings import Settings
from diffstudio.ui.app import GALLERY, GENERATE, MODELS, TRAIN, Desktop
from diffstudio.ui.generate.mask.dialog import MaskDialog
from diffstudio.ui.generate.upscale_dialog import UpscaleDialog
from diffstudio.ui.help.about_dialog import AboutDialog
from diffstudio.ui.help.shortcuts_dialog import ShortcutsDialog
from diffstudio.ui.settings_dialog import SettingsDialog
from diffstudio.ui.widgets import shortcuts
from diffstudio.ui.wiring.help import PAGES
from tests.ui.accessibility import accessibility_problems

pytestmark = [pytest.mark.usefixtures("dressed"), pytest.mark.timeout(180)]


@pytest.fixture
def desktop(qtbot: QtBot, home: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desktop]:
    monkeypatch.setattr(paths, "starter", lambda: paths.data() / "none")
    desktop = Desktop(Settings())
    qtbot.addWidget(desktop.window)
    desktop.window.show()
    qtbot.waitExposed(desktop.window)
    desktop.window.activateWindow()
    yield desktop
    desktop.window.close()
    desktop.close()


def test_f1_shows_the_page_of_the_room(qtbot: QtBot, desktop: Desktop) -> None:
    window = desktop.window
    assert PAGES.keys() == {entry.name for entry in window._entries}, "every room has a page"
    for room, page in ((GALLERY, "gallery.md"), (MODELS, "models.md"), (TRAIN, "train.md"), (GENERATE, "generate.md")):
        window.show_room(room)
        qtbot.keyClick(window, Qt.Key.Key_F1)
        manual = desktop.help.manual
        assert manual is not None and manual.isVisible() and manual.current_page() == page
        assert room.lower() in manual.page.toPlainText().lower()
    manual.close()
    desktop.generate_room.panel.prompt.setFocus()
    qtbot.keyClick(desktop.generate_room.panel.prompt, Qt.Key.Key_F1)
    assert manual.isVisible(), "also while text is typed"


def test_the_list_of_shortcuts_is_complete(qtbot: QtBot, desktop: Desktop) -> None:
    desktop.window.show_room(MODELS)
    desktop.window.setFocus()
    qtbot.keyClicks(desktop.window, "?")
    qtbot.waitUntil(lambda: bool(desktop.window.findChildren(ShortcutsDialog)))
    (dialog,) = desktop.window.findChildren(ShortcutsDialog)
    shown = {(place, what, keys) for place, what, keys in dialog.listed}
    assert shown == {(each.place, each.what, each.text()) for each in shortcuts.table() if each.text()}
    places = list(dict.fromkeys(place for place, _, _ in dialog.listed))
    assert places[:2] == ["Everywhere", "Models"], "what works here comes first"
    assert not accessibility_problems(dialog)
    qtbot.keyClick(dialog.list, Qt.Key.Key_PageDown)
    qtbot.waitUntil(lambda: dialog.list.verticalScrollBar().value() > 0)
    dialog.close()


def test_f1_works_in_dialogs(qtbot: QtBot, desktop: Desktop, tmp_path: Path) -> None:
    """Those of an own subject show its page, the others that of the room."""
    image = QImage(16, 16, QImage.Format.Format_RGB32)
    upscale = UpscaleDialog(UpscaleRequest(tmp_path / "a.png"), image, QSize(16, 16), [], "", desktop.window)
    mask = MaskDialog(image, None, (0, 0, 0, 0), desktop.window)
    desktop.window.show_room(TRAIN)
    for dialog, page in (
        (upscale, "upscale.md"),
        (mask, "inpaint.md"),
        (SettingsDialog(Settings(), "", desktop.window), "train.md"),
    ):
        dialog.open()
        qtbot.waitExposed(dialog)
        dialog.activateWindow()
        qtbot.waitUntil(lambda dialog=dialog: bool(dialog.property("diffstudioHelp")))  # type: ignore[misc]
        qtbot.keyClick(dialog, Qt.Key.Key_F1)
        manual = desktop.help.manual
        assert manual is not None and manual.isVisible() and manual.current_page() == page
        manual.close()
        dialog.close()
    desktop.window.show_room(GENERATE)


def test_a_question_mark_can_be_typed(qtbot: QtBot, desktop: Desktop) -> None:
    prompt = desktop.generate_room.panel.prompt
    prompt.setFocus()
    qtbot.keyClicks(prompt, "why?")
    assert prompt.text() == "why?" and not desktop.window.findChildren(ShortcutsDialog)


def test_about_says_what_it_is_made_of_and_copies_it(qtbot: QtBot, desktop: Desktop) -> None:
    menu = desktop.window.help_menu()
    texts = [action.text().split("\t")[0] for action in menu.actions() if action.text()]
    assert texts == ["Manual for this room", "Keyboard shortcuts", "About diffstudio"]
    menu.actions()[-1].trigger()
    qtbot.waitUntil(lambda: bool(desktop.window.findChildren(AboutDialog)))
    (dialog,) = desktop.window.findChildren(AboutDialog)
    qtbot.waitUntil(lambda: dialog.software.count() > 20)
    qtbot.waitUntil(lambda: dict(dialog.facts.facts())["Device"].startswith("CPU"), timeout=60_000)
    facts = dict(dialog.facts.facts())
    assert facts["diffstudio"] == __version__ and {"torch", "Qt", "Python", "Data folder"} <= facts.keys()
    dialog.page.set_value("licences")
    dialog.page.value_changed.emit("licences")
    assert dialog.notice.isVisible() and "Apache License" in dialog.notice.toPlainText()
    for _ in range(2):  # past the network of the measures
        qtbot.keyClick(dialog.software, Qt.Key.Key_Down)
    assert "Open Font" in dialog.notice.toPlainText() or "OPEN FONT" in dialog.notice.toPlainText()
    qtbot.mouseClick(dialog.copy_button, Qt.MouseButton.LeftButton)
    copied = QGuiApplication.clipboard().text()
    assert f"diffstudio: {__version__}" in copied and "torch" in copied and "fonts · OFL" in copied
    assert not accessibility_problems(dialog)
    dialog.close()


def test_about_can_be_closed_before_it_is_filled(qtbot: QtBot, desktop: Desktop) -> None:
    dialog = desktop.help.open_about()
    dialog.close()
    qtbot.waitUntil(lambda: not desktop.window.findChildren(AboutDialog))


def test_the_manual_closes_with_the_program(qtbot: QtBot, desktop: Desktop) -> None:
    manual: QWidget = desktop.help.open_manual()
    desktop.window.close()
    assert not manual.isVisible() and desktop.help.manual is None

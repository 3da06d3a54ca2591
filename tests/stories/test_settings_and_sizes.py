"""Settings and sizes: text and theme change at once, columns and the window are sized, and all of it is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from diffstudio.studio.settings import Theme, load_settings
from diffstudio.ui.app import MODELS, Desktop
from diffstudio.ui.settings_dialog import SettingsDialog
from diffstudio.ui.widgets import text_size, theme
from tests.ui.desktop_helpers import close_desktop, open_desktop

pytestmark = [pytest.mark.usefixtures("dressed"), pytest.mark.timeout(300)]
CONTROL = Qt.KeyboardModifier.ControlModifier


@pytest.fixture
def opened(qtbot: QtBot, dressed: QApplication) -> Iterator[Callable[[], Desktop]]:
    desktops: list[Desktop] = []

    def open_it() -> Desktop:
        for desktop in desktops:
            close_desktop(desktop)
        settings = load_settings()
        theme.apply(dressed, settings.theme, settings.text_size)  # as `main` does
        desktops.append(open_desktop(qtbot))
        return desktops[-1]

    yield open_it
    close_desktop(desktops[-1])
    text_size.apply(dressed, 100)
    theme.apply(dressed, "dark")


def choose(dialog: SettingsDialog, percent: int) -> None:
    """Choose a text size from its list, as a click on an entry does."""
    index = dialog.text_size.findText(f"{percent}%")
    dialog.text_size.setCurrentIndex(index)
    dialog.text_size.activated.emit(index)


def test_text_theme_columns_and_window_are_kept(opened: Callable[[], Desktop], qtbot: QtBot) -> None:
    desktop = opened()
    window, panel = desktop.window, desktop.generate_room.panel
    qtbot.keyClick(window, Qt.Key.Key_Comma, CONTROL)
    dialog = next(each for each in window.findChildren(SettingsDialog) if each.isVisible())
    assert dialog.text_size.value() == 100
    before = panel.prompt.font().pixelSize()
    choose(dialog, 150)
    assert panel.prompt.font().pixelSize() == round(before * 1.5), "at once, behind the dialog too"
    qtbot.mouseClick(dialog.theme.chip(Theme.LIGHT), Qt.MouseButton.LeftButton)
    assert theme.name() == "light" and panel.prompt.font().pixelSize() == round(before * 1.5)
    dialog.accept()

    columns = desktop.generate_room.columns
    window.resize(1280, 720)
    columns.handle(1).setFocus()
    for _ in range(3):
        qtbot.keyClick(columns.handle(1), Qt.Key.Key_Right)
    width = columns.sizes()[0]
    models: Any = window.show_room(MODELS)
    assert models.details.title.font().pixelSize() == 27, "a room that is made later has the size too"

    desktop = opened()
    assert desktop.settings.text_size == 150 and desktop.settings.theme is Theme.LIGHT
    assert desktop.generate_room.panel.prompt.font().pixelSize() == round(before * 1.5)
    assert desktop.generate_room.columns.sizes()[0] == width
    assert desktop.window.minimumWidth() <= 880 and desktop.window.minimumHeight() <= 470
    desktop.window.resize(880, 470)
    for name in ("Gallery", MODELS, "Train", "Generate"):
        desktop.window.show_room(name)
        QApplication.processEvents()
        assert desktop.window.size() == QSize(880, 470), f"{name} fits"

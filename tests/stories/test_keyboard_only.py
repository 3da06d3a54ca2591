"""A day without a mouse: every room is reached and used with keys alone, each sent to whatever has the focus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QAbstractButton, QApplication, QDialog, QWidget
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.studio.events import Finished, Started
from diffstudio.ui.app import GALLERY, GENERATE, MODELS, TRAIN, Desktop
from diffstudio.ui.generate.queue.job_card import JobCard
from diffstudio.ui.settings_dialog import SettingsDialog
from tests.models.tiny import write_tiny_checkpoint
from tests.ui.accessibility import accessibility_problems, controls
from tests.ui.desktop_helpers import PATIENCE_MS, EventRecorder, close_desktop, open_desktop

pytestmark = [pytest.mark.usefixtures("dressed"), pytest.mark.timeout(300)]
CONTROL, ALT, NONE = (
    Qt.KeyboardModifier.ControlModifier,
    Qt.KeyboardModifier.AltModifier,
    Qt.KeyboardModifier.NoModifier,
)
ROOMS = ((Qt.Key.Key_1, GENERATE), (Qt.Key.Key_2, GALLERY), (Qt.Key.Key_3, MODELS), (Qt.Key.Key_4, TRAIN))


@pytest.fixture
def desktop(qtbot: QtBot, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desktop]:
    monkeypatch.setattr(paths, "starter", lambda: home / "none")
    write_tiny_checkpoint(paths.checkpoints() / "tiny.safetensors")
    desktop = open_desktop(qtbot)
    desktop.window.activateWindow()
    yield desktop
    close_desktop(desktop)


class Keys:
    """Presses keys where the focus is, as a person without a mouse does."""

    def __init__(self, qtbot: QtBot, desktop: Desktop) -> None:
        self._qtbot, self._desktop = qtbot, desktop

    def focus(self) -> QWidget:
        return QApplication.focusWidget() or self._desktop.window

    def press(self, key: Qt.Key, modifier: Qt.KeyboardModifier = NONE) -> None:
        self._qtbot.keyClick(self.focus(), key, modifier)

    def type(self, text: str) -> None:
        self._qtbot.keyClicks(self.focus(), text)

    def tab_to(self, reached: Callable[[QWidget], bool], most: int = 150) -> QWidget:
        """Press Tab until the focus is where it should be."""
        for _ in range(most):
            if reached(self.focus()):
                return self.focus()
            self.press(Qt.Key.Key_Tab)
        raise AssertionError(f"not reached by Tab; the focus is on {self.focus().accessibleName()}")


def chosen_of(widget: QWidget) -> QWidget | None:
    """The chosen button of the group it is in: arrow keys go from there to the others."""
    group = widget.group() if isinstance(widget, QAbstractButton) else None
    return group.checkedButton() if group is not None and group.exclusive() else None


def test_tab_reaches_every_control_of_every_room(qtbot: QtBot, desktop: Desktop) -> None:
    keys = Keys(qtbot, desktop)
    for key, name in ROOMS:
        keys.press(key, CONTROL)
        assert desktop.window.current_room() == name
        room = desktop.window.room(name)
        assert not accessibility_problems(room)
        offered = {
            each
            for each in controls(room)
            if each.isVisible() and each.isEnabled() and each.focusPolicy() & Qt.FocusPolicy.TabFocus
        }
        seen: set[QWidget] = set()
        for _ in range(200):
            keys.press(Qt.Key.Key_Tab)
            if keys.focus() in seen:
                break
            seen.add(keys.focus())
        missing = {each for each in offered if not seen & {each, each.focusProxy(), chosen_of(each)}}
        assert offered and {each.accessibleName() for each in missing} == set(), name


def test_images_are_made_looked_at_and_found_again(qtbot: QtBot, desktop: Desktop) -> None:
    keys, ears, room = Keys(qtbot, desktop), EventRecorder(desktop), desktop.generate_room
    queue = room.right.jobs
    desktop.generate_room.panel.sampling.steps.set_value(2)

    # The queue is paused, filled, ordered, edited and resumed.
    keys.tab_to(lambda focus: focus is queue.pause)
    keys.press(Qt.Key.Key_Space)
    qtbot.waitUntil(lambda: queue.paused.isVisible())
    keys.press(Qt.Key.Key_1, CONTROL)
    keys.tab_to(lambda focus: focus is room.panel.prompt)
    for prompt in ("red apple", "green apple"):
        keys.press(Qt.Key.Key_A, CONTROL)
        keys.type(prompt)
        keys.press(Qt.Key.Key_Return, CONTROL)
    qtbot.waitUntil(lambda: [card.title() for card in queue.cards] == ["red apple", "green apple"])
    keys.tab_to(lambda focus: isinstance(focus, JobCard))
    keys.press(Qt.Key.Key_Down)
    keys.press(Qt.Key.Key_Up, ALT)
    qtbot.waitUntil(lambda: [card.title() for card in queue.cards] == ["green apple", "red apple"])
    keys.press(Qt.Key.Key_F2)
    qtbot.waitUntil(lambda: room.panel.prompt.text() == "green apple" and room.panel.prompt.hasFocus())
    keys.press(Qt.Key.Key_End, CONTROL)
    keys.type(", shiny")
    keys.press(Qt.Key.Key_Return, CONTROL)
    qtbot.waitUntil(lambda: [card.title() for card in queue.cards] == ["green apple, shiny", "red apple"])
    assert room.panel.prompt.text() == "green apple", "what was typed before is back"
    keys.tab_to(lambda focus: focus is queue.pause)
    keys.press(Qt.Key.Key_Space)
    qtbot.waitUntil(ears.heard(Finished, 2), timeout=PATIENCE_MS)
    assert [event.request.prompt for event in ears.events if isinstance(event, Started)] == [
        "green apple, shiny",
        "red apple",
    ]

    # They are in the gallery, where one is opened and starred.
    keys.press(Qt.Key.Key_2, CONTROL)
    gallery = desktop.window.room(GALLERY)
    qtbot.waitUntil(lambda: gallery.grid.model().rowCount() == 2)
    keys.tab_to(lambda focus: focus is gallery.grid)
    keys.press(Qt.Key.Key_Home)
    keys.press(Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: not gallery.grid.isVisible())
    keys.press(Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: gallery.grid.isVisible())
    keys.press(Qt.Key.Key_U, CONTROL)
    qtbot.waitUntil(lambda: desktop.window.current_room() == GENERATE)
    assert room.panel.prompt.text() in ("red apple", "green apple, shiny")


def test_enter_presses_the_button_that_has_the_focus(qtbot: QtBot, desktop: Desktop) -> None:
    """In the rooms as in dialogs, where Qt sees to it; drop-downs open and check boxes change too."""
    keys, room = Keys(qtbot, desktop), desktop.generate_room
    keys.tab_to(lambda focus: focus is room.panel.guidance.open_button)
    keys.press(Qt.Key.Key_Return)
    assert room.panel.guidance.interval.isVisible()
    keys.tab_to(lambda focus: focus is room.panel.guidance.interval)
    keys.press(Qt.Key.Key_Enter)
    assert room.panel.guidance.interval.isChecked()
    sampler = room.panel.sampling.sampler.combo
    keys.tab_to(lambda focus: focus is sampler)
    keys.press(Qt.Key.Key_Return)
    qtbot.waitUntil(sampler.view().isVisible)
    qtbot.keyClick(sampler.view(), Qt.Key.Key_Down)
    qtbot.keyClick(sampler.view(), Qt.Key.Key_Return)
    assert not sampler.view().isVisible()
    keys.tab_to(lambda focus: focus is desktop.window.help_button)
    keys.press(Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: QApplication.activePopupWidget() is not None)
    menu = QApplication.activePopupWidget()
    assert menu is not None
    qtbot.keyClick(menu, Qt.Key.Key_Escape)
    keys.press(Qt.Key.Key_2, CONTROL)
    gallery = desktop.window.room(GALLERY)
    keys.tab_to(lambda focus: focus is gallery.top_bar.starred)
    keys.press(Qt.Key.Key_Return)
    assert gallery.top_bar.starred.isChecked()


def test_help_and_settings(qtbot: QtBot, desktop: Desktop) -> None:
    keys = Keys(qtbot, desktop)
    desktop.window.setFocus()
    keys.press(Qt.Key.Key_3, CONTROL)
    keys.press(Qt.Key.Key_F1)
    manual = desktop.help.manual
    assert manual is not None and manual.current_page() == "models.md"
    qtbot.waitUntil(manual.isActiveWindow)
    qtbot.keyClick(manual.page, Qt.Key.Key_Escape)
    assert not manual.isVisible()
    desktop.window.activateWindow()
    qtbot.waitUntil(desktop.window.isActiveWindow)
    keys.tab_to(lambda focus: focus is desktop.window.help_button)
    keys.press(Qt.Key.Key_Space)
    qtbot.waitUntil(lambda: QApplication.activePopupWidget() is not None)
    menu = QApplication.activePopupWidget()
    assert menu is not None
    qtbot.keyClick(menu, Qt.Key.Key_Down)
    qtbot.keyClick(menu, Qt.Key.Key_Down)
    qtbot.keyClick(menu, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: any(each.isVisible() for each in desktop.window.findChildren(QDialog)))
    (dialog,) = (each for each in desktop.window.findChildren(QDialog) if each.isVisible())
    assert dialog.windowTitle() == "Keyboard shortcuts"
    qtbot.keyClick(dialog, Qt.Key.Key_Escape)
    keys.press(Qt.Key.Key_Comma, CONTROL)
    qtbot.waitUntil(lambda: bool(desktop.window.findChildren(SettingsDialog)))
    (settings,) = desktop.window.findChildren(SettingsDialog)
    here = settings.done_button
    for _ in range(60):
        if here is settings.notifications:
            break
        here = here.nextInFocusChain()
    settings.notifications.setFocus()
    qtbot.keyClick(settings.notifications, Qt.Key.Key_Space)
    assert here is settings.notifications and not desktop.settings.notifications
    qtbot.keyClick(settings, Qt.Key.Key_Escape)

"""A row of buttons that becomes narrow: what has no room is in a menu, and nothing is out of reach."""

from __future__ import annotations

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QVBoxLayout, QWidget
from pytestqt.qtbot import QtBot

from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.layout.overflow_row import OverflowRow
from tests.ui import walk

pytestmark = pytest.mark.usefixtures("dressed")
TEXTS = "Stop and keep", "Sample now", "Save now", "Open folder"


class Row(QWidget):
    """A row of four buttons and one without a text, in a window."""

    def __init__(self, qtbot: QtBot, width: int, rows: int = 1) -> None:
        super().__init__()
        self.pressed: list[str] = []
        self.buttons = [SecondaryButton(text, "stop", f"{text} <now>") for text in TEXTS]
        self.buttons.append(SecondaryButton("", "trash", "Remove it", name="Remove"))
        for button in self.buttons:
            button.clicked.connect(lambda _=False, button=button: self.pressed.append(button.accessibleName()))
        self.row = OverflowRow(self.buttons, SecondaryButton("", "dots-three", "More actions"), rows)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.row)
        column.addStretch(1)
        qtbot.addWidget(self)
        self.show()
        self.to_width(width)

    def to_width(self, width: int) -> None:
        self.resize(width, 200)
        walk.settle()

    def shown(self) -> list[str]:
        return [button.accessibleName() for button in self.buttons if button.isVisible()]


def test_all_buttons_are_in_the_row_where_they_fit(qtbot: QtBot) -> None:
    window = Row(qtbot, 900)
    assert window.shown() == [*TEXTS, "Remove"] and not window.row.more.isVisible()
    places = [button.geometry() for button in window.buttons]
    assert all(one.right() < other.left() for one, other in zip(places, places[1:], strict=False))
    assert window.row.height() == max(place.height() for place in places)


def test_what_does_not_fit_is_in_the_menu_and_does_the_same(qtbot: QtBot) -> None:
    window = Row(qtbot, 320)
    assert window.shown() == ["Stop and keep", "Sample now"] and window.row.more.isVisible()
    assert window.row.more.geometry().right() < 320
    window.buttons[2].setEnabled(False)
    qtbot.keyClick(window.row.more, Qt.Key.Key_Space)
    menu = window.row.open_menu()
    entries = menu.actions()
    assert [entry.text() for entry in entries] == ["Save now", "Open folder", "Remove"]
    assert [entry.isEnabled() for entry in entries] == [False, True, True] and "Remove it" in entries[2].toolTip()
    entries[2].trigger()
    entries[1].trigger()
    menu.close()
    assert window.pressed == ["Remove", "Open folder"]


def test_a_button_that_is_not_offered_leaves_its_room_to_others(qtbot: QtBot) -> None:
    window = Row(qtbot, 320)
    window.row.offer(window.buttons[0], False)
    assert window.shown() == ["Sample now", "Save now"]
    for button in window.buttons:
        window.row.offer(button, False)
    assert window.shown() == [] and not window.row.more.isVisible()


def test_more_rows_hold_more_buttons(qtbot: QtBot) -> None:
    window = Row(qtbot, 320, rows=2)
    assert window.shown() == [*TEXTS, "Remove"] and not window.row.more.isVisible()
    assert window.buttons[2].y() > window.buttons[1].y() == window.buttons[0].y()
    before = window.row.height()
    window.row.set_most_rows(1)
    assert window.row.height() < before and window.shown() == ["Stop and keep", "Sample now"]


def test_the_focus_stays_in_the_row_and_the_first_button_in_sight(qtbot: QtBot) -> None:
    window = Row(qtbot, 900)
    window.activateWindow()
    window.buttons[3].setFocus()
    window.to_width(100)
    assert window.shown() == ["Stop and keep"] and QApplication.focusWidget() is window.row.more
    assert window.row.more.geometry().right() < 100 and window.buttons[0].width() > 0


def test_a_longer_text_moves_the_others(qtbot: QtBot) -> None:
    window = Row(qtbot, 320)
    window.buttons[0].setText("Stopping after this step, please wait")
    walk.settle()
    assert window.shown() == ["Stop and keep"]

"""Columns are dragged, moved by the keyboard, kept over a restart, and give way in a narrow window."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from diffstudio.ui.widgets.layout.columns import Column, Columns
from tests.ui.accessibility import accessibility_problems

pytestmark = pytest.mark.usefixtures("dressed", "home")


@pytest.fixture
def make(qtbot: QtBot) -> Callable[[int], Columns]:
    def make_it(width: int) -> Columns:
        columns = Columns(
            "test",
            (
                Column(QWidget(), "left", 200, 280, 320),
                Column(QWidget(), least=300),
                Column(QWidget(), "right", 150, 200, 240),
            ),
        )
        qtbot.addWidget(columns)
        columns.resize(width, 300)
        columns.show()
        qtbot.waitExposed(columns)
        return columns

    return make_it


def test_the_usual_widths_follow_the_window(make: Callable[[int], Columns]) -> None:
    columns = make(1400)
    assert columns.sizes()[0] == 320 and columns.sizes()[2] == 240
    columns.resize(1000, 300)
    assert columns.sizes()[0] == 280 and columns.sizes()[2] == 200
    columns.resize(700, 300)  # the middle keeps what it needs
    assert columns.sizes()[1] >= 300 and columns.sizes()[0] >= 200 and columns.sizes()[2] >= 150


def test_a_width_that_was_dragged_is_kept_over_a_restart(make: Callable[[int], Columns], qtbot: QtBot) -> None:
    columns = make(1400)
    handle = columns.handle(1)
    qtbot.mousePress(handle, Qt.MouseButton.LeftButton, pos=QPoint(2, 50))
    qtbot.mouseMove(handle, QPoint(82, 50))
    qtbot.mouseRelease(handle, Qt.MouseButton.LeftButton, pos=QPoint(2, 50))
    dragged = columns.sizes()[0]
    assert dragged > 360
    again = make(1300)
    assert again.sizes()[0] == dragged and again.sizes()[2] == 240
    qtbot.mouseDClick(again.handle(1), Qt.MouseButton.LeftButton)
    assert again.sizes()[0] == 320 and make(1400).sizes()[0] == 320


def test_the_keyboard_moves_a_handle(make: Callable[[int], Columns], qtbot: QtBot) -> None:
    columns = make(1400)
    for handle, key, side, width in (
        (1, Qt.Key.Key_Right, 0, 336),
        (2, Qt.Key.Key_Left, 2, 256),
        (2, Qt.Key.Key_Home, 2, 240),
    ):
        columns.handle(handle).setFocus()
        qtbot.keyClick(columns.handle(handle), key)
        assert columns.sizes()[side] == width
    assert columns.handle(1).accessibleName() == "Width of left" and not accessibility_problems(columns)
    qtbot.keyClick(columns.handle(1), Qt.Key.Key_A)  # other keys are not taken


def test_what_is_stored_and_is_no_width_is_ignored(make: Callable[[int], Columns], home: Path) -> None:
    (home / "window.ini").write_text("[columns]\ntest\\left=wide\ntest\\right=333\n")
    columns = make(1400)
    assert columns.sizes()[0] == 320 and columns.sizes()[2] == 333

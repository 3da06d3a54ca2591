"""The layout of the samples."""

from __future__ import annotations

import pytest
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from diffstudio.ui.tasks import Tasks
from diffstudio.ui.train.sample_sheets_view import GAP, SampleSheetsView, fit_tiles


@pytest.mark.parametrize(
    ("width", "height", "count"), [(744, 340, 16), (744, 190, 16), (230, 220, 16), (300, 300, 1), (5, 5, 16)]
)
def test_tiles_fit_the_room_there_is(width: int, height: int, count: int) -> None:
    columns, side = fit_tiles(count, width, height, 8)
    rows = -(-count // columns)
    if side > 1:
        assert columns * side + (columns - 1) * GAP <= width
        assert rows * side + (rows - 1) * GAP <= height


def test_a_wide_room_keeps_full_rows() -> None:
    assert fit_tiles(16, 744, 190, 8)[0] == 8
    assert fit_tiles(16, 230, 220, 8)[0] == 4


def test_every_chip_of_the_samples_is_seen_in_a_narrow_room(qtbot: QtBot) -> None:
    tasks, room = Tasks("samples"), QWidget()
    qtbot.addWidget(room)
    samples = SampleSheetsView(tasks)
    samples.setParent(room)
    samples.chips.show()
    room.show()
    for width in (300, 340, 900):
        samples.resize(width, 300)
        qtbot.waitUntil(lambda width=width: samples.width() == width and samples.chips.geometry().right() <= width)
    tasks.close()

"""The layout of the samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QContextMenuEvent, QImage
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from diffstudio.training.run.events import RunSamples, channel_sheet
from diffstudio.training.run.run_folder import RunFolder
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.train.run.sample_sheets_view import GAP, SampleGrid, SampleSheetsView, fit_tiles


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


def test_each_channel_of_arrays_is_shown(qtbot: QtBot, tmp_path: Path) -> None:
    """By a drop-down, which is not there for samples that are images."""
    for number in range(6):
        for name in ("ema", "raw"):
            sheet = channel_sheet(tmp_path / f"{name}.png", number)
            Image.new("RGB", (16, 16), (40 * number, 0, 0)).save(sheet)
    tasks = Tasks("samples")
    samples = SampleSheetsView(tasks)
    qtbot.addWidget(samples)
    samples.show()
    images = RunSamples(step=1, ema="ema.png", raw="raw.png", columns=1, rows=1, size=16, prompts=("",))
    samples.show_samples(RunFolder(tmp_path), (images,))
    assert samples.channels.isHidden()
    samples.show_samples(RunFolder(tmp_path), (replace(images, channels=5),))
    assert not samples.channels.isHidden()
    assert [samples.channels.itemText(index) for index in (0, 1, 5)] == ["Channels 1 to 3", "Channel 1", "Channel 5"]
    samples.channels.setFocus()
    for _ in range(4):
        qtbot.keyClick(samples.channels, Qt.Key.Key_Down)

    def red() -> int:
        image = samples.ema.image()
        return 0 if image.isNull() else image.pixelColor(3, 3).red()

    qtbot.waitUntil(lambda: red() == 160)
    tasks.close()


def test_samples_are_chosen_by_keyboard(qtbot: QtBot) -> None:
    """Three columns of two rows: the arrow keys move, and the menu is that of the chosen one."""
    grid, image = SampleGrid("Samples"), QImage(48, 32, QImage.Format.Format_RGB32)
    image.fill(0)
    prompts = ("a", "b", "c", "d", "", "f")
    grid.show_sheet(RunSamples(step=7, ema="", raw="", columns=3, rows=2, size=16, prompts=prompts), image)
    qtbot.addWidget(grid)
    grid.resize(180, 130)
    grid.show()
    qtbot.waitExposed(grid)
    columns = sum(rect.top() == grid.tiles()[0].top() for rect in grid.tiles())
    asked: list[object] = []
    grid.menu_requested.connect(lambda target, _: asked.append(target.prompt))
    for key, index in (
        (Qt.Key.Key_Left, 0),
        (Qt.Key.Key_Right, 1),
        (Qt.Key.Key_Down, 1 + columns),
        (Qt.Key.Key_Up, 1),
        (Qt.Key.Key_End, 5),
        (Qt.Key.Key_Home, 0),
        (Qt.Key.Key_Right, 1),
    ):
        qtbot.keyClick(grid, key)
        assert grid.chosen() == index
    QApplication.sendEvent(grid, QContextMenuEvent(QContextMenuEvent.Reason.Keyboard, QPoint(), QPoint()))
    assert asked == ["b"] and grid.accessibleDescription() == "6 samples at step 7; chosen: b"
    qtbot.mouseClick(grid, Qt.MouseButton.LeftButton, pos=grid.tiles()[4].center().toPoint())
    assert grid.chosen() == 4 and grid.accessibleDescription().endswith("no prompt")

"""The layout of the samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from diffstudio.training.run.events import RunSamples, channel_sheet
from diffstudio.training.run.run_folder import RunFolder
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.train.run.sample_sheets_view import GAP, SampleSheetsView, fit_tiles


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

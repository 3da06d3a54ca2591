"""The channels of a generated array, one after the other on the canvas."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PySide6.QtCore import QSize
from pytestqt.qtbot import QtBot

from diffstudio.imaging.exact_files import ExactValues, write_tiff
from diffstudio.ui.generate.canvas.canvas import Canvas
from diffstudio.ui.generate.canvas.channel_picker import ChannelPicker
from diffstudio.ui.widgets.images.image_reading import read_image


def at_once(work: Callable[[], Any], done: Callable[[Any], None]) -> None:
    done(work())


def test_the_channels_of_the_image_on_the_canvas(qtbot: QtBot, tmp_path: Path) -> None:
    canvas = Canvas()
    qtbot.addWidget(canvas)
    canvas.resize(400, 300)
    picker, chooser = ChannelPicker(canvas, at_once), canvas.zoom_bar.channels
    plain, shown = tmp_path / "plain.png", tmp_path / "five.png"
    for path in (plain, shown):
        Image.new("RGB", (16, 16), (9, 90, 200)).save(path)
    values = np.zeros((16, 16, 5), np.float32)
    values[:, 8:, 2] = 3.5
    with shown.with_suffix(".tif").open("wb") as file:
        write_tiff(file, ExactValues(values, as_png=False))

    canvas.show_one(read_image(plain), plain)
    picker.follow()
    assert chooser.isHidden()
    canvas.show_one(read_image(shown), shown)
    picker.follow()
    assert not chooser.isHidden()
    assert [chooser.itemText(index) for index in range(chooser.count())][:2] == ["Channels 1 to 3", "Channel 1"]
    assert chooser.count() == 6

    def colours() -> list[int]:
        image = canvas.image()
        assert image.size() == QSize(16, 16)
        return [image.pixelColor(column, 5).red() for column in (3, 12)]

    for number, expected in ((3, [0, 255]), (1, [0, 0]), (0, [9, 9])):
        chooser.set_value(number)
        chooser.chosen.emit(number)
        assert colours() == expected
    shown.with_suffix(".tif").unlink()
    chooser.chosen.emit(2)  # the file went away: the canvas keeps what it shows
    assert colours() == [9, 9]
    canvas.begin(1, QSize(16, 16))
    picker.follow()
    assert chooser.isHidden()
    shown.with_suffix(".tif").write_bytes(b"damaged")
    canvas.show_one(read_image(shown), shown)
    picker.follow()
    assert chooser.isHidden()

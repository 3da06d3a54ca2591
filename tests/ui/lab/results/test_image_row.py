"""Images in a row: replaced in their places, so that the focus stays."""

from __future__ import annotations

import numpy as np
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from diffstudio.ui.lab.results.image_row import ImageRow


def images(count: int, value: int) -> list[tuple[str, np.ndarray]]:
    return [(f"{place} of {value}", np.full((4, 4, 3), value, np.uint8)) for place in range(count)]


def test_images_are_replaced_in_their_places(qtbot: QtBot, dressed: QApplication) -> None:
    row = ImageRow("Images", 40)
    qtbot.addWidget(row)
    row.show_images(images(3, 10))
    row.show()
    first = row.thumbnails()[0]
    row.show_images(images(2, 200))
    assert row.thumbnails()[0] is first and len(row.thumbnails()) == 2
    assert first.accessibleName() == "0 of 200" and first.target.image.pixelColor(1, 1).red() == 200
    row.show_images(())
    assert not row.isVisible() and row.thumbnails() == []


def test_images_grow_while_they_fit_into_one_row(qtbot: QtBot, dressed: QApplication) -> None:
    row = ImageRow("Images", 40, 100)
    qtbot.addWidget(row)
    row.show_images(images(3, 10))
    row.show()
    for width, side in ((3 * 70 + 16, 70), (1000, 100), (100, 40)):  # at 100 px they wrap
        row.resize(width, 300)
        assert {thumbnail.width() for thumbnail in row.thumbnails()} == {side}
    row.resize(3 * 70 + 16, 300)
    row.show_images(images(2, 10))
    assert {thumbnail.width() for thumbnail in row.thumbnails()} == {100}

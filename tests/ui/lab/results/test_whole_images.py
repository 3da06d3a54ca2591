"""Images side by side use the width: larger in a wide window, in more rows in a narrow one, none cut off."""

from __future__ import annotations

import pytest
from PySide6.QtWidgets import QApplication, QVBoxLayout, QWidget
from pytestqt.qtbot import QtBot

from diffstudio.ui.lab.results.whole_images import LARGEST, LEAST, WholeImages
from diffstudio.ui.widgets import theme


@pytest.mark.parametrize(("width", "side", "columns"), [(1200, LARGEST, 4), (700, 166, 4), (400, LEAST + 5, 3)])
def test_images_share_the_width(width: int, side: int, columns: int, qtbot: QtBot, dressed: QApplication) -> None:
    holder = QWidget()
    qtbot.addWidget(holder)
    row = WholeImages({name: name.title() for name in "abcd"})
    column = QVBoxLayout(holder)
    column.setContentsMargins(0, 0, 0, 0)
    column.addWidget(row)
    column.addStretch(1)
    holder.resize(theme.scaled(width), 900)
    holder.show()
    qtbot.waitExposed(holder)
    places = [image.geometry() for image in row.images.values()]
    assert {place.width() for place in places} == {place.height() for place in places} == {theme.scaled(side)}
    assert len({place.x() for place in places}) == columns and places[0].x() == 0
    assert max(place.right() for place in places) < row.width()
    names = [name.geometry() for name in row._names]
    assert all(name.top() > place.bottom() for name, place in zip(names, places, strict=True))
    assert max(name.bottom() for name in names) == row.height() - 1 and row.height() < 900

"""The bar above the gallery."""

from __future__ import annotations

import pytest
from PySide6.QtCore import QPoint
from pytestqt.qtbot import QtBot

from diffstudio.ui.gallery.top_bar import ORDERS, PERIODS, SHORT, TopBar


@pytest.mark.usefixtures("dressed")
@pytest.mark.parametrize("width", [460, 500, 560, 900])
def test_dates_and_orders_are_read_whole_in_a_narrow_room(qtbot: QtBot, width: int) -> None:
    """460 px are left on a screen of 1366 x 768 px at 150%; a text is shorter there, but never cut off."""
    bar = TopBar()
    qtbot.addWidget(bar)
    bar.resize(width, 96)
    bar.show()
    qtbot.waitExposed(bar)
    for combo, choices in ((bar.period, PERIODS), (bar.order, ORDERS)):
        for value, text in choices:
            combo.set_value(value)
            assert combo.shown_text() in ((text,) if width >= 560 else (text, SHORT.get(text, text)))
    assert bar.rect().contains(bar.cell.mapTo(bar, QPoint(bar.cell.width() - 1, 0)))


def test_short_texts_stand_for_what_can_be_chosen() -> None:
    assert set(SHORT) <= {text for _, text in (*ORDERS, *PERIODS)}
    assert len(set(SHORT.values())) == len(SHORT)

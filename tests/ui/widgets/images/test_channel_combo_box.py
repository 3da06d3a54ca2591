"""Which channels of an array are offered."""

from __future__ import annotations

import pytest
from pytestqt.qtbot import QtBot

from diffstudio.ui.widgets.images.channel_combo_box import ChannelComboBox


@pytest.mark.parametrize(
    ("count", "expected"),
    [(2, ["First channel", "Channel 1", "Channel 2"]), (3, ["Channels 1 to 3", "Channel 1", "Channel 2", "Channel 3"])],
)
def test_what_is_offered(qtbot: QtBot, count: int, expected: list[str]) -> None:
    box = ChannelComboBox("the image")
    qtbot.addWidget(box)
    assert box.isHidden() and "the image" in box.toolTip()
    box.offer(count)
    assert not box.isHidden() and [box.itemText(index) for index in range(box.count())] == expected
    box.set_value(2)
    box.offer(count)  # a newer sheet of the same run
    assert box.value() == 2
    box.offer(0)
    assert box.isHidden()

"""The training time slider and its field."""

from __future__ import annotations

import pytest
from pytestqt.qtbot import QtBot

from diffstudio.ui.train.duration_slider import DurationSlider, minutes_text, parse_minutes
from diffstudio.ui.train.recipe_options import MINUTES


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90", 90),
        ("90 min", 90),
        ("1 h 30 min", 90),
        ("1.5h", 90),
        ("1,5 h", 90),
        ("2 hours", 120),
        ("1h30", 90),
        ("45m", 45),
        ("", None),
        ("0", None),
        ("soon", None),
        ("-5", None),
        ("1 h h", None),
    ],
)
def test_times_as_people_write_them(text: str, minutes: float | None) -> None:
    assert parse_minutes(text) == minutes


@pytest.mark.parametrize("minutes", [*MINUTES, 75, 1499])
def test_a_time_reads_back_as_it_was_written(minutes: int) -> None:
    assert parse_minutes(minutes_text(minutes)) == minutes


def test_the_slider_and_the_field_follow_each_other(qtbot: QtBot) -> None:
    duration = DurationSlider("Time", MINUTES, 120)
    qtbot.addWidget(duration)
    message: list[float] = []
    duration.value_changed.connect(message.append)
    duration.slider.setValue(MINUTES.index(30))
    assert (duration.field.text(), message) == ("30 min", [30])
    duration.field.setValue(100)
    assert message == [30, 100]
    assert duration.slider.value() == MINUTES.index(90)
    assert duration.value() == 100, "the nearest notch does not round what was typed"
    duration.set_value(5)
    assert message == [30, 100], "setting it by program tells nobody"

"""The text size takes effect at once, in what exists and in what is made later, and goes back exactly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PySide6.QtWidgets import QApplication, QListWidget, QVBoxLayout, QWidget
from pytestqt.qtbot import QtBot

from diffstudio.ui.train.duration_slider import DurationSlider
from diffstudio.ui.widgets import text_size, theme
from diffstudio.ui.widgets.helpers import label, set_style_property
from diffstudio.ui.widgets.inputs.check_box import CheckBox
from diffstudio.ui.widgets.inputs.sliders import LabelledSlider
from diffstudio.ui.widgets.note_field import NoteField
from diffstudio.ui.widgets.wrapping_text import WrappingText

SIZES = (90, 100, 110, 125, 150, 175, 200)
PIXELS = (theme.TINY_PIXELS, theme.SMALL_PIXELS, theme.FONT_PIXELS, 16, 18)


@pytest.fixture
def app(dressed: QApplication) -> Iterator[QApplication]:
    yield dressed
    text_size.apply(dressed, 100)


def test_every_font_follows_and_comes_back_exactly(app: QApplication, qtbot: QtBot) -> None:
    place = QWidget()
    qtbot.addWidget(place)
    column = QVBoxLayout(place)
    labels = [label("text", pixels=pixels) for pixels in PIXELS]
    for each in labels:
        column.addWidget(each)
    for percent in (*SIZES, *reversed(SIZES), 100):
        text_size.apply(app, percent)
        assert [each.font().pixelSize() for each in labels] == [round(pixels * percent / 100) for pixels in PIXELS]
    text_size.apply(app, 150)
    theme.apply(app, "light")
    assert [each.font().pixelSize() for each in labels] == [round(pixels * 1.5) for pixels in PIXELS]
    text_size.apply(app, 100)
    assert label("new").font().pixelSize() == theme.FONT_PIXELS


@pytest.mark.parametrize("made_at", [100, 150])
def test_fonts_stay_when_the_style_sheet_is_applied_again(app: QApplication, qtbot: QtBot, made_at: int) -> None:
    """Qt gives a widget the font back that it had when it was shown first, and its parts have fonts of their own."""
    text_size.apply(app, made_at)
    place = QWidget()
    qtbot.addWidget(place)
    column = QVBoxLayout(place)
    text, note = label("text", "dim", pixels=theme.SMALL_PIXELS), NoteField("What came of it…", "A note", 100)
    number, minutes = LabelledSlider("Images", 0, 9, 0, zero="All"), DurationSlider("Time", (1, 60, 120), 120)
    for part in (text, note, number, minutes):
        column.addWidget(part)
    place.show()
    qtbot.waitExposed(place)
    for percent in (150, 100, 125, 100):
        text_size.apply(app, percent)
        for tone in ("bad", "dim"):
            set_style_property(text, "tone", tone)
            set_style_property(note, "wrong", tone == "bad")
            assert text.font().pixelSize() == round(theme.SMALL_PIXELS * percent / 100)
            parts = (
                note,
                note.viewport(),
                number._box,
                number._box.lineEdit(),
                minutes.field,
                minutes.field.lineEdit(),
            )
            sizes = {part.font().pixelSize() for part in parts}
            assert sizes == {round(theme.FONT_PIXELS * percent / 100)}
            assert note.document().defaultFont().pixelSize() in sizes


def test_what_is_sized_for_its_text_grows_with_it(app: QApplication, qtbot: QtBot) -> None:
    place = QWidget()
    qtbot.addWidget(place)
    column = QVBoxLayout(place)
    fixed, slider, box, listed = QWidget(), LabelledSlider("Steps", 1, 1000, 20), CheckBox("On"), QListWidget()
    text = WrappingText("one line of text that wraps where the column is narrow, and is as tall as its lines")
    for part in (fixed, slider, box, listed, text):
        column.addWidget(part)
    text_size.fix_size(fixed, 40, 20)
    listed.addItems(["one", "two"])
    place.resize(300, 500)
    place.show()
    qtbot.waitExposed(place)
    before = slider._box.width(), box.sizeHint().height(), listed.sizeHintForRow(0), text.height()
    text_size.apply(app, 200)
    assert (fixed.width(), fixed.height()) == (80, 40)
    after = slider._box.width(), box.sizeHint().height(), listed.sizeHintForRow(0), text.height()
    assert all(large > small for small, large in zip(before, after, strict=True)), (before, after)
    text_size.apply(app, 100)
    assert (fixed.width(), slider._box.width()) == (40, before[0])

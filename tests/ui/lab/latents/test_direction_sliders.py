"""As many sliders as there are directions: a few at first, all when asked, none for a model without them."""

from __future__ import annotations

from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from diffstudio.ui.lab.latents.direction_sliders import FIRST, DirectionSliders


def test_only_the_directions_of_the_model_count(qtbot: QtBot, dressed: QApplication) -> None:
    sliders = DirectionSliders()
    qtbot.addWidget(sliders)
    sliders.set_count(32)
    assert sliders.isVisibleTo(sliders.parentWidget()) or sliders.isVisible()
    sliders.more.click()
    sliders.slider(20).set_value(-1.5)
    sliders.slider(2).set_value(3)
    assert sliders.amounts() == ((2, 3.0), (20, -1.5))
    sliders.set_count(4)  # of another model
    assert sliders.amounts() == ((2, 3.0),) and not sliders.slider(20).isVisible()
    sliders.set_count(0)
    assert not sliders.isVisible() and sliders.amounts() == ()


def test_few_directions_need_no_button(qtbot: QtBot, dressed: QApplication) -> None:
    sliders = DirectionSliders()
    qtbot.addWidget(sliders)
    sliders.set_count(FIRST)
    sliders.show()
    assert not sliders.more.isVisible() and sliders.slider(FIRST - 1).isVisible()

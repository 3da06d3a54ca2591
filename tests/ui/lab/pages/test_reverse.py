"""The page Reverse process in use: the film by slider, keys and by itself, its files, its form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QContextMenuEvent
from PySide6.QtWidgets import QApplication, QLabel
from pytestqt.qtbot import QtBot

from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.ui.lab.pages import reverse
from diffstudio.ui.lab.pages.reverse import ReverseResultView
from diffstudio.ui.lab.room import LabRoom
from diffstudio.ui.widgets import theme
from tests.studio.evaluations.views.test_reverse import example
from tests.ui import walk
from tests.ui.accessibility import accessibility_problems


@pytest.fixture
def view(tmp_path: Path, qtbot: QtBot, dressed: QApplication) -> ReverseResultView:
    view = ReverseResultView()
    qtbot.addWidget(view)
    view.resize(700, 900)
    view.show_result(reverse.read(JobFolder(tmp_path), example(tmp_path)))
    view.show()
    qtbot.waitExposed(view)
    return view


def greys(view: ReverseResultView) -> list[int]:
    return [image.target.image.pixelColor(0, 0).green() for image in view.film.images.values()]


def test_the_slider_and_the_keys_move_through_the_steps(view: ReverseResultView, qtbot: QtBot) -> None:
    film = view.film
    assert film.step() == 2 and greys(view) == [0, 0, 130, 140] and film.about.text() == "Finished"
    qtbot.keyClick(film, Qt.Key.Key_Home)
    assert greys(view) == [10, 20, 30, 40] and film.about.text().startswith("Step 1 of 2: t 1")
    qtbot.keyClick(film, Qt.Key.Key_Right)
    assert greys(view) == [110, 120, 130, 140] and "Step 2 of 2" in film.images["state"].accessibleName()
    qtbot.keyClick(film.slider, Qt.Key.Key_Left)
    assert greys(view) == [10, 20, 30, 40]
    qtbot.keyClick(film, Qt.Key.Key_A)  # belongs to nobody
    film.slider.setValue(2)
    assert greys(view)[0] == 0


def test_it_plays_from_the_start_and_stops_when_it_is_hidden(view: ReverseResultView, qtbot: QtBot) -> None:
    film = view.film
    qtbot.keyClick(film, Qt.Key.Key_Space)
    assert film.is_playing() and film.step() == 0 and film.play.accessibleName() == "Pause"
    qtbot.waitUntil(lambda: film.step() == 2)
    film._timer.timeout.emit()  # it goes on from the start
    assert film.step() == 0
    film.play.click()
    assert not film.is_playing() and film.play.accessibleName() == "Play"
    film.play.click()
    view.hide()
    assert not film.is_playing()


def test_files_plots_and_the_menu_of_images(view: ReverseResultView, qtbot: QtBot, tmp_path: Path) -> None:
    animation, frames = view.save.files()
    view.save.save(animation, tmp_path / animation.name)
    view.save.save(frames, tmp_path / frames.name)
    assert (tmp_path / "reverse.gif").read_bytes() == b"GIF89a" and (tmp_path / "reverse.zip").stat().st_size > 500
    assert [view.plot.choice.itemText(place) for place in range(2)] == ["Noise level", "Log-SNR"]
    event = QContextMenuEvent(QContextMenuEvent.Reason.Keyboard, QPoint(), QPoint())
    with qtbot.waitSignal(view.menu_requested) as caught:
        QApplication.sendEvent(view.film.images["estimate"], event)
    assert caught.args[0].path == tmp_path / "image.png"


@pytest.mark.parametrize("colours", ["dark", "light"])
def test_nothing_is_cut_off_or_without_a_name_in_a_narrow_window(
    view: ReverseResultView, dressed: QApplication, colours: str
) -> None:
    theme.apply(dressed, colours)
    view.resize(531, 1600)
    walk.settle()
    assert accessibility_problems(view) == []
    assert walk.clipped(view) == [] and walk.pushed_out(view) == [] and walk.hard_to_read(view) == []


def test_its_form_is_in_the_room(make_room: Callable[[], LabRoom]) -> None:
    form = make_room().show_form("reverse").form
    form.fill(["starter", "--prompt", "red apple", "--steps", "8"])
    assert form.problem() == "" and form.job_name() == "red apple"
    form.fill(["starter"])
    assert form.job_name() == "film" and form.arguments() == ["starter"]


def test_its_controls_are_called_as_in_generate(make_room: Callable[[], LabRoom]) -> None:
    form = make_room().show_form("reverse").form
    texts = {each.text() for each in form.findChildren(QLabel)}
    assert {"Sampler", "Scheduler"} <= texts and "Spacing" not in texts

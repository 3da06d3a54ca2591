"""The page Attention: its form is the command line, words are hovered, and places are pointed at."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PySide6.QtCore import QEvent, QPoint, QPointF, Qt
from PySide6.QtGui import QContextMenuEvent, QEnterEvent
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from diffstudio.cli import _parser
from diffstudio.ui.lab.pages.attention import PAGE, AttentionResultView
from tests.studio.evaluations.views.test_attention import example


@pytest.fixture
def view(qtbot: QtBot, dressed: QApplication, tmp_path: Path) -> AttentionResultView:
    view = AttentionResultView()
    qtbot.addWidget(view)
    view.resize(700, 900)
    view.show_result(example(tmp_path / "job"))
    view.show()
    qtbot.waitExposed(view)
    return view


@pytest.mark.parametrize(
    "arguments",
    [
        ["starter", "a red apple"],
        ["starter", "cat", "--negative=dog", "--steps", "7", "--guidance", "2.5", "--maps", "outputs", "--test", "0"],
        ["starter", "cat AND dog", "--seed", "4"],
        ["starter", "--prompt=-text"],
        ["starter", "--seed", "4", "--", "-text"],
    ],
)
def test_a_command_goes_through_its_form(arguments: list[str], qtbot: QtBot, dressed: QApplication) -> None:
    form = PAGE.make_form()
    qtbot.addWidget(form)
    assert form.problem() == "Choose a checkpoint"
    form.fill([*arguments])
    again = _parser().parse_args(["attention", "--out", "/out", *form.arguments()])
    assert vars(again) == vars(_parser().parse_args(["attention", "--out", "/out", *arguments]))
    assert form.problem() == "" and form.job_name() == again.prompt
    form.fill(["starter", " "])
    assert form.problem() == "Write a prompt"


def test_a_word_shows_its_map_while_it_is_hovered(view: AttentionResultView, qtbot: QtBot) -> None:
    maps = view.maps
    assert maps.shown_word() == 0 and maps.caption.text() == "red: all layers, all steps"
    assert maps.masked.isVisible() and maps.masked_caption.text() == "Without red"
    red = maps.image.grab().toImage()
    apple = maps.words.chip(1)
    at = QPointF(3, 3)
    QApplication.sendEvent(apple, QEnterEvent(at, at, at))
    assert maps.shown_word() == 1 and maps.image.grab().toImage() != red and not maps.masked.isVisible()
    QApplication.sendEvent(apple, QEvent(QEvent.Type.Leave))
    assert maps.shown_word() == 0 and maps.image.grab().toImage() == red
    qtbot.mouseClick(maps.words.chip(None), Qt.MouseButton.LeftButton)
    maps.words.chip(None).clearFocus()
    assert maps.shown_word() is None and maps.caption.text() == "The image" and not maps.plain.isVisible()


def test_words_are_reached_by_keyboard(view: AttentionResultView, qtbot: QtBot) -> None:
    view.activateWindow()
    view.maps.words.chip(1).setFocus(Qt.FocusReason.TabFocusReason)
    qtbot.waitUntil(lambda: view.maps.shown_word() == 1)
    qtbot.keyClick(view.maps.words.chip(1), Qt.Key.Key_Space)
    view.maps.words.chip(1).clearFocus()
    assert view.maps.shown_word() == 1


def test_a_place_names_its_words(view: AttentionResultView, qtbot: QtBot) -> None:
    maps = view.maps
    assert maps.here.toPlainText().startswith("Hover a word")
    width, height = maps.image.width(), maps.image.height()
    qtbot.mouseMove(maps.image, QPoint(width // 2 + 20, height // 2))
    qtbot.waitUntil(lambda: maps.here.toPlainText() == "Here: apple 100%")
    for _ in range(20):
        qtbot.keyClick(maps.image, Qt.Key.Key_Left)
    assert maps.here.toPlainText() == "Here: red 100%"
    qtbot.keyClick(maps.image, Qt.Key.Key_Home)  # any other key is not for the image
    QApplication.sendEvent(maps.image, QEvent(QEvent.Type.Leave))
    assert maps.here.toPlainText().startswith("Hover a word")


def test_layers_and_steps_are_chosen(view: AttentionResultView, qtbot: QtBot) -> None:
    maps = view.maps
    before = maps.image.grab().toImage()
    maps.layer._slider.setValue(2)
    maps.step._slider.setValue(3)
    assert maps.place() == (1, 2) and maps.caption.text() == "red: block 1, step 3, noise level 0.30"
    assert maps.image.grab().toImage() != before


def test_what_is_shown_is_saved_and_has_a_menu(view: AttentionResultView, qtbot: QtBot, tmp_path: Path) -> None:
    maps = view.maps
    png, npz = maps.save.files()
    with Image.open(io.BytesIO(png.content())) as image:
        assert image.size == (16, 16) and png.name == "word-01.png"
    with np.load(io.BytesIO(npz.content())) as arrays:
        assert arrays["maps"].shape == (2, 2, 3, 2, 2)
    with qtbot.waitSignal(view.menu_requested) as asked:
        event = QContextMenuEvent(QContextMenuEvent.Reason.Keyboard, QPoint(0, 0), QPoint(9, 9))
        QApplication.sendEvent(maps.plain, event)
    target, _ = asked.args
    assert target.path is not None and target.path.name == "picture.png"


def test_the_verdict_stands_beside_its_evidence(view: AttentionResultView) -> None:
    assert "1 of 1" in view.verdict.text() and view.table.model.rowCount() == 2
    assert "brightest 25%" in view.how.text() and view.notes.text() == "A note."

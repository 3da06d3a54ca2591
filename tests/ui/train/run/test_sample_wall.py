"""The samples of all steps of a run, one row each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QColor, QContextMenuEvent
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from diffstudio.training.run.events import RunSamples
from diffstudio.training.run.run_folder import RunFolder
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.train.run.sample_sheets_view import BOTH, RAW, SampleSheetsView
from diffstudio.ui.train.run.sample_wall import SampleWall
from diffstudio.ui.widgets.images.image_menu import ImageTarget

PROMPTS = ("a cat", "a dog", "a bird")


def sheets(folder: Path, count: int) -> tuple[RunSamples, ...]:
    """Sheets of 2 x 2 samples of 8 px, of which three are used. The red of an EMA sample says its step, the green of
    all samples which one it is; those of the raw weights are blue."""
    (folder / "samples").mkdir(parents=True)
    found = []
    for step in range(1, count + 1):
        for kind, blue in (("ema", 0), ("raw", 255)):
            sheet = Image.new("RGB", (16, 16))
            for index in range(4):
                colour = (10 * step, 80 * index, blue)
                sheet.paste(colour, (index % 2 * 8, index // 2 * 8, index % 2 * 8 + 8, index // 2 * 8 + 8))
            sheet.save(folder / "samples" / f"{step}-{kind}.png")
        found.append(RunSamples(step * 100, f"samples/{step}-ema.png", f"samples/{step}-raw.png", 2, 2, 8, PROMPTS))
    return tuple(found)


@pytest.fixture
def view(qtbot: QtBot, dressed: QApplication, tmp_path: Path) -> Iterator[SampleSheetsView]:
    tasks = Tasks("wall")
    view = SampleSheetsView(tasks)
    qtbot.addWidget(view)
    view.resize(400, 360)
    view.show()
    view.show_samples(RunFolder(tmp_path), sheets(tmp_path, 20))
    view.all_steps.click()
    yield view
    tasks.close()


def colour_at(wall: SampleWall, row: int, column: int) -> tuple[int, int, int]:
    pixel = wall.viewport().grab().toImage().pixelColor(wall.cell(row, column).center())
    return pixel.red(), pixel.green(), pixel.blue()


def test_rows_are_steps_and_columns_are_prompts(qtbot: QtBot, view: SampleSheetsView) -> None:
    wall = view.wall
    assert wall.isVisible() and not view.ema.isVisible() and view.slider.isHidden()
    assert [row.sheet.step for row in wall.rows()] == [100 * step for step in range(1, 21)]
    assert wall.verticalScrollBar().value() == wall.verticalScrollBar().maximum() > 0, "the newest is in view"
    qtbot.waitUntil(lambda: colour_at(wall, 19, 1) == (200, 80, 0))
    assert colour_at(wall, 18, 2) == (190, 160, 0)
    wall.verticalScrollBar().setValue(0)
    qtbot.waitUntil(lambda: colour_at(wall, 0, 0) == (10, 0, 0))
    view.show_samples(RunFolder(wall.rows()[0].path.parents[1]), view._sheets)  # the next refresh of the room
    assert wall.verticalScrollBar().value() == 0, "what is looked at stays in view"


def test_the_wall_has_all_of_the_height_and_its_prompts_are_not_drawn_over(
    qtbot: QtBot, view: SampleSheetsView
) -> None:
    wall = view.wall
    qtbot.waitUntil(lambda: wall.y() < view.chips.geometry().bottom() + 20)
    qtbot.waitUntil(lambda: colour_at(wall, 19, 1) == (200, 80, 0))
    wall.verticalScrollBar().setValue(wall.verticalScrollBar().maximum() - wall.side() // 2)  # a row is cut at the top
    qtbot.waitUntil(lambda: colour_at(wall, 18, 1) == (190, 80, 0))
    shot = wall.viewport().grab().toImage()
    background = shot.pixelColor(1, 1)
    assert all(shot.pixelColor(wall.cell(0, column).right() - 3, 1) == background for column in range(4))


def test_only_sheets_in_view_are_read(qtbot: QtBot, view: SampleSheetsView) -> None:
    qtbot.waitUntil(lambda: colour_at(view.wall, 19, 1) == (200, 80, 0))
    assert 2 <= len(view.wall._small) < 8


def test_raw_weights_alone_or_below_those_of_the_ema(qtbot: QtBot, view: SampleSheetsView) -> None:
    view.chips.chip(RAW).click()
    qtbot.waitUntil(lambda: colour_at(view.wall, 19, 1) == (200, 80, 255))
    view.chips.chip(BOTH).click()
    assert [row.weights for row in view.wall.rows()[:4]] == ["EMA", "raw", "EMA", "raw"]
    qtbot.waitUntil(lambda: colour_at(view.wall, 39, 1) == (200, 80, 255) and colour_at(view.wall, 38, 1)[2] == 0)


def test_arrow_keys_choose_an_image_and_the_menu_key_opens_its_menu(qtbot: QtBot, view: SampleSheetsView) -> None:
    wall = view.wall
    qtbot.keyClick(wall, Qt.Key.Key_Right)
    for _ in range(19):
        qtbot.keyClick(wall, Qt.Key.Key_Up)
    assert wall.verticalScrollBar().value() == 0 and wall.accessibleDescription() == "a dog · step 100"
    with qtbot.waitSignal(view.menu_requested) as asked:
        centre = wall.rect().center()
        menu_key = QContextMenuEvent(QContextMenuEvent.Reason.Keyboard, centre, wall.mapToGlobal(centre))
        QApplication.sendEvent(wall.viewport(), menu_key)
    target = asked.args[0]
    assert isinstance(target, ImageTarget) and target.prompt == "a dog" and target.image.width() == 8
    assert target.image.pixelColor(4, 4) == QColor(10, 80, 0)
    for _ in range(19):
        qtbot.keyClick(wall, Qt.Key.Key_Down)
    assert wall.verticalScrollBar().value() == wall.verticalScrollBar().maximum()


def test_a_click_chooses_an_image_and_the_gaps_hold_none(qtbot: QtBot, view: SampleSheetsView) -> None:
    wall = view.wall
    qtbot.mouseClick(wall.viewport(), Qt.MouseButton.LeftButton, pos=wall.cell(19, 2).center())
    chosen = wall.chosen()
    assert chosen is not None and chosen.prompt == "a bird"
    with qtbot.assertNotEmitted(view.menu_requested):
        point = wall.cell(19, 2).topRight() + QPoint(2, 2)
        beside = QContextMenuEvent(QContextMenuEvent.Reason.Mouse, point, wall.viewport().mapToGlobal(point))
        QApplication.sendEvent(wall.viewport(), beside)


def test_a_sheet_that_is_gone_leaves_empty_places(qtbot: QtBot, view: SampleSheetsView, tmp_path: Path) -> None:
    (tmp_path / "samples" / "1-ema.png").unlink()
    wall = view.wall
    wall.verticalScrollBar().setValue(0)
    qtbot.waitUntil(lambda: wall.rows()[0].path in wall._small)
    assert wall._target(0, 0) is None and wall._target(1, 5) is None
    qtbot.waitUntil(lambda: colour_at(wall, 1, 0) == (20, 0, 0))


def test_one_sheet_needs_no_wall(qtbot: QtBot, view: SampleSheetsView) -> None:
    view.show_samples(RunFolder(view.wall.rows()[0].path.parents[1]), view._sheets[:1])
    assert view.wall.isHidden() and view.all_steps.isHidden() and view.ema.isVisible()

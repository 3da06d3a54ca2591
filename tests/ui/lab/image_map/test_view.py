"""The result of a map: layouts, colours, legend, files, and the images between two samples."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QContextMenuEvent
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.views.image_map import CLASSES, ImageMapView, read_image_map
from diffstudio.ui.lab.image_map.view import ImageMapResultView
from diffstudio.ui.widgets import theme
from tests.studio.evaluations.views.test_image_map import example
from tests.ui import walk
from tests.ui.accessibility import accessibility_problems

PATIENCE_MS = 30_000


def choose(box: object, value: object) -> None:
    """As a person chooses in a drop-down."""
    box.set_value(value)  # type: ignore[attr-defined]
    box.chosen.emit(value)  # type: ignore[attr-defined]


def test_what_was_laid_out_is_said_with_its_trust(view: ImageMapResultView) -> None:
    assert view.summary.toPlainText().startswith("20 images by the features of a network.")
    assert view.about.toPlainText() == "Trustworthiness 0.912 (9 neighbours, 20 images). About the PCA."
    assert [chip.text() for chip in view.legend.chips] == ["Training images (12)", "Held-out images (4)", "tiny (4)"]
    assert view.notes.text() == "Few images." and "Trustworthiness" in view.how.text()
    choose(view.layout_choice, 1)
    assert view.about.toPlainText().endswith("About UMAP.") and "needs at least" in view.about.toPlainText()


def test_an_image_stays_chosen_in_another_layout(view: ImageMapResultView, tmp_path: Path) -> None:
    view.canvas.choose(5)
    view.canvas.choose(17, second=True)
    place = view.canvas.place_of(5)
    choose(view.layout_choice, 1)
    assert (view.canvas.first, view.canvas.second) == (5, 17) and view.canvas.place_of(5) != place
    view.show_result(read_image_map(JobFolder(tmp_path), example(tmp_path, tmp_path / "tiny", layouts=1)))
    assert view.canvas.first is None and not view.layout_choice.isEnabled()  # another result
    assert "one layout" in view.layout_choice.toolTip() and view.colours.isEnabled()


def test_the_legend_hides_a_part_and_what_is_chosen_of_it(view: ImageMapResultView, qtbot: QtBot) -> None:
    view.canvas.choose(0)
    view.canvas.choose(13, second=True)
    view.legend.chips[0].click()
    assert (view.canvas.first, view.canvas.second) == (13, None)
    view.canvas.setFocus()
    qtbot.keyClick(view.canvas, Qt.Key.Key_Up)
    assert view.canvas.first == 13  # what is above is hidden
    view.legend.chips[0].click()
    qtbot.keyClick(view.canvas, Qt.Key.Key_Up)
    assert view.canvas.first == 9
    choose(view.layout_choice, 1)
    assert view.legend.hidden() == frozenset()


def test_colours_by_class_have_a_legend_of_their_own(view: ImageMapResultView) -> None:
    choose(view.colours, CLASSES)
    assert [chip.text() for chip in view.legend.chips] == ["blue (6)", "red (14)"]
    assert b"blue" in view.save.files()[2].content()


def test_it_is_saved_as_png_svg_and_coordinates(view: ImageMapResultView, tmp_path: Path) -> None:
    names = [file.name for file in view.save.files()]
    assert names == ["map-pca.png", "map-pca.svg", "map-pca.csv"]
    contents = [file.content() for file in view.save.files()]
    assert contents[0].startswith(b"\x89PNG") and b"<svg" in contents[1]
    lines = contents[2].decode().splitlines()
    assert lines[0] == "x,y,group,name,label" and lines[1] == "0,0,Training images,red/00.png,red" and len(lines) == 21


def test_the_chosen_image_is_shown_large_with_its_menu(
    view: ImageMapResultView, qtbot: QtBot, image_map: ImageMapView
) -> None:
    panel = view.selection
    assert panel.how.isVisible() and not panel.first.isVisible() and not panel.button.isEnabled()
    view.canvas.choose(12)
    assert panel.first.text.toPlainText() == "Held-out images\nblue/0.png\nblue" and not panel.how.isVisible()
    qtbot.waitUntil(lambda: not panel.first.thumbnail.image().isNull(), timeout=PATIENCE_MS)
    assert panel.first.thumbnail.image().pixelColor(4, 4).blue() == 255
    with qtbot.waitSignal(view.menu_requested) as asked:
        QApplication.sendEvent(
            panel.first.thumbnail, QContextMenuEvent(QContextMenuEvent.Reason.Keyboard, QPoint(), QPoint())
        )
    assert asked.args is not None and asked.args[0].path == image_map.file(12)
    view.canvas.choose(19)
    assert "was not kept" in panel.first.text.toPlainText() and panel.first.thumbnail.image().isNull()
    image_map.file(3).unlink()  # type: ignore[union-attr]
    view.canvas.choose(3)
    qtbot.waitUntil(lambda: "cannot be read" in panel.first.text.toPlainText(), timeout=PATIENCE_MS)


def test_two_samples_show_the_images_between_them(view: ImageMapResultView, qtbot: QtBot) -> None:
    panel = view.selection
    view.canvas.choose(0)
    view.canvas.choose(16, second=True)
    assert not panel.button.isEnabled() and panel.why.text().startswith("Choose two samples of one checkpoint")
    view.canvas.choose(16)
    view.canvas.choose(17, second=True)
    assert panel.button.isEnabled() and panel.why.text() == ""
    with qtbot.waitSignal(panel.between_shown, timeout=PATIENCE_MS):
        panel.button.click()
    assert len(panel.between.thumbnails()) == 9 and "interpolated spherically from one seed" in panel.why.text()
    view.canvas.choose(19, second=True)  # asked for another class
    assert panel.between.thumbnails() == []
    with qtbot.waitSignal(panel.between_shown, timeout=PATIENCE_MS):
        panel.button.click()
    assert "from “red” to “blue”" in panel.why.text() and panel.button.isEnabled()


def test_why_there_are_no_images_between_is_said(
    view: ImageMapResultView, qtbot: QtBot, image_map: ImageMapView
) -> None:
    panel = view.selection
    view.canvas.choose(16)
    view.canvas.choose(17, second=True)
    checkpoint = Path(image_map.part(16).checkpoint)
    checkpoint.write_bytes(b"no checkpoint")
    panel.button.click()
    qtbot.waitUntil(lambda: panel.why.text() != "" and not panel.answers.busy, timeout=PATIENCE_MS)
    assert panel.between.thumbnails() == []
    checkpoint.unlink()
    view.canvas.choose(18, second=True)
    assert "no longer exists" in panel.why.text() and not panel.button.isEnabled()


def test_work_that_takes_long_shows_its_line(view: ImageMapResultView, qtbot: QtBot) -> None:
    view.selection.answers.busy_changed.emit(True)
    assert not view.selection.line.isVisible()
    qtbot.waitUntil(view.selection.line.isVisible)
    view.selection.answers.busy_changed.emit(False)
    assert not view.selection.line.isVisible()


@pytest.mark.parametrize("colours", ["dark", "light"])
def test_nothing_is_cut_off_or_without_a_name_in_a_narrow_window(
    view: ImageMapResultView, qtbot: QtBot, dressed: QApplication, colours: str
) -> None:
    view.canvas.choose(16)
    view.canvas.choose(17, second=True)
    with qtbot.waitSignal(view.selection.between_shown, timeout=PATIENCE_MS):
        view.selection.button.click()
    theme.apply(dressed, colours)
    view.resize(531, 2200)  # of a window of 880 x 470 px, with all that is scrolled to
    walk.settle()
    assert accessibility_problems(view) == []
    assert walk.clipped(view) == [] and walk.pushed_out(view) == [] and walk.hard_to_read(view) == []
    walk.lengthen(view, set())
    walk.settle()
    assert walk.clipped(view) == [] and walk.pushed_out(view) == []

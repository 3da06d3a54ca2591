"""The page Restore in use: fields by task, images dropped, before and after, and the slider from mean to sample."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QColor, QContextMenuEvent
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.ui.lab.pages import restore
from diffstudio.ui.lab.pages.restore import RestoreForm, RestoreResultView
from diffstudio.ui.lab.room import LabRoom
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.images.drag_and_drop import DroppedItem, DroppedKind
from tests.studio.evaluations.views.test_restore import example
from tests.ui import walk
from tests.ui.accessibility import accessibility_problems


@pytest.fixture
def view(tmp_path: Path, qtbot: QtBot, dressed: QApplication) -> RestoreResultView:
    view = RestoreResultView()
    qtbot.addWidget(view)
    view.resize(700, 900)
    view.show_result(restore.read(JobFolder(tmp_path / "job"), example(tmp_path)))
    view.show()
    qtbot.waitExposed(view)
    return view


def grey_at(view: RestoreResultView, share_of_width: float) -> int:
    """The grey that is painted at this place of the image, from its left."""
    where = view.compared.image_rect()
    point = QPoint(round(where.left() + share_of_width * where.width()), round(where.center().y()))
    image = view.compared.grab().toImage()
    return QColor(image.pixelColor(point * image.devicePixelRatio())).red()


def test_the_image_before_is_left_of_the_divider_and_what_the_slider_says_right_of_it(
    view: RestoreResultView, qtbot: QtBot
) -> None:
    assert view.slider.value() == 25  # as the job's files
    assert grey_at(view, 0.25) == 10 and grey_at(view, 0.75) == pytest.approx(125, abs=1)
    view.slider.set_value(100)
    view.slider.value_changed.emit(100)
    assert grey_at(view, 0.75) == 200
    view.compared.setFocus()
    qtbot.keyClick(view.compared, Qt.Key.Key_End)
    assert grey_at(view, 0.75) == 10
    qtbot.keyClick(view.compared, Qt.Key.Key_Home)
    assert grey_at(view, 0.25) == 200
    for _ in range(10):
        qtbot.keyClick(view.compared, Qt.Key.Key_Right)
    assert "50%" in view.compared.accessibleDescription()
    qtbot.keyClick(view.compared, Qt.Key.Key_A)  # belongs to nobody
    where = view.compared.image_rect()
    qtbot.mouseClick(view.compared, Qt.MouseButton.LeftButton, pos=QPoint(round(where.left() + where.width() / 4), 60))
    assert view.compared.divider == pytest.approx(0.25, abs=0.02)


def test_what_is_shown_can_be_saved_and_has_the_menu_of_images(
    view: RestoreResultView, qtbot: QtBot, tmp_path: Path
) -> None:
    view.slider.set_value(50)
    view.slider.value_changed.emit(50)
    (file,) = view.save.files()
    view.save.save(file, tmp_path / file.name)
    with Image.open(tmp_path / "a-restored.png") as image:
        assert image.getpixel((0, 0)) == 150
    with qtbot.waitSignal(view.menu_requested) as caught:
        QApplication.sendEvent(view.compared, QContextMenuEvent(QContextMenuEvent.Reason.Keyboard, QPoint(), QPoint()))
    assert caught.args[0].image.pixelColor(0, 0).red() == pytest.approx(150, abs=1)


def test_an_image_without_a_sample_whose_file_is_gone(view: RestoreResultView, dressed: QApplication) -> None:
    theme.apply(dressed, "light")
    view.choice.set_value(1)
    view.choice.chosen.emit(1)
    assert view.slider.isHidden() and "original image no longer exists" in view.about.text()
    assert grey_at(view, 0.25) == grey_at(view, 0.75) == 100


@pytest.mark.parametrize("colours", ["dark", "light"])
def test_nothing_is_cut_off_or_without_a_name_in_a_narrow_window(
    view: RestoreResultView, dressed: QApplication, colours: str
) -> None:
    theme.apply(dressed, colours)
    view.resize(531, 1200)
    walk.settle()
    assert accessibility_problems(view) == []
    assert walk.clipped(view) == [] and walk.pushed_out(view) == [] and walk.hard_to_read(view) == []


def test_the_form_shows_the_fields_of_its_task_and_takes_images_and_folders(
    make_room: Callable[[], LabRoom], tmp_path: Path
) -> None:
    form = make_room().show_form("restore").form
    assert isinstance(form, RestoreForm) and form.mask_field.isHidden()
    form.task.combo.set_value("inpaint")
    form.task.changed.emit()
    assert not form.mask_field.isHidden() and form.problem()
    image = DroppedItem(DroppedKind.IMAGE, tmp_path / "holed.png")
    assert form.drop_text([image]) == "Drop to use holed.png as: images"
    form.take([image])
    form.mask_field.take([DroppedItem(DroppedKind.MODEL, tmp_path / "x.safetensors")])
    assert form.images.folder() == tmp_path / "holed.png" and form.job_name() == "Inpaint holed"
    form.mask_field.take([DroppedItem(DroppedKind.FOLDER, tmp_path)])
    assert "--mask" in form.arguments()
    form.mask_field.clear_button.click()
    assert form.mask_field.folder() is None and form.mask_field.clear_button.isHidden()
    dialog = form.images.choose_image()
    dialog.fileSelected.emit(str(tmp_path / "other.png"))
    dialog.close()
    assert form.images.folder() == tmp_path / "other.png"


def test_the_image_is_taller_in_a_wide_window(view: RestoreResultView, qtbot: QtBot) -> None:
    for width, height in ((500, 240), (800, 320), (2000, 448)):
        view.resize(width + view.width() - view.compared.width(), 900)
        QApplication.sendPostedEvents()
        assert (view.compared.width(), view.compared.height()) == (width, theme.scaled(height))


def test_a_result_without_images_is_shown(qtbot: QtBot, tmp_path: Path, dressed: QApplication) -> None:
    view = RestoreResultView()
    qtbot.addWidget(view)
    view.show_result(restore.read(JobFolder(tmp_path / "job"), example(tmp_path) | {"images": []}))
    view.slider.value_changed.emit(50)
    assert "0 images" in view.summary.text()


def test_the_prompt_goes_into_the_command_and_comes_back(qtbot: QtBot, dressed: QApplication) -> None:
    form = RestoreForm()
    qtbot.addWidget(form)
    form.fill(["starter", "/photos/a.png", "--task", "deblur", "--prompt=-apple"])
    assert "--prompt=-apple" in form.arguments()
    form.fill(["starter", "/photos/a.png"])
    assert not any("--prompt" in argument for argument in form.arguments())

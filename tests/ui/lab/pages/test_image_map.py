"""The page Image map: its form, and how its result is read."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from diffstudio.evaluation.maps.layouts import LayoutName
from diffstudio.studio.evaluations.image_map.request import LAYOUTS
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.ui.lab.form_view import FormView
from diffstudio.ui.lab.page import UNDERSTAND
from diffstudio.ui.lab.pages import image_map
from tests.studio.evaluations.views.test_image_map import example


def test_a_folder_is_enough_and_checkpoints_may_join(qtbot: QtBot, dressed: QApplication) -> None:
    view = FormView(image_map.PAGE)
    qtbot.addWidget(view)
    assert not view.start.isEnabled()
    view.form.fill(["/photos"])
    assert view.start.isEnabled() and view.form.arguments() == ["/photos"]
    view.form.fill(["starter", "/made", "/photos"])
    assert view.form.arguments() == ["starter", "/made", "/photos"] and view.form.job_name() == "photos"


def test_the_form_offers_every_layout() -> None:
    assert [value for value, _ in image_map.LAYOUTS] == list(LAYOUTS) and image_map.LAYOUTS[0][0] == LayoutName.PCA
    assert image_map.PAGE.section == UNDERSTAND


def test_the_result_is_read_with_its_images(tmp_path: Path) -> None:
    view = image_map.read(JobFolder(tmp_path), example(tmp_path / "photos", tmp_path / "tiny.safetensors"))
    assert view.result.count == 20 and view.file(0) == tmp_path / "photos" / "red" / "00.png"

"""The page Representations: its form is the command line, and its result has heat maps."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from diffstudio.cli import _parser
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.ui.lab.pages.features import PAGE, FeaturesResultView, read
from tests.studio.evaluations.views.test_features import example


@pytest.mark.parametrize(
    "arguments",
    [
        ["starter", "/photos"],
        ["starter", "/photos", "--levels=0.1,0.3", "--count", "500", "--seed", "2", "--pool", "2"],
    ],
)
def test_a_command_goes_through_its_form(arguments: list[str], qtbot: QtBot, dressed: QApplication) -> None:
    form = PAGE.make_form()
    qtbot.addWidget(form)
    form.fill([*arguments])
    again = _parser().parse_args(["features", *form.arguments(), "--out", "/out"])
    assert vars(again) == vars(_parser().parse_args(["features", *arguments, "--out", "/out"]))
    assert form.problem() == "" and form.job_name() == "photos"
    for levels in ("a", "0.1,,0.2", "0.1,2", "nan"):
        form.fill(["starter", "/photos", "--levels", levels])
        assert form.problem() == "Write noise levels from 0.001 to 1, separated by commas"


def test_heat_maps_are_shown_and_saved(qtbot: QtBot, dressed: QApplication) -> None:
    view = FeaturesResultView()
    qtbot.addWidget(view)
    view.resize(700, 900)
    view.show_result(read(JobFolder(Path("job")), example()))
    view.show()
    assert "better than raw pixels" in view.verdict.text() and view.table.model.rowCount() == 2
    before = view.plot.canvas.grab().toImage()
    assert [file.name for file in view.plot.save.files()] == [f"features-linear.{end}" for end in ("png", "svg", "csv")]
    assert view.plot.save.files()[2].content().decode().splitlines()[1] == "block 0,0.1,0.5,,"
    view.plot.choice.set_value(1)
    view.plot.choice.chosen.emit(1)
    assert view.plot.canvas.grab().toImage() != before
    assert "block 1, 0.2 0.8" in view.plot.canvas.accessibleDescription()
    view.show_result(read(JobFolder(Path("job")), example(accuracy={}, classes=[], parts={})))
    assert view.plot.isHidden() and view.table.isHidden() and "no classes" in view.verdict.text()

"""The page Anomalies in use: the false-alarm rate, heat maps, decisions by mouse and keyboard, files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QContextMenuEvent
from PySide6.QtWidgets import QApplication
from pytestqt.modeltest import ModelTester
from pytestqt.qtbot import QtBot

from diffstudio.studio.evaluations.anomalies.decisions import DECISIONS, Decision, read_decisions
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.ui.lab.form_view import FormView
from diffstudio.ui.lab.pages import anomalies
from diffstudio.ui.lab.pages.anomalies import AnomaliesResultView
from diffstudio.ui.lab.room import LabRoom
from diffstudio.ui.widgets import theme
from tests.studio.evaluations.views.test_anomalies import SCORES, example
from tests.ui import walk
from tests.ui.accessibility import accessibility_problems

PATIENCE_MS = 30_000
LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """The folder of a finished job, with heat maps in red of images in blue."""
    path = tmp_path / "job"
    for name in SCORES:
        for file, colour in ((tmp_path / "today" / name, "blue"), (path / "heat maps" / f"{name}.png", "red")):
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 20), colour).save(file)
    return path


@pytest.fixture
def view(job: Path, qtbot: QtBot, dressed: QApplication) -> Iterator[AnomaliesResultView]:
    view = AnomaliesResultView()
    qtbot.addWidget(view)
    view.resize(700, 1200)
    view.show_result(anomalies.read(JobFolder(job), example(folder=str(job.parent / "today"))))
    view.show()
    qtbot.waitExposed(view)
    view.activateWindow()
    qtbot.waitUntil(view.isActiveWindow)
    yield view
    view.shut_down()


def statuses(view: AnomaliesResultView) -> list[str]:
    model = view.decisions.model
    return [model.status(image) for row in range(model.rowCount()) if (image := model.image_at(model.index(row)))]


def colour_of_the_first(view: AnomaliesResultView) -> str:
    shown = view.decisions.list
    centre = shown.visualRect(shown.model().index(0, 0)).topLeft() + QPoint(72, 72)
    colour = shown.viewport().grab().toImage().pixelColor(centre * shown.devicePixelRatioF())
    return {(255, 0, 0): "red", (0, 0, 255): "blue"}.get((colour.red(), colour.green(), colour.blue()), "none")


@pytest.mark.parametrize("colours", ["dark", "light"])
def test_nothing_is_cut_off_or_without_a_name_in_a_narrow_window(
    view: AnomaliesResultView, qtbot: QtBot, dressed: QApplication, colours: str
) -> None:
    theme.apply(dressed, colours)
    view.resize(531, 2200)  # of a window of 880 x 470 px, with all that is scrolled to
    walk.settle()
    assert accessibility_problems(view) == []
    assert walk.clipped(view) == [] and walk.pushed_out(view) == [] and walk.hard_to_read(view) == []
    walk.lengthen(view, set())
    walk.settle()
    assert walk.clipped(view) == [] and walk.pushed_out(view) == []


def test_images_are_listed_worst_first_with_their_heat_maps(
    view: AnomaliesResultView, qtbot: QtBot, qtmodeltester: ModelTester
) -> None:
    qtmodeltester.check(view.decisions.model)
    model = view.decisions.model
    assert [model.index(row).data() for row in range(model.rowCount())] == list(SCORES)
    accessible = model.index(1).data(Qt.ItemDataRole.AccessibleTextRole)
    assert accessible == "odd.png: normal, p 0.100, score 18.5"
    assert "anomalous" in model.index(0).data(Qt.ItemDataRole.ToolTipRole)
    qtbot.waitUntil(lambda: colour_of_the_first(view) == "red", timeout=PATIENCE_MS)
    view.decisions.list.setFocus()
    qtbot.keyClick(view.decisions.list, Qt.Key.Key_H)
    qtbot.waitUntil(lambda: colour_of_the_first(view) == "blue", timeout=PATIENCE_MS)
    assert not view.decisions.heat_maps.isChecked()
    assert "nearest normal image 0.050" in view.decisions.about.text()


def test_the_detector_that_decides_is_shown_with_its_reason(view: AnomaliesResultView) -> None:
    assert view.why.text() == "Pixels decide." and view.table.model.rowCount() == 3
    assert view.table.model.headerData(0, Qt.Orientation.Horizontal) == "Detector"
    assert view.plot.choice.itemText(1) == "Scores, sorted" and view.notes.text() == "Few images."
    assert view.suspicious.text().endswith("strange.png") and "p-value" in view.how.text()


def test_the_slider_moves_which_images_are_anomalous(view: AnomaliesResultView, qtbot: QtBot) -> None:
    rate = view.decisions.rate
    assert statuses(view) == ["anomalous", "normal", "normal", "normal"]
    rate.set_value(0)  # below what 19 normal images support
    assert rate.value() == 5 and "rates of 5% and above" in view.decisions.called.text()
    view.plot.choice.set_value(1)
    view.plot.choice.chosen.emit(1)
    before = view.plot.canvas.grab().toImage()
    rate._slider.setFocus()
    for _ in range(51):
        qtbot.keyClick(rate._slider, Qt.Key.Key_Right)
    assert rate.value() == 10.1 and statuses(view)[:3] == ["anomalous", "anomalous", "normal"]
    assert view.decisions.called.text().startswith("2 of 4 images are called anomalous (score above 18.0).")
    assert view.plot.choice.value() == 1 and view.plot.canvas.grab().toImage() != before
    view.decisions.kind.set_value("anomalous")
    view.decisions.kind.chosen.emit("anomalous")
    assert len(statuses(view)) == 2 and view.decisions.about.text().startswith("bad.png")
    rate._slider.setValue(999)
    assert len(statuses(view)) == 2 and view.decisions.accept.isEnabled()  # 0.5 is still below the p-value of the third


def test_images_are_accepted_and_rejected_by_keyboard_and_stay_so(
    view: AnomaliesResultView, qtbot: QtBot, job: Path
) -> None:
    shown = view.decisions.list
    shown.setFocus()
    qtbot.keyClick(shown, Qt.Key.Key_R)
    qtbot.keyClick(shown, Qt.Key.Key_Right)  # after the next one, which stays undecided
    qtbot.keyClick(shown, Qt.Key.Key_A)
    decided = {"bad.png": Decision.REJECTED, "fine/a.png": Decision.ACCEPTED}
    qtbot.waitUntil(lambda: read_decisions(job) == decided, timeout=PATIENCE_MS)
    assert statuses(view) == ["anomalous · rejected", "normal", "normal · accepted", "normal"]
    assert shown.currentIndex().row() == 3 and view.decisions.heading.findChildren(object)
    qtbot.keyClick(shown, Qt.Key.Key_Left)
    qtbot.keyClick(shown, Qt.Key.Key_A)  # once more takes it back
    qtbot.waitUntil(lambda: read_decisions(job) == {"bad.png": Decision.REJECTED}, timeout=PATIENCE_MS)
    view.show_result(anomalies.read(JobFolder(job), example()))
    assert statuses(view)[0] == "anomalous · rejected"


def test_several_images_are_decided_at_once_by_the_buttons(view: AnomaliesResultView, qtbot: QtBot, job: Path) -> None:
    decisions = view.decisions
    assert decisions.accept.toolTip().endswith("(A)") and decisions.reject.accessibleName() == "Reject"
    decisions.list.selectAll()
    assert decisions.about.text() == "4 images are selected."
    qtbot.mouseClick(decisions.accept, LEFT)
    qtbot.waitUntil(lambda: len(read_decisions(job)) == 4, timeout=PATIENCE_MS)
    decisions.kind.set_value("undecided")
    decisions.kind.chosen.emit("undecided")
    assert (
        statuses(view) == [] and not decisions.accept.isEnabled() and decisions.about.text() == "No image is selected."
    )
    decisions.decide(Decision.REJECTED)  # of nothing
    decisions.kind.set_value("accepted")
    decisions.kind.chosen.emit("accepted")
    assert len(statuses(view)) == 4


def test_a_decision_that_cannot_be_stored_is_said_and_taken_back(
    view: AnomaliesResultView, qtbot: QtBot, job: Path
) -> None:
    (job / DECISIONS).write_text("{")
    with qtbot.waitSignal(view.message, timeout=PATIENCE_MS) as message:
        qtbot.mouseClick(view.decisions.reject, LEFT)
    assert message.args[0] == "bad" and "cannot be read" in message.args[1]
    assert statuses(view)[0] == "anomalous"


def test_lists_are_saved_at_the_chosen_rate_with_the_decisions(view: AnomaliesResultView, tmp_path: Path) -> None:
    view.decisions.rate._slider.setValue(101)
    view.decisions.decide(Decision.REJECTED)
    table, values = view.decisions.save.files()
    view.decisions.save.save(table, tmp_path / "saved.csv")
    view.decisions.save.save(values, tmp_path / "saved.json")
    lines = list(csv.DictReader((tmp_path / "saved.csv").read_text().splitlines()))
    assert [line["anomalous"] for line in lines] == ["1", "1", "0", "0"] and lines[0]["decision"] == "rejected"
    saved = json.loads((tmp_path / "saved.json").read_text())
    assert saved["false_alarm"] == pytest.approx(0.101) and saved["decisions"] == {"bad.png": "rejected"}


def test_the_menu_is_about_the_image_itself(view: AnomaliesResultView, qtbot: QtBot, job: Path) -> None:
    shown = view.decisions.list
    with qtbot.waitSignal(view.menu_requested) as asked:
        event = QContextMenuEvent(QContextMenuEvent.Reason.Keyboard, QPoint(), QPoint())
        shown.contextMenuEvent(event)
    assert asked.args[0].path == job.parent / "today" / "bad.png"


def test_an_image_that_is_gone_is_shown_as_unreadable(view: AnomaliesResultView, qtbot: QtBot, job: Path) -> None:
    model = view.decisions.model
    model.set_heat_maps(False)
    (job.parent / "today" / "odd.png").unlink()
    view.show_result(anomalies.read(JobFolder(job), example(folder=str(job.parent / "today"))))
    image = model.image_at(model.index(1))
    assert image is not None
    qtbot.waitUntil(lambda: (pixels := model.pixels(image)) is not None and pixels.isNull(), timeout=PATIENCE_MS)


def test_a_checkpoint_and_training_first_exclude_each_other(qtbot: QtBot, dressed: QApplication) -> None:
    view = FormView(anomalies.PAGE)
    qtbot.addWidget(view)
    view.form.fill(["/good", "/photos", "--minutes", "5"])
    assert view.start.isEnabled()
    assert accessibility_problems(view) == []
    view.form.fill(["parts", "/good", "/photos", "--minutes", "5"])
    assert view.problem.text() == "Remove the checkpoint, or do not train a model first." and not view.start.isEnabled()


def test_the_room_stops_reading_images_when_it_closes(
    make_room: Callable[[], LabRoom], job: Path, qtbot: QtBot
) -> None:
    room = make_room()
    room.job_view.show_result("anomalies", anomalies.read(JobFolder(job), example()))
    shown = room.job_view.result_view()
    assert isinstance(shown, AnomaliesResultView)
    room.shut_down()
    shown.decisions.decide(Decision.ACCEPTED)
    assert read_decisions(job) == {}

"""The Lab in use: a folder is dropped, a job is started, watched, paused and cancelled; its result is read and saved."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QApplication, QMenu, QMessageBox, QWidget
from pytestqt.qtbot import QtBot

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.studio.evaluations import jobs as jobs_module
from diffstudio.studio.evaluations.job_folder import JobFolder, JobRequest
from diffstudio.studio.evaluations.jobs import JobStatus, LabJobs
from diffstudio.studio.jobs.live_tasks import LiveTasks
from diffstudio.ui.lab import room as module
from diffstudio.ui.lab.folder_field import FolderField
from diffstudio.ui.lab.job_view import JobView
from diffstudio.ui.lab.page import InteractivePage, InteractiveView
from diffstudio.ui.lab.page_list import PAGES
from diffstudio.ui.lab.pages import evaluate
from diffstudio.ui.lab.pages.evaluate import EvaluateView
from diffstudio.ui.lab.results.result_view import ResultView
from diffstudio.ui.lab.room import LabRoom
from diffstudio.ui.lab.subjects_field import SubjectsField
from diffstudio.ui.widgets.images.drag_and_drop import DroppedItem
from tests.ui.samples import checkpoint

PATIENCE_MS = 30_000
TINY = checkpoint("tiny", family="pixel", width=16, height=16, metadata={})


def drop(widget: QWidget, *paths: Path) -> bool:
    """Drag things from a file manager over the widget and let go; whether it took them."""
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    copy, left, none = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    enter = QDragEnterEvent(QPoint(500, 300), copy, data, left, none)
    enter.ignore()
    QApplication.sendEvent(widget, enter)
    event = QDropEvent(QPointF(500, 300), copy, data, left, none)
    if enter.isAccepted():
        QApplication.sendEvent(widget, event)
        QApplication.processEvents()  # it is taken once the drop has returned
    return enter.isAccepted() and event.isAccepted()


def start(room: LabRoom, qtbot: QtBot, folder: Path, subject: str = "wait") -> Path:
    """Fill in the form as the program would, and press Start."""
    form_view = room.show_form("evaluate")
    form_view.form.fill([subject, str(folder)])
    with qtbot.waitSignal(room.job_actions.started, timeout=PATIENCE_MS) as started:
        qtbot.keyClick(form_view, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    path: Path = started.args[0]
    return path


def until(qtbot: QtBot, room: LabRoom, path: Path, status: JobStatus) -> None:
    def is_shown() -> bool:
        summary = room.summary(path)
        return summary is not None and summary.status is status

    qtbot.waitUntil(is_shown, timeout=PATIENCE_MS)


def test_a_folder_is_dropped_measured_and_its_result_shown(
    make_room: Callable[[], LabRoom], qtbot: QtBot, tmp_path: Path, lab: LabJobs
) -> None:
    room = make_room()
    form_view = room.form_view("evaluate")
    assert not form_view.start.isEnabled() and form_view.problem.text() == "Choose a folder of images."
    room.set_checkpoints([TINY, checkpoint("sd1", family="sd1", width=512, height=512, metadata={})])
    assert drop(room, tmp_path / "photos")
    assert form_view.problem.text() == "Add a checkpoint or a folder of generated images."
    (tmp_path / "made").mkdir()
    assert drop(room, tmp_path / "made")  # the real images are chosen: this is what is measured
    subjects = form_view.form.fields[1]
    assert isinstance(subjects, SubjectsField)
    assert [subjects.combo.itemText(row) for row in range(subjects.combo.count())] == ["Add a checkpoint…", "tiny"]
    subjects.combo.setFocus()
    qtbot.keyClick(subjects.combo, Qt.Key.Key_Down)
    subjects.combo.activated.emit(1)
    assert subjects.subjects() == [str(tmp_path / "made"), str(TINY.path)]
    qtbot.mouseClick(form_view.start, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: room.selected() is not None, timeout=PATIENCE_MS)
    path = room.selected()
    assert path is not None
    assert JobFolder(path).request().arguments == (str(tmp_path / "made"), str(TINY.path), str(tmp_path / "photos"))
    qtbot.waitUntil(lambda: isinstance(room.job_view.result_view(), EvaluateView), timeout=PATIENCE_MS)
    view = room.job_view.result_view()
    assert isinstance(view, EvaluateView)
    assert view.table.model.index(0, 0).data() == "real images (training part)"
    assert view.pairs.count() == 2 and view.notes.text() == "3 images were left out."
    card = room.jobs_list.cards()[path]
    assert card.status() == "Evaluate · finished" and card.accessibleName() == "photos, Evaluate · finished"
    assert not room.job_view.cancel.isVisible()


def test_progress_is_shown_and_a_job_is_paused_resumed_and_cancelled(
    make_room: Callable[[], LabRoom], qtbot: QtBot, tmp_path: Path
) -> None:
    room = make_room()
    path = start(room, qtbot, tmp_path / "wait", "photos")
    view = room.job_view
    qtbot.waitUntil(lambda: view.progress.text() == "Working, 1 of 4", timeout=PATIENCE_MS)
    assert view.line.fraction() == 0.25 and room.jobs_list.cards()[path].status() == "Evaluate · running · 25%"
    qtbot.mouseClick(view.pause, Qt.MouseButton.LeftButton)
    until(qtbot, room, path, JobStatus.PAUSED)
    qtbot.waitUntil(lambda: view.pause.text() == "Resume", timeout=PATIENCE_MS)
    qtbot.mouseClick(view.pause, Qt.MouseButton.LeftButton)
    until(qtbot, room, path, JobStatus.RUNNING)
    view.cancel.setFocus()
    qtbot.keyClick(view.cancel, Qt.Key.Key_Period, Qt.KeyboardModifier.ControlModifier)
    until(qtbot, room, path, JobStatus.STOPPED)
    qtbot.waitUntil(lambda: view.outcome.isVisible(), timeout=PATIENCE_MS)
    assert "Stopped" in view.outcome.text() and not view.cancel.isVisible()


def test_another_window_finds_the_job_that_goes_on(
    make_room: Callable[[], LabRoom], qtbot: QtBot, tmp_path: Path
) -> None:
    first = make_room()
    path = start(first, qtbot, tmp_path / "wait", "photos")
    until(qtbot, first, path, JobStatus.RUNNING)
    first.shut_down()
    second = make_room()
    qtbot.waitUntil(lambda: path in second.jobs_list.cards(), timeout=PATIENCE_MS)
    (path / "go").touch()
    second.jobs_list.cards()[path].setFocus()
    qtbot.keyClick(second.jobs_list.cards()[path], Qt.Key.Key_Return)
    until(qtbot, second, path, JobStatus.FINISHED)


def test_jobs_are_renamed_changed_started_again_and_deleted(
    make_room: Callable[[], LabRoom], qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = make_room()
    path = start(room, qtbot, tmp_path / "photos", "made")
    until(qtbot, room, path, JobStatus.FINISHED)
    room.jobs_list.cards()[path].setFocus()
    qtbot.keyClick(room.jobs_list.cards()[path], Qt.Key.Key_F2)
    assert room.job_view.name.hasFocus() and room.job_view.name.selectedText() == "photos"
    qtbot.keyClick(room.job_view.name, Qt.Key.Key_Delete)
    qtbot.keyClick(room.job_view.name, Qt.Key.Key_Return)
    assert room.job_view.name.text() == "photos"  # a job has a name
    room.job_view.name.selectAll()
    qtbot.keyClicks(room.job_view.name, "Holidays")
    qtbot.keyClick(room.job_view.name, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: "Holidays" in room.jobs_list.cards()[path].accessibleName(), timeout=PATIENCE_MS)
    qtbot.mouseClick(room.job_view.change, Qt.MouseButton.LeftButton)
    form = room.form_view("evaluate").form
    assert form.arguments() == [str(tmp_path / "made"), str(tmp_path / "photos")] or form.arguments()[0] == "made"
    assert isinstance(form.fields[0], FolderField) and form.fields[0].folder() == tmp_path / "photos"
    room.select(path)
    with qtbot.waitSignal(room.job_actions.started, timeout=PATIENCE_MS) as started:
        qtbot.mouseClick(room.job_view.again, Qt.MouseButton.LeftButton)
    again = started.args[0]
    assert JobFolder(again).request().arguments == JobFolder(path).request().arguments
    until(qtbot, room, again, JobStatus.FINISHED)
    assert list(room.jobs_list.cards()) == [again, path]
    qtbot.keyClick(room.jobs_list.cards()[again], Qt.Key.Key_Down)
    assert room.jobs_list.focused_job() == path
    trashed: list[Path] = []

    def trash(path: Path, failed: str) -> None:
        trashed.append(path)
        path.rename(tmp_path / "trashed")

    monkeypatch.setattr(jobs_module, "move_to_system_trash", trash)
    qtbot.keyClick(room.jobs_list.cards()[path], Qt.Key.Key_Delete)
    box = room.findChild(QMessageBox)
    assert isinstance(box, QMessageBox) and "system trash" in box.text()
    next(button for button in box.buttons() if button.text() == "Delete").click()
    qtbot.waitUntil(lambda: list(room.jobs_list.cards()) == [again], timeout=PATIENCE_MS)
    assert trashed == [path]


def test_a_running_job_is_not_deleted_and_its_menu_says_so(
    make_room: Callable[[], LabRoom], qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = make_room()
    path = start(room, qtbot, tmp_path / "wait", "photos")
    until(qtbot, room, path, JobStatus.RUNNING)
    room.jobs_list.menu_requested.emit(path, QPoint(10, 10))
    menu = next(each for each in room.findChildren(QMenu) if each.isVisible())
    entries = {action.text(): action for action in menu.actions()}
    assert not entries["Delete"].isEnabled() and entries["Rename"].isEnabled()
    menu.close()
    room.job_view.delete_requested.emit()
    assert "still running" in room.message.text()
    opened: list[Path] = []
    monkeypatch.setattr(module, "open_folder", lambda folder: bool(opened.append(folder)))
    room.job_view.folder.click()
    assert opened == [path] and "No file manager" in room.message.text()


def test_a_damaged_result_and_an_unknown_verb_are_said(
    make_room: Callable[[], LabRoom], qtbot: QtBot, tmp_path: Path, lab: LabJobs
) -> None:
    room = make_room()
    path = start(room, qtbot, tmp_path / "photos", "made")
    until(qtbot, room, path, JobStatus.FINISHED)
    (path / "evaluation.json").write_text("{")
    room.select(path)
    qtbot.waitUntil(lambda: "cannot be read" in room.job_view.outcome.text(), timeout=PATIENCE_MS)
    with qtbot.waitSignal(room.refreshed, timeout=PATIENCE_MS):
        room.refresh()
    assert "cannot be read" in room.job_view.outcome.text()  # the next look at the job does not hide it
    newer = lab.folder / "newer"
    JobFolder(newer).write_request(JobRequest("sing", ("la",)))
    room.refresh()
    qtbot.waitUntil(lambda: newer in room.jobs_list.cards(), timeout=PATIENCE_MS)
    room.select(newer)
    assert room.jobs_list.cards()[newer].status() == "sing · interrupted" and not room.job_view.change.isEnabled()


def test_what_no_form_takes_is_left_to_the_window(make_room: Callable[[], LabRoom], tmp_path: Path) -> None:
    room = make_room()
    (tmp_path / "notes.txt").touch()
    assert not drop(room, tmp_path / "notes.txt")


def test_what_goes_wrong_is_said_in_the_room(
    make_room: Callable[[], LabRoom], qtbot: QtBot, tmp_path: Path, lab: LabJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = make_room()
    lab._command = ("no-such-program",)
    form_view = room.show_form("evaluate")
    form_view.form.fill(["made", str(tmp_path / "photos")])
    form_view.start.click()
    qtbot.waitUntil(lambda: "cannot be started" in room.message.text(), timeout=PATIENCE_MS)
    with monkeypatch.context() as patch:
        patch.setattr(lab, "folder", tmp_path / "result.json")
        room.refresh()
        qtbot.waitUntil(lambda: "cannot be read" in room.message.text(), timeout=PATIENCE_MS)
        room.message.close_button.click()
        with qtbot.waitSignal(room.refreshed, timeout=PATIENCE_MS):
            room.refresh()
        assert not room.message.isVisible()  # said once


class Tool(InteractiveView):
    """An interactive page that takes any file."""

    def __init__(self) -> None:
        super().__init__()
        self.offered: list[str] = []
        self.taken: list[Path | None] = []
        self.ended = False
        self.live: LiveTasks | None = None

    def use(self, live: LiveTasks) -> None:
        self.live = live

    def offer(self, checkpoints: Sequence[Checkpoint]) -> None:
        self.offered = [one.name for one in checkpoints]

    def drop_text(self, items: Sequence[DroppedItem]) -> str:
        return "Show it"

    def take(self, items: Sequence[DroppedItem]) -> None:
        self.taken += [item.path for item in items]

    def shut_down(self) -> None:
        self.ended = True


def test_an_interactive_page_is_shown_with_the_models_and_takes_what_is_dropped(
    lab: LabJobs, qtbot: QtBot, dressed: QApplication, tmp_path: Path
) -> None:
    room = LabRoom(lab, (*PAGES, InteractivePage("tool", "Tool", "gauge", "A tool.", Tool)))
    qtbot.addWidget(room)
    room.set_checkpoints([TINY])
    room.jobs_list.page_cards["tool"].clicked.emit()
    view = room.interactive_view("tool")
    assert isinstance(view, Tool) and view.offered == ["tiny"] and view.live is None
    live = LiveTasks(threading.Condition())
    room.use(live)
    assert view.live is live
    (tmp_path / "a.png").write_bytes(b"")
    assert drop(room, tmp_path / "a.png") and view.taken == [tmp_path / "a.png"]
    view.message.emit("warn", "It is empty.")
    assert "It is empty." in room.message.text()
    room.set_checkpoints([])
    assert view.offered == []
    room.shut_down()
    assert view.ended


def test_a_short_result_is_not_stretched_to_the_height_of_an_earlier_one(qtbot: QtBot, dressed: QApplication) -> None:
    class Fixed(ResultView):
        def show_result(self, result: int) -> None:
            self.setMinimumHeight(result)

    view = JobView([replace(evaluate.PAGE, verb=verb, make_view=Fixed) for verb in ("tall", "short")])
    qtbot.addWidget(view)
    view.resize(600, 500)
    view.show()
    view.show_result("tall", 3000)
    tall = view.result_view()
    view.show_result("short", 100)
    short = view.result_view()
    assert short is not None and short is not tall and tall is not None and tall.isHidden()
    QApplication.sendPostedEvents()
    assert short.height() == 100

"""The list of jobs: rows that stay where they are under the pointer, and every action by mouse and by keyboard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from PySide6.QtCore import QEvent, QPoint, QPointF, Qt
from PySide6.QtGui import QContextMenuEvent, QEnterEvent, QImage
from PySide6.QtWidgets import QApplication, QMenu, QVBoxLayout, QWidget
from pytestqt.qtbot import QtBot

from diffstudio.studio.jobs.job_records import PendingJobs, QueuedJob
from diffstudio.studio.requests import GenerateRequest
from diffstudio.ui.generate.queue.job_list import JobList
from tests.ui.accessibility import accessibility_problems

pytestmark = pytest.mark.usefixtures("dressed")
ALT, CONTROL = Qt.KeyboardModifier.AltModifier, Qt.KeyboardModifier.ControlModifier


def jobs_of(*prompts: str) -> list[QueuedJob]:
    """Jobs whose ids are the places of the letters of their prompts: a is 1."""
    return [QueuedJob(ord(prompt[0]) - 96, GenerateRequest(prompt), 0, 0) for prompt in prompts]


def pending(*prompts: str, paused: bool = False) -> PendingJobs:
    return PendingJobs(jobs_of(*prompts), len(prompts), paused=paused)


@pytest.fixture
def jobs(qtbot: QtBot) -> Iterator[JobList]:
    around, jobs = QWidget(), JobList()
    qtbot.addWidget(around)
    column = QVBoxLayout(around)
    column.addWidget(jobs)
    column.addStretch(1)
    around.resize(228, 500)
    around.show()
    qtbot.waitExposed(around)
    around.activateWindow()
    QApplication.sendEvent(jobs, QEvent(QEvent.Type.Leave))  # wherever the pointer was left
    jobs.set_pending(pending("a", "b", "c"))
    yield jobs


def enter(widget: QWidget) -> None:
    at = QPointF(10, 10)
    QApplication.sendEvent(widget, QEnterEvent(at, at, QPointF(widget.mapToGlobal(at.toPoint()))))


def leave(jobs: JobList) -> None:
    QApplication.sendEvent(jobs, QEvent(QEvent.Type.Leave))
    jobs.pointer_left()  # as the scroll area around it does


def titles(jobs: JobList) -> list[str]:
    return [card.title() for card in jobs.cards]


def places(jobs: JobList, cards: Sequence[QWidget]) -> list[int]:
    """The y of each row, once the layout has settled."""
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    QApplication.processEvents()
    return [card.mapTo(jobs, QPoint()).y() for card in cards]


def test_rows_stay_under_the_pointer_when_jobs_start_and_arrive(jobs: JobList) -> None:
    first, second, third = jobs.cards
    before = places(jobs, [first, second, third])
    enter(jobs)
    jobs.show_running(True)
    jobs.set_pending(pending("b", "c", "d"))
    assert places(jobs, [first, second, third]) == before and not jobs.running.isVisible()
    assert first.gone and first.about() == "Started" and not first.remove.isEnabled()
    assert titles(jobs) == ["b", "c", "d"], "what arrives is added below"
    jobs.set_pending(pending("c", "d"))
    assert places(jobs, [first, second, third]) == before and second.gone
    leave(jobs)
    assert titles(jobs) == ["c", "d"] and jobs.running.isVisible()
    assert jobs.cards[0] is third, "the row itself is kept"
    enter(jobs)
    jobs.show_running(False)
    assert jobs.running.isVisible()
    leave(jobs)
    assert not jobs.running.isVisible()


def test_rows_stay_while_the_pointer_is_over_what_lies_below(qtbot: QtBot) -> None:
    below = True
    jobs = JobList(lambda: below)
    qtbot.addWidget(jobs)
    jobs.show()
    jobs.set_pending(pending("a", "b"))
    jobs.pointer_left()
    rows = jobs.cards
    jobs.set_pending(pending("b", "c"))
    assert rows[0].gone and titles(jobs) == ["b"], "the list does not become longer either"
    below = False
    jobs.pointer_left()
    assert titles(jobs) == ["b", "c"]


def test_a_row_that_is_removed_under_the_pointer_says_so(qtbot: QtBot, jobs: JobList) -> None:
    enter(jobs)
    second, third = jobs.cards[1:]
    before = places(jobs, [third])
    with qtbot.waitSignal(jobs.remove_requested) as asked:
        qtbot.mouseClick(second.remove, Qt.MouseButton.LeftButton)
    jobs.set_pending(pending("a", "c"))
    assert asked.args == [2] and second.gone and second.about() == "Removed" and places(jobs, [third]) == before
    qtbot.keyClick(second, Qt.Key.Key_Delete)
    jobs.set_pending(pending("a", "b", "c"))
    assert not second.gone and second.remove.isEnabled(), "it was brought back in its row"
    leave(jobs)
    assert titles(jobs) == ["a", "b", "c"]


def test_what_is_asked_for_in_the_list_shows_at_once(qtbot: QtBot, jobs: JobList) -> None:
    enter(jobs)
    with qtbot.waitSignal(jobs.move_requested) as moved:
        qtbot.mouseClick(jobs.cards[2].up, Qt.MouseButton.LeftButton)
    assert moved.args == [3, -1]
    jobs.set_pending(pending("a", "c", "b"))
    assert titles(jobs) == ["a", "c", "b"]
    with qtbot.waitSignal(jobs.clear_requested):
        qtbot.mouseClick(jobs.clear, Qt.MouseButton.LeftButton)
    jobs.set_pending(pending())
    assert titles(jobs) == [] and jobs.empty.isVisible() and not jobs.clear.isEnabled()


def test_a_paused_queue_says_so(qtbot: QtBot, jobs: JobList) -> None:
    assert not jobs.paused.isVisible()
    with qtbot.waitSignal(jobs.pause_requested) as asked:
        qtbot.mouseClick(jobs.pause, Qt.MouseButton.LeftButton)
    assert asked.args == [True] and jobs.pause.accessibleName() == "Pause queue"
    jobs.set_pending(pending("a", "b", paused=True))
    assert jobs.paused.isVisible() and "paused" in jobs.paused.text()
    assert jobs.heading._right.text() == "2 waiting" and jobs.pause.accessibleName() == "Resume queue"
    with qtbot.waitSignal(jobs.pause_requested) as asked:
        qtbot.mouseClick(jobs.pause, Qt.MouseButton.LeftButton)
    assert asked.args == [False]


def test_the_note_of_a_pause_keeps_its_place_and_does_not_lie(qtbot: QtBot, jobs: JobList) -> None:
    jobs.pointer_left()
    jobs.set_pending(pending("a", "b", paused=True))
    jobs.pointer_left()
    before = places(jobs, jobs.cards)
    enter(jobs)
    jobs.set_pending(pending("a", "b"))  # resumed by other means than the button of the list
    assert places(jobs, jobs.cards) == before and jobs.paused.text() == "The queue has resumed."
    leave(jobs)
    assert not jobs.paused.isVisible() and places(jobs, jobs.cards) < before


def test_jobs_of_other_kinds_are_named(jobs: JobList) -> None:
    jobs.set_pending(PendingJobs([], 0, unreadable=1, other_kinds=(("training", 1), ("video", 1200))))
    assert jobs.unreadable.isVisible()
    assert jobs.unreadable.text() == (
        "1 queued job cannot be read by this version. "
        "Jobs that this version cannot run: 1 × training, 1,200 × video. Nothing was deleted."
    )


def test_a_job_by_keyboard(qtbot: QtBot, jobs: JobList) -> None:
    first, second, third = jobs.cards
    first.setFocus()
    qtbot.keyClick(first, Qt.Key.Key_Down)
    assert second.hasFocus()
    qtbot.keyClick(second, Qt.Key.Key_Up)
    qtbot.keyClick(first, Qt.Key.Key_Up)
    assert first.hasFocus()
    for key, modifier, signal, expected in (
        (Qt.Key.Key_Up, ALT, jobs.move_requested, [2, -1]),
        (Qt.Key.Key_Down, ALT, jobs.move_requested, [2, 1]),
        (Qt.Key.Key_Delete, Qt.KeyboardModifier.NoModifier, jobs.remove_requested, [2]),
        (Qt.Key.Key_F2, Qt.KeyboardModifier.NoModifier, jobs.edit_requested, [2]),
        (Qt.Key.Key_Return, Qt.KeyboardModifier.NoModifier, jobs.open_requested, [second.queued]),
    ):
        with qtbot.waitSignal(signal) as asked:
            qtbot.keyClick(second, key, modifier)
        assert asked.args == expected
    second.setFocus()
    jobs.set_pending(pending("a", "c"))
    assert third.hasFocus(), "the focus stays in the list"
    third.up.setFocus()
    jobs.set_pending(pending("c"))
    focus = QApplication.focusWidget()
    assert focus is not None and (focus is third or third.isAncestorOf(focus)), "it cannot be moved up any more"
    jobs.set_pending(pending())
    assert jobs.pause.hasFocus()


def test_undo_by_keyboard_is_that_of_the_list(qtbot: QtBot, jobs: JobList) -> None:
    assert not jobs.undo.isEnabled()
    jobs.set_undo("2 jobs")
    assert jobs.undo.toolTip() == "Bring back removed jobs: 2 jobs"
    jobs.cards[0].setFocus()
    with qtbot.waitSignal(jobs.undo_requested):
        qtbot.keyClick(jobs.cards[0], Qt.Key.Key_Z, CONTROL)


def entries(menu: QMenu) -> list[str]:
    return [action.text() for action in menu.actions() if action.text()]


def test_the_menu_of_a_job(qtbot: QtBot, jobs: JobList) -> None:
    first, second, third = jobs.cards
    menu = second.menu()
    assert entries(menu) == [
        "Show settings", "Edit", "Duplicate", "Move to front", "Move up", "Move down", "Remove from queue"
    ]  # fmt: skip
    by_name = {action.text(): action for action in menu.actions()}
    with qtbot.waitSignal(jobs.duplicate_requested) as asked:
        by_name["Duplicate"].trigger()
    assert asked.args == [2]
    menu.close()
    menu = third.menu()
    with qtbot.waitSignal(jobs.move_requested) as asked:
        next(action for action in menu.actions() if action.text() == "Move to front").trigger()
    assert asked.args == [3, -2] and "Move down" not in entries(menu)
    menu.close()
    assert "Move up" not in entries(first.menu())
    QApplication.sendEvent(
        first, QContextMenuEvent(QContextMenuEvent.Reason.Keyboard, QPoint(5, 5), first.mapToGlobal(QPoint(5, 5)))
    )
    qtbot.waitUntil(lambda: isinstance(QApplication.activePopupWidget(), QMenu))
    popup = QApplication.activePopupWidget()
    assert popup is not None
    popup.close()


def test_thumbnails_are_shown_where_there_are_some(jobs: JobList) -> None:
    assert [queued.job for queued in jobs.jobs_without_image()] == [1, 2, 3]
    image = QImage(8, 8, QImage.Format.Format_RGB32)
    image.fill(0xFF00FF00)
    jobs.set_image(1, image)
    jobs.set_image(2, QImage())
    assert [card.thumbnail.isVisible() for card in jobs.cards] == [True, False, False]
    assert [queued.job for queued in jobs.jobs_without_image()] == [3]
    jobs.set_pending(pending("b", "a"))
    assert [card.thumbnail.isVisible() for card in jobs.cards] == [False, True]


def test_a_job_that_is_edited_is_marked(jobs: JobList) -> None:
    jobs.set_edited(2)
    assert jobs.cards[1].about() == "Being edited" and jobs.cards[0].about().startswith("Next")
    jobs.set_edited(None)
    assert "Being edited" not in jobs.cards[1].about()


def test_every_control_has_a_name_and_tab_goes_down_the_list(jobs: JobList) -> None:
    assert not accessibility_problems(jobs)
    assert [card.accessibleName() for card in jobs.cards] == ["Waiting: a", "Waiting: b", "Waiting: c"]
    jobs.set_pending(pending("c", "a", "b"))
    here, order = jobs.cards[0].nextInFocusChain(), []
    while here is not jobs.cards[0]:
        if here in jobs.cards:
            order.append(here)
        here = here.nextInFocusChain()
    assert order == jobs.cards[1:]


def test_every_training_run_that_waits_is_in_the_list(jobs: JobList, qtbot: QtBot) -> None:
    jobs.show_further_training([("cats", "waiting for training dogs", 0.25), ("birds", "starting", None)])
    assert len(jobs.further_training) == 2 and all(not card.isHidden() for card in jobs.further_training)
    with qtbot.waitSignal(jobs.train_room_requested):
        jobs.further_training[0].clicked.emit()
    jobs.show_further_training([])
    assert jobs.further_training == []

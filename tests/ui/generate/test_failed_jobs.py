"""Jobs that failed stay listed with their reasons, until they are tried again or dismissed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PySide6.QtCore import QEvent, Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from diffstudio.errors import BadRequest, CheckpointMissing
from diffstudio.studio.events import Failed, Started
from diffstudio.studio.requests import GenerateRequest
from diffstudio.ui.generate.queue.failed_list import MAX_CARDS
from diffstudio.ui.generate.room import GenerateRoom
from tests.ui.accessibility import accessibility_problems
from tests.ui.samples import checkpoint, whole_job

pytestmark = pytest.mark.usefixtures("dressed")
GONE = "There is no checkpoint called 'gone'"


@pytest.fixture
def room(qtbot: QtBot) -> GenerateRoom:
    room = GenerateRoom()
    qtbot.addWidget(room)
    room.panel.background_work_requested.connect(lambda work, done: done(work()))
    room.resize(1360, 880)
    room.show()
    qtbot.waitExposed(room)
    room.set_checkpoints([checkpoint()])
    QApplication.sendEvent(room.right._contents, QEvent(QEvent.Type.Leave))  # wherever the pointer was left
    return room


def fail(room: GenerateRoom, job: int, what: str = GONE) -> GenerateRequest:
    request = GenerateRequest(f"job {job}", checkpoint="gone")
    room.handle_event(Started(job, request))
    room.handle_event(Failed(job, BadRequest(what)))
    return request


def reasons(room: GenerateRoom) -> list[str]:
    return [card.reason.toPlainText() for card in room.right.failed.cards]


def test_a_failed_job_stays_listed_when_the_next_one_starts(qtbot: QtBot, room: GenerateRoom) -> None:
    request = fail(room, 1)
    assert GONE in room.banner.text()
    for event in whole_job(2, GenerateRequest("good")):
        room.handle_event(event)
    shown = room.right.failed
    assert shown.isVisible() and [GONE in reason for reason in reasons(room)] == [True]
    assert not accessibility_problems(shown)
    with qtbot.waitSignal(room.generate_requested) as asked:
        qtbot.mouseClick(shown.cards[0].act, Qt.MouseButton.LeftButton)
    assert asked.args == [request] and not shown.isVisible()


def test_every_failure_of_a_night_can_be_read_tried_again_and_dismissed(qtbot: QtBot, room: GenerateRoom) -> None:
    asked: list[GenerateRequest] = []
    room.generate_requested.connect(asked.append)
    requests = [fail(room, job, f"Reason {job}") for job in range(1, MAX_CARDS + 3)]
    shown = room.right.failed
    assert len(shown.cards) == MAX_CARDS and reasons(room)[0] == f"Reason {MAX_CARDS + 2}."
    qtbot.mouseClick(shown.cards[0].dismiss, Qt.MouseButton.LeftButton)
    assert not room.banner.isVisible()  # it was about the job that was dismissed
    assert len(shown.cards) == MAX_CARDS and reasons(room)[-1] == "Reason 2."
    qtbot.mouseClick(shown.again, Qt.MouseButton.LeftButton)
    assert asked == requests[:-1] and not shown.isVisible()
    fail(room, 100)
    qtbot.mouseClick(shown.dismiss_all, Qt.MouseButton.LeftButton)
    assert not shown.isVisible() and not room.banner.isVisible() and len(asked) == MAX_CARDS + 1


def test_the_message_and_the_list_do_not_try_a_job_twice(qtbot: QtBot, room: GenerateRoom) -> None:
    asked: list[GenerateRequest] = []
    room.generate_requested.connect(asked.append)
    request = fail(room, 1)
    act = room.banner.action
    act.click()
    act.click()
    assert asked == [request] and not room.right.failed.isVisible()
    fail(room, 2)
    room.show_message("warn", "Something else")
    room.right.failed.cards[0].act.click()
    assert len(asked) == 2 and room.banner.text() == "Something else"  # a message of something else stays


def test_the_focus_stays_in_the_column_when_a_card_goes(qtbot: QtBot, room: GenerateRoom) -> None:
    fail(room, 1)
    fail(room, 2)
    shown = room.right.failed
    shown.cards[0].dismiss.setFocus()
    qtbot.keyClick(shown.cards[0].dismiss, Qt.Key.Key_Space)
    assert shown.cards[0].act.hasFocus()
    qtbot.keyClick(shown.cards[0].act, Qt.Key.Key_Space)
    assert room.right.jobs.pause.hasFocus()


def test_new_failures_do_not_move_what_is_under_the_pointer(room: GenerateRoom) -> None:
    room.right._contents.underMouse = lambda: True  # type: ignore[method-assign]
    fail(room, 1)
    assert not room.right.failed.isVisible()
    del room.right._contents.underMouse
    room.right._contents.left.emit()
    assert room.right.failed.isVisible()


def test_what_a_job_lacks_is_downloaded_before_it_is_tried_again(qtbot: QtBot, room: GenerateRoom) -> None:
    request = GenerateRequest("a", checkpoint="flux")
    error = CheckpointMissing("flux has no VAE")
    error.missing_components = ("vae-flux",)
    for job in (1, 2):
        room.handle_event(Started(job, replace(request, seed=job)))
        room.handle_event(Failed(job, error))
    fail(room, 3)
    cards = room.right.failed.cards
    assert [card.act.text()[:8] for card in cards] == ["Try agai", "Download", "Download"]
    with qtbot.waitSignal(room.failed_jobs.download_requested) as asked:
        cards[2].act.click()
    assert asked.args == [("vae-flux",)]
    assert cards[2].minimumSizeHint().width() < 150  # the button is cut rather than the column
    lacks_more = CheckpointMissing("flux has no VAE and no text encoder")
    lacks_more.missing_components = ("vae-flux", "clip_l")
    room.handle_event(Started(4, replace(request, seed=4)))
    room.handle_event(Failed(4, lacks_more))  # while the VAE is downloaded
    room.failed_jobs.show_download_finished("The VAE has been downloaded.")
    assert [card.act.text()[:8] for card in room.right.failed.cards] == ["Download", *["Try agai"] * 3]
    assert room.failed_jobs.jobs[0].missing == ("clip_l",)
    with qtbot.waitSignal(room.generate_requested) as tried:
        room.banner.action.click()
    assert tried.args == [replace(request, seed=1)]

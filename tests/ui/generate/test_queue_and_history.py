"""The right column: recent images, which stay where they are while the pointer is over them."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import QEvent, QPointF
from PySide6.QtGui import QEnterEvent
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from diffstudio.studio.jobs.job_records import PendingJobs
from diffstudio.ui.generate.queue_and_history import QueueAndHistory, RecentImage
from diffstudio.ui.widgets.images.image_reading import numpy_to_qimage
from tests.ui.generate.queue.test_job_list import jobs_of
from tests.ui.samples import picture

pytestmark = pytest.mark.usefixtures("dressed")


def recent(name: str) -> RecentImage:
    return RecentImage(Path(f"/{name}.png"), numpy_to_qimage(picture(1)))


def enter(widget: QWidget) -> None:
    at = QPointF(5, 5)
    QApplication.sendEvent(widget, QEnterEvent(at, at, QPointF(widget.mapToGlobal(at.toPoint()))))


def test_neither_jobs_nor_images_move_what_is_under_the_pointer(qtbot: QtBot) -> None:
    column = QueueAndHistory()
    qtbot.addWidget(column)
    column.resize(260, 600)
    column.show()
    qtbot.waitExposed(column)
    QApplication.sendEvent(column._contents, QEvent(QEvent.Type.Leave))  # wherever the pointer was left
    column.set_recent([recent("old"), recent("older")], 2)
    column.set_pending(PendingJobs(jobs_of("a", "b"), 2))
    qtbot.waitUntil(lambda: column.thumbs[0].y() > 0)
    enter(column._contents)
    enter(column.thumbs[0])
    old = column.thumbs[0]
    place = old.mapTo(column, old.rect().topLeft())
    column.add_recent(recent("new"))
    column.set_pending(PendingJobs(jobs_of("b"), 1))
    column.show_running(True)
    QApplication.processEvents()
    assert column.thumbs[0] is old and old.mapTo(column, old.rect().topLeft()) == place
    assert len(column.cards) == 1 and column.cards[0].title() == "b"
    QApplication.sendEvent(old, QEvent(QEvent.Type.Leave))
    QApplication.sendEvent(column._contents, QEvent(QEvent.Type.Leave))
    assert [thumb.recent_image.path.stem for thumb in column.thumbs] == ["new", "old", "older"]
    assert column.running.isVisible()

"""A walk over every page of the Lab: its form, or its view, and its result, down to what lies below the window."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QEvent, QSize
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from diffstudio.studio.evaluations.jobs import LabJobs
from diffstudio.ui.lab.page import LabPage
from diffstudio.ui.lab.page_list import PAGES
from diffstudio.ui.lab.room import LabRoom
from diffstudio.ui.widgets import text_size, theme
from diffstudio.ui.window import MainWindow, RoomEntry
from tests.ui.accessibility import accessibility_problems
from tests.ui.lab.stored_results import RESULTS, write_jobs
from tests.ui.samples import checkpoint
from tests.ui.walk import clipped, hard_to_read, lengthen, pushed_out, settle

SMALL, TALL = QSize(880, 470), QSize(880, 2600)  # the second one shows what the first scrolls to


class Walk:
    """The window with the Lab alone, and a finished job of each page."""

    def __init__(self, qtbot: QtBot, folder: Path) -> None:
        self._qtbot, self._jobs = qtbot, write_jobs(folder / "lab")
        self.lab, self.window = LabRoom(LabJobs(folder / "lab")), MainWindow()
        self.lab.set_checkpoints([checkpoint(family="pixel")])
        self.window.add_room(RoomEntry("Lab", "sparkle", "Lab", lambda: self.lab))
        self.window.show_room("Lab")
        self.window.show()
        qtbot.waitExposed(self.window)
        qtbot.waitUntil(lambda: len(self.lab.jobs_list.cards()) == len(self._jobs), timeout=30_000)

    def states(self) -> Iterator[str]:
        for page in PAGES:
            if isinstance(page, LabPage):
                self.lab.show_form(page.verb)
                yield f"{page.title}, its form"
            else:
                self.lab.show_interactive(page.key)
                yield page.title
        view = self.lab.job_view
        for verb, job in self._jobs.items():
            self.lab.select(job.path)
            self._qtbot.waitUntil(lambda: view.result_view() is not None or view.outcome.isVisible(), timeout=30_000)
            assert not view.outcome.isVisible(), view.outcome.text()
            yield f"the result of {verb}"

    def close(self) -> None:
        self.lab.shut_down()
        self.window.close()
        self.window.deleteLater()
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


def test_every_page_with_a_result_is_walked_over() -> None:
    verbs = {page.verb for page in PAGES if isinstance(page, LabPage)}
    assert {*RESULTS, "evaluate"} == verbs, "the result of evaluate is walked over in test_walk"


@pytest.mark.parametrize(
    ("name", "percent", "longer"), [("dark", 100, False), ("light", 150, False), ("dark", 100, True)]
)
@pytest.mark.timeout(300)
def test_a_walk_over_the_lab(
    qtbot: QtBot, tmp_path: Path, dressed: QApplication, name: str, percent: int, longer: bool
) -> None:
    theme.apply(dressed, name)
    text_size.apply(dressed, percent)
    problems, seen = list[str](), set[QWidget]()
    walk = Walk(qtbot, tmp_path)
    try:
        for state in walk.states():
            if longer:
                lengthen(walk.lab, seen)
            walk.window.resize(SMALL)
            settle()
            found = [] if walk.window.size() == SMALL else [f"forces the window to {walk.window.size().toTuple()}"]
            found += pushed_out(walk.lab)
            walk.window.resize(TALL)
            settle()
            found += clipped(walk.lab)
            found += [] if longer else hard_to_read(walk.lab)
            found += accessibility_problems(walk.lab) if percent == 100 and not longer else []
            problems += [f"{state}: {each}" for each in found]
    finally:
        walk.close()
        text_size.apply(dressed, 100)
        theme.apply(dressed, "dark")
    assert not problems, "\n".join(dict.fromkeys(problems))

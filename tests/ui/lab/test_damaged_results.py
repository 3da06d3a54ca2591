"""Results that are damaged, or that a later version of the program wrote, in the pages that show them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from diffstudio.errors import DiffstudioError
from diffstudio.studio.evaluations.job_folder import JobFinished, JobFolder, JobRequest, JobStarted
from diffstudio.studio.evaluations.jobs import LabJobs
from diffstudio.ui.lab.page import LabPage
from diffstudio.ui.lab.page_list import PAGES, page_of
from diffstudio.ui.lab.room import LabRoom
from tests.ui.lab.stored_results import RESULTS, write_jobs

VERBS = tuple(page.verb for page in PAGES if isinstance(page, LabPage))
WRONG: tuple[Any, ...] = ("x", [1], None, 1e400)  # in place of any value
DEEPEST = 3


@pytest.fixture
def room(qtbot: QtBot, dressed: QApplication, tmp_path: Path, result: dict[str, Any]) -> Iterator[LabRoom]:
    """The Lab with a finished job of each page."""
    jobs = tmp_path / "lab"
    write_jobs(jobs)
    evaluate = JobFolder(jobs / "evaluate")
    evaluate.write_request(JobRequest("evaluate", ("made", "photos"), "evaluate", 1.0))
    (evaluate.path / "result.json").write_text(json.dumps(result))
    for event in (JobStarted(1), JobFinished("result.json")):
        evaluate.append(event)
    room = LabRoom(LabJobs(jobs))
    qtbot.addWidget(room)
    room.resize(1200, 700)
    room.show()
    qtbot.waitExposed(room)
    qtbot.waitUntil(lambda: len(room.jobs_list.cards()) == len(VERBS))
    yield room
    room.shut_down()


def said(room: LabRoom, qtbot: QtBot, job: Path) -> str:
    """The sentence in the page of a job whose card a person clicks."""
    before = room.job_view.outcome.text()
    room.jobs_list.cards()[job].clicked.emit()
    outcome = room.job_view.outcome
    qtbot.waitUntil(lambda: room.selected() == job and outcome.isVisible() and outcome.text() not in ("", before))
    assert room.job_view.result_view() is None, "nothing of another result stays"
    return room.job_view.outcome.text()


def test_every_page_says_what_is_wrong_with_its_result_and_what_to_do(room: LabRoom, qtbot: QtBot) -> None:
    for job in list(room.jobs_list.cards()):
        file = job / "result.json"
        whole = file.read_text()
        values = json.loads(whole)
        for content, why in (
            (
                json.dumps(values | {"format": 99}),
                "has format 99: this program reads formats up to 1. Update diffstudio.",
            ),
            (whole[: len(whole) // 2], "result.json of the job"),  # the disk was full
            ("[]", "is damaged"),
            ('{"format": "one"}', "is damaged"),
        ):
            room.show_form("evaluate")
            file.write_text(content)
            found = said(room, qtbot, job)
            assert why in found and found.endswith("."), (job.name, content[:20], found)
        room.show_form("evaluate")
        file.unlink()
        assert "cannot be read" in said(room, qtbot, job)


@pytest.mark.parametrize("verb", VERBS)
def test_any_wrong_value_is_left_out_or_said(
    verb: str, qtbot: QtBot, dressed: QApplication, tmp_path: Path, result: dict[str, Any]
) -> None:
    """Never an exception of Python, in reading a result or in showing it."""
    job = JobFolder(tmp_path / "job")
    job.path.mkdir()
    job.write_request(JobRequest(verb, ("a",), "job", 1.0))
    make: Callable[[Path], dict[str, Any]] = RESULTS.get(verb, lambda job: result)
    values = json.loads(json.dumps(make(job.path)))
    page = page_of(verb)
    assert isinstance(page, LabPage)
    view = page.make_view()
    qtbot.addWidget(view)
    view.show_result(page.read_result(job, values))
    told = 0
    for number, place in enumerate(places(values)):
        damaged = copy.deepcopy(values)
        inner = damaged
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = WRONG[number % len(WRONG)]
        try:
            found = page.read_result(job, damaged)
        except DiffstudioError as problem:
            assert problem.why and str(problem).endswith("."), problem
            told += 1
        else:
            view.show_result(found)
    assert told or verb == "evaluate", "its damaged parts are left out"
    view.shut_down()


def places(values: Any, depth: int = DEEPEST) -> Iterator[tuple[Any, ...]]:
    """The keys to each value; of a list to those of its first item."""
    inside = values.items() if isinstance(values, dict) else list(enumerate(values))[:1]
    for key, value in inside:
        yield (key,)
        if depth > 1 and isinstance(value, dict | list):
            yield from ((key, *rest) for rest in places(value, depth - 1))

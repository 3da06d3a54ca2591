"""The folder of a job of the Lab: what is written is read back, whatever a kill or another program left there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diffstudio.errors import RunProblem, StorageProblem
from diffstudio.studio.evaluations.job_folder import (
    EVENTS,
    JobEvent,
    JobFailed,
    JobFinished,
    JobFolder,
    JobPaused,
    JobProgress,
    JobRequest,
    JobResumed,
    JobStarted,
    JobStopped,
    JobWaiting,
    is_job,
    without_out,
)
from diffstudio.training.run.run_folder import Command, RunFolder

EVERY: list[JobEvent] = [
    JobStarted(7),
    JobProgress("Reading the folder", 3, 0),
    JobWaiting("generating images"),
    JobPaused(),
    JobResumed(),
    JobStopped(),
    JobFailed("It failed", "why", "Do this"),
    JobFinished("evaluation.json", "Too few"),
]


def test_events_are_read_back_from_where_reading_ended(tmp_path: Path) -> None:
    job = JobFolder(tmp_path)
    for event in EVERY[:3]:
        job.append(event)
    events, offset = job.events()
    assert events == EVERY[:3]
    for event in EVERY[3:]:
        job.append(event)
    assert job.events(offset)[0] == EVERY[3:]
    assert [json.loads(line)["format"] for line in (tmp_path / EVENTS).read_text().splitlines()] == [1] * len(EVERY)


def test_an_incomplete_line_and_unknown_events_are_skipped(tmp_path: Path) -> None:
    job = JobFolder(tmp_path)
    job.append(EVERY[0])
    with (tmp_path / EVENTS).open("a") as file:
        file.write(
            '{"format": 1, "event": "sang"}\n{"format": 9, "event": "paused"}\n'
            '{"format": 1, "event": "started", "pid": "seven"}\n[]\n{"format": 1, "event": "pro'
        )
    assert job.events()[0] == EVERY[:1]
    job.append(EVERY[1])
    assert job.events()[0] == EVERY[:2]
    assert JobFolder(tmp_path / "gone").events(40) == ([], 0)


def test_the_request_is_read_back_and_damage_is_named(tmp_path: Path) -> None:
    job = JobFolder(tmp_path / "job")
    assert not is_job(job.path)
    request = JobRequest("evaluate", ("starter", "photos", "--count", "100"), "Photos", 12.5, "/home")
    job.write_request(request)
    assert is_job(job.path) and job.request() == request
    assert job.result_file.name == "evaluation.json"  # as before there were other verbs
    job.write_request(JobRequest("compare", ()))
    assert job.result_file.name == "compare.json"
    for text, expected in (
        ("{", "cannot be read"),
        ("[]", "is damaged"),
        ('{"format": 1}', "its verb or its arguments are missing"),
        ('{"format": 2, "verb": "evaluate", "arguments": []}', "Update diffstudio"),
    ):
        (job.path / "request.json").write_text(text)
        with pytest.raises(RunProblem, match=expected):
            job.request()


def test_a_folder_has_one_job_at_a_time(tmp_path: Path) -> None:
    job = JobFolder(tmp_path)
    with job.locked(), pytest.raises(RunProblem, match="is in use"), JobFolder(tmp_path).locked():
        pytest.fail("two jobs write there")
    with job.locked():
        pass
    (tmp_path / "file").touch()
    with pytest.raises(StorageProblem), JobFolder(tmp_path / "file").locked():
        pytest.fail("it is no folder")


def test_commands_reach_the_control_file(tmp_path: Path) -> None:
    JobFolder(tmp_path).send(Command.PAUSE)
    assert RunFolder(tmp_path).command() is Command.PAUSE


def test_the_folder_of_the_result_is_no_part_of_what_a_job_does() -> None:
    assert without_out(["a", "--out", "here", "b", "--json", "--out=there", "--seed", "3"]) == ("a", "b", "--seed", "3")


def test_a_failure_is_a_sentence() -> None:
    assert JobFailed("It failed", "why", "Do this").sentence() == "It failed: why. Do this."

"""What a job of the Lab leaves in its folder, however it ends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from diffstudio.errors import BadRequest, Interrupted, RunProblem
from diffstudio.studio.evaluations import job_recording
from diffstudio.studio.evaluations.job_folder import (
    JobEvent,
    JobFailed,
    JobFinished,
    JobFolder,
    JobProgress,
    JobRequest,
    JobStarted,
    JobStopped,
)
from diffstudio.studio.evaluations.job_recording import recorded
from diffstudio.training.run.run_folder import Command, RunFolder


def events(folder: Path) -> list[JobEvent]:
    return JobFolder(folder).events()[0]


def test_a_job_records_what_it_does_and_how_far_it_is(tmp_path: Path) -> None:
    out = tmp_path / "new" / "job"
    with recorded("evaluate", ["starter", "photos", "--out", str(out), "--json"], out) as recording:
        for done in range(4):
            recording.progress("Reading", done, 3)
        recording.finish(BadRequest("Too few images"))
    assert events(out) == [
        JobStarted(os.getpid()),
        JobProgress("Reading", 0, 3),
        JobProgress("Reading", 3, 3),  # those between came too soon
        JobFinished("evaluation.json", "Too few images."),
    ]
    request = JobFolder(out).request()
    assert (request.verb, request.arguments) == ("evaluate", ("starter", "photos"))
    assert request.working_folder == os.getcwd() and request.created > 1e9


def test_long_jobs_write_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(job_recording.time, "monotonic", lambda: now[0])
    with recorded("evaluate", [], tmp_path) as recording:
        for second in range(86_400):
            now[0] = float(second)
            recording.progress("Generating", second, 0)
    assert 1000 < len(events(tmp_path)) < 4000  # of a day


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (BadRequest("It failed", "why", "Do this"), JobFailed("It failed", "why", "Do this")),
        (Interrupted(), JobStopped()),
        (KeyboardInterrupt(), JobStopped()),
        (MemoryError("much"), JobFailed("Its process ended with an error, MemoryError", "much")),
    ],
)
def test_how_it_ends_is_recorded_and_raised(raised: BaseException, expected: JobEvent, tmp_path: Path) -> None:
    with pytest.raises(type(raised)), recorded("evaluate", [], tmp_path):
        RunFolder(tmp_path).send(Command.STOP)
        raise raised
    assert events(tmp_path)[-1] == expected
    assert RunFolder(tmp_path).command() is Command.RUN  # carried out: the next job there is not stopped by it


def test_the_request_of_the_window_stays_and_that_of_another_job_is_replaced(tmp_path: Path) -> None:
    job = JobFolder(tmp_path)
    job.write_request(JobRequest("evaluate", ("starter", "photos"), "My photos", 12.0))
    with recorded("evaluate", ["starter", "photos"], tmp_path):
        pass
    assert job.request().name == "My photos"
    with recorded("evaluate", ["starter", "drawings"], tmp_path):
        pass
    assert job.request().arguments == ("starter", "drawings") and job.request().name == ""


def test_two_jobs_do_not_write_into_one_folder(tmp_path: Path) -> None:
    with recorded("evaluate", ["a"], tmp_path):
        with pytest.raises(RunProblem, match="is in use"), recorded("evaluate", ["b"], tmp_path):
            pytest.fail("both write")
        assert JobFolder(tmp_path).request().arguments == ("a",)


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here := tmp_path / "here").mkdir()
    monkeypatch.chdir(here)
    with recorded("evaluate", [], None) as recording:
        recording.progress("Reading", 1, 2)
        recording.finish()
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("inside", [".", "sub/result"])
def test_nothing_is_written_into_a_folder_of_images_that_is_read(inside: str, tmp_path: Path) -> None:
    (photos := tmp_path / "photos").mkdir()
    folders = [tmp_path / "other", photos]
    with pytest.raises(BadRequest, match="it is inside .*photos"), recorded("evaluate", [], photos / inside, folders):
        pytest.fail("it is refused")
    assert list(photos.iterdir()) == []


@pytest.mark.parametrize("name", ["request.json", "events.jsonl"])
def test_files_that_are_not_those_of_a_job_stay_as_they_are(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text('{"caption": "A red square"}')
    with (
        pytest.raises(BadRequest, match=f"its {name} does not belong to a Lab job"),
        recorded("evaluate", [], tmp_path),
    ):
        pytest.fail("it is refused")
    assert {path.name for path in tmp_path.iterdir()} <= {name, "home"}  # of the settings
    assert (tmp_path / name).read_text() == '{"caption": "A red square"}'


def test_the_result_of_another_request_is_deleted_and_that_of_the_same_one_stays(tmp_path: Path) -> None:
    result = tmp_path / "evaluation.json"
    with recorded("evaluate", ["a", "folder"], tmp_path):
        result.write_text("{}")
    for name, stays in (("a", True), ("b", False)):
        with pytest.raises(Interrupted), recorded("evaluate", [name, "folder"], tmp_path):
            raise Interrupted()
        assert result.exists() == stays

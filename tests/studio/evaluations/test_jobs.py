"""Jobs of the Lab as processes of their own: started, followed, stopped, found again, renamed and removed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from diffstudio.errors import RunProblem, StorageProblem
from diffstudio.studio.evaluations import jobs as module
from diffstudio.studio.evaluations.job_folder import (
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
)
from diffstudio.studio.evaluations.jobs import JobStatus, JobSummary, LabJobs
from tests.studio.evaluations.lab_process import lab_jobs


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabJobs]:
    with lab_jobs(tmp_path) as jobs:
        yield jobs


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def state(lab: LabJobs, job: JobFolder) -> JobSummary:
    found = lab.summary(job)
    assert found is not None
    return found


def is_in(lab: LabJobs, job: JobFolder, status: JobStatus) -> None:
    until(lambda: state(lab, job).status is status)


def test_a_job_is_started_followed_and_found_by_another_window(lab: LabJobs, tmp_path: Path) -> None:
    assert lab.list() == []
    job = lab.start("evaluate", ["photos", "wait"], "Photos")
    is_in(lab, job, JobStatus.RUNNING)
    until(lambda: state(lab, job).done == 1)
    other = LabJobs(lab.folder)
    (summary,) = other.list()
    assert (summary.name, summary.status, summary.what, summary.fraction) == (
        "Photos",
        JobStatus.RUNNING,
        "Working",
        0.25,
    )
    (job.path / "go").touch()
    is_in(other, job, JobStatus.FINISHED)
    summary = state(other, job)
    assert summary.result == "evaluation.json" and summary.job.result(summary.result)["arguments"] == ["photos", "wait"]
    assert not summary.alive and summary.pid is None


def test_a_job_is_paused_resumed_and_stopped(lab: LabJobs) -> None:
    job = lab.start("evaluate", ["wait"], "a")
    is_in(lab, job, JobStatus.RUNNING)
    lab.pause(job)
    is_in(lab, job, JobStatus.PAUSED)
    lab.resume(job)
    is_in(lab, job, JobStatus.RUNNING)
    lab.stop(job)
    is_in(lab, job, JobStatus.STOPPED)
    assert state(lab, job).outcome
    lab.stop(job)
    lab.pause(job)  # nothing to do: no command waits for the next process in the folder
    until(lambda: job.command() == "run")


def test_a_job_that_does_not_listen_is_ended_when_it_is_stopped_again(lab: LabJobs) -> None:
    job = lab.start("evaluate", ["deaf"], "a")
    is_in(lab, job, JobStatus.RUNNING)
    lab.stop(job)
    assert state(lab, job).stopping
    lab.stop(job)
    until(lambda: not state(lab, job).alive)


def test_a_job_is_stopped_before_it_works(lab: LabJobs) -> None:
    job = lab.start("evaluate", ["sleep"], "a")
    assert state(lab, job).status is JobStatus.STARTING
    lab.stop(job)
    until(lambda: state(lab, job).status is JobStatus.STOPPED)


def test_a_process_that_ends_without_an_event_is_a_failure_with_its_last_words(lab: LabJobs) -> None:
    job = lab.start("evaluate", ["die"], "a")
    is_in(lab, job, JobStatus.FAILED)
    assert state(lab, job).outcome == "It cannot."
    killed = lab.start("evaluate", ["wait"], "b")
    is_in(lab, killed, JobStatus.RUNNING)
    pid = state(lab, killed).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    is_in(lab, killed, JobStatus.INTERRUPTED)


def test_the_same_is_started_again_and_the_newest_is_first(lab: LabJobs, tmp_path: Path) -> None:
    first = lab.start("evaluate", ["where"], "Photos: all/of them", working_folder=str(tmp_path))
    is_in(lab, first, JobStatus.FINISHED)
    assert first.result("evaluation.json")["folder"] == str(tmp_path)
    second = lab.again(first)
    is_in(lab, second, JobStatus.FINISHED)
    assert [one.job for one in lab.list()] == [second, first] and second.path.name.endswith(" 2")
    assert second.result("evaluation.json") == first.result("evaluation.json")


def test_jobs_are_renamed_and_removed(lab: LabJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    job = lab.start("evaluate", ["wait"], "a")
    is_in(lab, job, JobStatus.RUNNING)
    with pytest.raises(RunProblem, match="still running"):
        lab.remove(job)
    lab.stop(job)
    is_in(lab, job, JobStatus.STOPPED)
    lab.rename(job, " Digits ")
    assert [one.name for one in lab.list()] == ["Digits"]
    trashed: list[Path] = []
    monkeypatch.setattr(module, "move_to_system_trash", lambda path, failed: trashed.append(path))
    lab.remove(job)
    assert trashed == [job.path]


def test_events_are_the_state_of_a_job_that_another_program_runs(tmp_path: Path) -> None:
    job, lab = JobFolder(tmp_path / "lab" / "mine"), LabJobs(tmp_path / "lab")
    job.write_request(JobRequest("evaluate", ()))
    job.append(JobStarted(1))
    assert state(lab, job).status is JobStatus.INTERRUPTED and state(lab, job).name == "mine"
    with job.locked():
        for event, status in (
            (JobWaiting("generating images"), JobStatus.WAITING),
            (JobResumed(), JobStatus.RUNNING),
            (JobProgress("Reading", 3, 0), JobStatus.RUNNING),
            (JobPaused(), JobStatus.PAUSED),
        ):
            job.append(event)
            assert state(lab, job).status is status and state(lab, job).pid == 1
        assert state(lab, job).holder == "generating images" and state(lab, job).fraction is None
    for event, status in (
        (JobFailed("It failed", "why"), JobStatus.FAILED),
        (JobStopped(), JobStatus.STOPPED),
        (JobFinished("evaluation.json", "Too few images."), JobStatus.FINISHED),
    ):
        job.append(event)
        assert state(lab, job).status is status and state(lab, job).outcome
    (job.path / "events.jsonl").unlink()
    assert state(lab, job).status is JobStatus.INTERRUPTED
    (job.path / "request.json").write_text("{")
    assert lab.summary(job) is None and lab.list() == []


def test_folders_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageProblem):
        LabJobs(tmp_path / "file").list()
    with pytest.raises(StorageProblem):
        LabJobs(tmp_path / "file").start("evaluate", [], "a")
    with pytest.raises(RunProblem, match="cannot be started"):
        LabJobs(tmp_path / "lab", command=("no-such-program",)).start("evaluate", [], "a")


def test_a_job_that_waits_is_started_again_with_the_new_path_of_a_model(lab: LabJobs, tmp_path: Path) -> None:
    old, new = tmp_path / "tiny", tmp_path / "small"
    waiting = lab.start("reverse", [str(old), "--prompt", "a", "turn"], "Film")
    is_in(lab, waiting, JobStatus.WAITING)
    working = lab.start("evaluate", [str(old), "wait"], "Photos")
    until(lambda: state(lab, working).done == 1)
    assert {one.name for one in lab.using(old)} == {"Film", "Photos"}
    pids = {job: state(lab, job).pid for job in (waiting, working)}
    lab.follow_renamed(old, new)
    assert state(lab, waiting).alive and lab.using(old) == [] and len(lab.using(new)) == 2
    assert state(lab, working).pid == pids[working]  # it has the model open
    is_in(lab, waiting, JobStatus.WAITING)
    assert state(lab, waiting).pid != pids[waiting]
    for job in (waiting, working):
        (job.path / "go").touch()
        is_in(lab, job, JobStatus.FINISHED)
    assert waiting.result("reverse.json")["arguments"] == [str(new), "--prompt", "a", "turn"]
    assert working.request().arguments == (str(new), "wait")  # for Start again


def test_only_a_path_of_a_model_is_followed(tmp_path: Path) -> None:
    request = JobRequest("reverse", ("tiny", "--prompt", "tiny", "models/tiny"), working_folder=str(tmp_path))
    after = request.after(tmp_path / "models" / "tiny", tmp_path / "small")
    assert after.arguments == ("tiny", "--prompt", "tiny", str(tmp_path / "small"))

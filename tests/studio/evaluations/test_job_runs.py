"""Commands in the folder of a job reach the run that it trains, and its events say so."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from diffstudio.errors import BadRequest, RunProblem
from diffstudio.studio.evaluations.job_folder import JobFolder, JobPaused, JobResumed, JobWaiting
from diffstudio.studio.evaluations.job_runs import PLAN, RunControl, State, check_plan, state_of
from diffstudio.training.run.events import RunFailed, RunFinished, RunPaused, RunResumed, RunStopped, RunWaiting
from diffstudio.training.run.run_folder import Command, RunFolder
from tests.studio.evaluations.small_models import RECIPE


def waits_for(run: RunFolder, command: Command) -> None:
    deadline = time.monotonic() + 30
    while run.command() is not command:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_run_is_paused_goes_on_and_is_stopped(tmp_path: Path) -> None:
    job, run = JobFolder(tmp_path), RunFolder(tmp_path / "run")
    job.send(Command.PAUSE)
    with RunControl(run, tmp_path, lambda: False) as control:
        RunFolder.create(run.path, RECIPE, tmp_path)
        for _ in range(2):
            waits_for(run, Command.PAUSE)
            run.send(Command.RUN)  # as a run does when it starts
        waits_for(run, Command.PAUSE)
        job.send(Command.RUN)
        waits_for(run, Command.RUN)
        for event in (RunPaused(1), RunWaiting(1, "generating images"), RunResumed(1), RunStopped(1)):
            control.show(event)
        assert not control.stopped
        job.send(Command.STOP)
        waits_for(run, Command.STOP)
        assert control.stopped
    assert job.events()[0] == [JobPaused(), JobWaiting("generating images"), JobResumed()]


def test_the_caller_can_stop_it(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", RECIPE, tmp_path)
    with RunControl(run, tmp_path, lambda: True) as control:
        waits_for(run, Command.STOP)
    assert control.stopped


def test_the_state_is_that_of_the_last_event(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert state_of(run) is State.NEW
    RunFolder.create(run.path, RECIPE, tmp_path)
    assert state_of(run) is State.UNFINISHED
    for event, state in (
        (RunFinished(2, "latest.safetensors", True, ""), State.FINISHED),
        (RunStopped(3), State.UNFINISHED),
        (RunFailed(4, "why"), State.FAILED),
    ):
        run.append(event)
        assert state_of(run) is state


def test_another_plan_is_refused_once_a_run_was_created(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    check_plan(tmp_path, tmp_path / "photos", 1.0, "search", run)
    check_plan(tmp_path, tmp_path / "photos", 2.0, "search", run)  # nothing was trained yet
    RunFolder.create(run.path, RECIPE, tmp_path / "photos")
    check_plan(tmp_path, tmp_path / "photos", 2.0, "search", run)
    with pytest.raises(BadRequest, match=r"holds another search: it trains on .*photos, 2.0 minutes"):
        check_plan(tmp_path, tmp_path / "photos", 1.0, "search", run)
    (tmp_path / PLAN).write_text("[]")
    with pytest.raises(RunProblem, match="cannot be read"):
        check_plan(tmp_path, tmp_path / "photos", 2.0, "search", run)

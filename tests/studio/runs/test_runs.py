"""Runs against a real process that has a training's manners but does none."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from diffstudio.errors import RunProblem, StorageProblem
from diffstudio.studio.requests import TrainRequest
from diffstudio.studio.runs.process import Launch, is_locked, write_launch
from diffstudio.studio.runs.runs import Runs, RunSummary, file_name
from diffstudio.studio.runs.status import log_tail
from diffstudio.training.recipe import DataRecipe, Recipe
from diffstudio.training.recipe_choice import RecipeChoice, read_choice
from diffstudio.training.run.events import RunFinished, RunStarted, RunStep
from diffstudio.training.run.run_folder import RunFolder, Status, creation_time

FAKE = (sys.executable, str(Path(__file__).parents[1] / "fake_training.py"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "emoji"
    folder.mkdir()
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    runs = Runs(tmp_path / "runs", command=FAKE)
    yield runs
    for summary in runs.list():
        if summary.pid is not None:
            psutil.Process(summary.pid).kill()
    wait(lambda: not any(summary.alive for summary in runs.list()))


def wait(until: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := until()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return value


def only(runs: Runs) -> RunSummary:
    (summary,) = runs.list()
    return summary


def behave(monkeypatch: pytest.MonkeyPatch, **how: Any) -> None:
    monkeypatch.setenv("FAKE_TRAINING", json.dumps(how))


def test_a_run_is_started_followed_and_finished(runs: Runs, pictures: Path) -> None:
    run = runs.start(TrainRequest(folder=pictures, minutes=2))
    assert run.name == "emoji"
    assert only(runs).alive
    assert only(runs).image_folder == pictures
    summary = wait(lambda: next((s for s in runs.list() if s.status is Status.FINISHED), None))
    assert summary.verdict == "It learned: the held-out loss fell from 0.55 to 0.06"
    assert (summary.step, summary.steps, summary.fraction, summary.learned) == (40, 40, 1.0, True)
    assert summary.images_per_second == 64.0
    assert summary.loss == pytest.approx(0.06 + 0.5 * 2.718281828 ** (-40 / 12), rel=0.2)
    assert summary.checkpoint == run.latest_checkpoint
    assert summary.left_seconds is None


def test_the_recipe_and_the_time_travel_to_the_process(runs: Runs, pictures: Path, tmp_path: Path) -> None:
    Recipe(name="mine", data=DataRecipe(size=32)).write(tmp_path / "mine.toml")
    run = runs.start(TrainRequest(folder=pictures, recipe=str(tmp_path / "mine.toml"), steps=7))
    wait(lambda: only(runs).status is Status.FINISHED)
    assert run.recipe().data.size == 32
    assert only(runs).steps == 7


def test_devices_and_machines_travel_to_the_process_and_a_resumed_run_waits_for_no_machine(
    runs: Runs, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[list[str]] = []
    launch = Runs._launch

    def noted(self: Runs, run: RunFolder, arguments: list[str], request: TrainRequest | None) -> None:
        given.append(arguments)
        launch(self, run, arguments, request)

    monkeypatch.setattr(Runs, "_launch", noted)
    run = runs.start(TrainRequest(folder=pictures, processes=0, machines=3, port=29_501))
    wait(lambda: only(runs).status is Status.WAITING)
    assert given[-1][-6:] == ["--processes", "all", "--machines", "3", "--port", "29501"]
    assert only(runs).waiting == "waiting for 2 more machines"
    assert only(runs).join_command.startswith("diffstudio train ")
    runs.stop(run)
    wait(lambda: only(runs).status is Status.STOPPED and only(runs).pid is None)
    runs.resume(run)
    assert given[-1][-2:] == ["--processes", "all"]
    wait(lambda: only(runs).status is Status.FINISHED)
    runs.train_longer(run, minutes=1)
    assert given[-1][-4:] == ["--minutes", "1", "--processes", "all"]


def test_a_chosen_recipe_is_handed_over_in_the_run_folder(
    runs: Runs, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = RecipeChoice(Recipe(name="chosen", data=DataRecipe(size=32)), "Because it fits.")
    run = runs.start(TrainRequest(folder=pictures, minutes=2), choice)
    wait(lambda: only(runs).status is Status.FINISHED)
    assert read_choice(run.chosen_recipe_file) == choice
    assert run.recipe() == choice.recipe
    again = runs.again(run)
    wait(lambda: runs.summary(again).status is Status.FINISHED)
    assert read_choice(again.chosen_recipe_file) == choice and again.recipe() == choice.recipe


def test_two_runs_on_one_folder_have_two_names_and_the_newest_is_first(runs: Runs, pictures: Path) -> None:
    first = runs.start(TrainRequest(folder=pictures))
    wait(lambda: first.recipe_file.is_file())
    second = runs.start(TrainRequest(folder=pictures))
    assert (first.name, second.name) == ("emoji", "emoji 2")
    wait(lambda: all(summary.status is Status.FINISHED for summary in runs.list()))
    assert [summary.name for summary in runs.list()] == ["emoji 2", "emoji"]


def test_pause_resume_and_stop(runs: Runs, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    behave(monkeypatch, steps=100_000)
    run = runs.start(TrainRequest(folder=pictures))
    wait(lambda: only(runs).step > 3)
    runs.pause(run)
    wait(lambda: only(runs).status is Status.PAUSED)
    held = only(runs).step
    time.sleep(0.1)
    assert only(runs).step == held
    pid = only(runs).pid
    runs.resume(run)
    wait(lambda: only(runs).step > held)
    assert only(runs).pid == pid, "a pause needs no second process"
    runs.stop(run)
    summary = wait(lambda: next((s for s in runs.list() if s.status is Status.STOPPED), None))
    assert summary.checkpoint is not None
    stopped_at = summary.step
    wait(lambda: only(runs).pid is None)

    runs.resume(run)
    wait(lambda: only(runs).step > stopped_at)
    assert only(runs).status is Status.TRAINING
    first = run.events()[0]
    assert [event.step for event in first if isinstance(event, RunStarted)] == [0, stopped_at]


def test_a_run_lives_on_without_the_object_that_started_it(
    runs: Runs, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behave(monkeypatch, steps=100_000)
    run = runs.start(TrainRequest(folder=pictures))
    wait(lambda: only(runs).step > 3)
    again = Runs(runs.folder, command=FAKE)
    seen = only(again)
    assert seen.status is Status.TRAINING
    assert seen.pid == only(runs).pid
    if hasattr(os, "getsid"):
        assert os.getsid(seen.pid) == seen.pid, "closing the terminal must not end it"
    again.stop(run)
    wait(lambda: only(again).status is Status.STOPPED)


def test_a_killed_run_is_interrupted_and_can_be_resumed(
    runs: Runs, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behave(monkeypatch, steps=60, end="vanish")
    run = runs.start(TrainRequest(folder=pictures))
    summary = wait(lambda: next((s for s in runs.list() if s.status is Status.INTERRUPTED), None))
    assert summary.pid is None
    assert "killed" in summary.verdict
    behave(monkeypatch, steps=60)
    runs.resume(run)
    wait(lambda: only(runs).status is Status.FINISHED)


def test_a_failed_run_says_why_and_keeps_its_log(runs: Runs, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    behave(monkeypatch, end="fail")
    run = runs.start(TrainRequest(folder=pictures))
    summary = wait(lambda: next((s for s in runs.list() if s.status is Status.FAILED), None))
    assert summary.verdict == "The loss is no longer a number. Lower the learning rate."
    assert log_tail(run).splitlines()[-1] == "ValueError: loss is nan"
    assert log_tail(run, lines=1) == "ValueError: loss is nan"


def test_a_process_that_ends_before_it_begins_is_a_failure_in_its_own_words(
    runs: Runs, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behave(monkeypatch, end="refuse")
    run = runs.start(TrainRequest(folder=pictures, minutes=3))
    summary = wait(lambda: next((s for s in runs.list() if s.status is Status.FAILED), None))
    assert summary.verdict == "There are no pictures in the folder. Choose another one."
    behave(monkeypatch)
    second = runs.again(run)
    assert second.name == "emoji 2"
    wait(lambda: "--minutes" in psutil.Process(runs.summary(second).pid).cmdline())  # empty for its first moments
    wait(lambda: runs.summary(second).status is Status.FINISHED)


def test_a_run_stopped_while_it_prepares_is_stopped_and_not_a_failure(
    runs: Runs, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behave(monkeypatch, prepare=600)
    run = runs.start(TrainRequest(folder=pictures))
    assert only(runs).status is Status.STARTING
    runs.stop(run)
    wait(lambda: only(runs).pid is None)
    assert (only(runs).status, only(runs).verdict) == (Status.STOPPED, "Stopped before it started")


def test_a_process_that_cannot_be_started_is_one_sentence(tmp_path: Path, pictures: Path) -> None:
    runs = Runs(tmp_path / "runs", command=(str(tmp_path / "no such program"),))
    with pytest.raises(RunProblem, match="cannot be started"):
        runs.start(TrainRequest(folder=pictures))


def test_a_place_that_cannot_be_written_to_is_one_sentence(tmp_path: Path, pictures: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    with pytest.raises(StorageProblem, match="cannot be created"):
        Runs(tmp_path / "runs", command=FAKE).start(TrainRequest(folder=pictures))


def test_a_process_number_used_again_is_not_the_run(runs: Runs, pictures: Path) -> None:
    """A machine that restarted may give the run's old number to anything, even to the training of another run."""
    run = RunFolder.create(runs.folder / "old", Recipe(), pictures)
    sleep = [sys.executable, "-c", "import time; time.sleep(60)", "train", "--run"]
    stranger = subprocess.Popen([*sleep, str(runs.folder / "other")])
    try:
        wait(lambda: "train" in psutil.Process(stranger.pid).cmdline())  # empty for its first moments
        run.append(started(stranger.pid))
        assert runs.summary(run).status is Status.INTERRUPTED
    finally:
        stranger.kill()
        stranger.wait()


def test_a_process_without_a_lock_is_recognised_by_the_run_it_was_started_for(runs: Runs, pictures: Path) -> None:
    """Version 0.1 started processes that hold no lock before they train."""
    run = RunFolder.create(runs.folder / "old", Recipe(), pictures)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "train", "--run", str(run.path)])
    try:
        write_launch(run.path, Launch(process.pid, 1.0, 0, 0, {}))
        wait(lambda: runs.summary(run).status is Status.STARTING)  # its command line is empty for its first moments
        assert runs.summary(run).pid == process.pid
    finally:
        process.kill()
        process.wait()
    assert runs.summary(run).status is Status.FAILED


YEAR = 365 * 86_400.0


def set_clock(monkeypatch: pytest.MonkeyPatch, by: float) -> None:
    """As if the system's clock had been set: processes seem to have been started at another time too."""
    now, born = time.time, psutil.Process.create_time
    monkeypatch.setattr(time, "time", lambda: now() + by)
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: born(process) + by)


@pytest.mark.parametrize("by", [YEAR, -YEAR])
@pytest.mark.parametrize("prepare", [0.0, 600.0])
def test_a_run_is_not_lost_when_the_clock_is_set(
    runs: Runs, pictures: Path, monkeypatch: pytest.MonkeyPatch, by: float, prepare: float
) -> None:
    behave(monkeypatch, steps=100_000, prepare=prepare)
    run = runs.start(TrainRequest(folder=pictures))
    wait(lambda: prepare or only(runs).step > 3)
    before = only(runs)
    set_clock(monkeypatch, by)
    for seen in (only(runs), only(Runs(runs.folder, command=FAKE))):  # also by a window that opens later
        assert (seen.status, seen.pid) == (before.status, before.pid)
        assert seen.status is (Status.STARTING if prepare else Status.TRAINING)
    with pytest.raises(RunProblem, match="Stop it first"):
        runs.remove(run)
    runs.stop(run)
    wait(lambda: only(runs).status is Status.STOPPED)


@pytest.mark.parametrize("by", [YEAR, -YEAR])
def test_runs_are_listed_as_they_were_started_however_the_clock_is_set(
    runs: Runs, pictures: Path, monkeypatch: pytest.MonkeyPatch, by: float
) -> None:
    RunFolder.create(runs.folder / "c first", Recipe(), pictures)
    with monkeypatch.context() as patch:
        set_clock(patch, by)
        RunFolder.create(runs.folder / "b second", Recipe(), pictures)
    behave(monkeypatch, end="refuse")
    runs.start(TrainRequest(folder=pictures), name="a third")  # has no run.json
    RunFolder.create(runs.folder / "d fourth", Recipe(), pictures)
    assert [summary.name for summary in runs.list()] == ["d fourth", "a third", "b second", "c first"]


def test_a_damaged_time_of_creation_does_not_bind_later_runs(runs: Runs, pictures: Path) -> None:
    damaged = RunFolder.create(runs.folder / "damaged", Recipe(), pictures)
    for value in ("1e300", '"tomorrow"', "NaN", "[]"):
        (damaged.path / "run.json").write_text(f'{{"format": 1, "pictures": "", "created": {value}}}')
        assert abs(creation_time(runs.folder / "next") - time.time()) < 60


@pytest.mark.skipif(sys.platform == "win32", reason="no shared locks there")
def test_looking_at_a_run_does_not_keep_its_process_from_training(runs: Runs, pictures: Path) -> None:
    import fcntl

    run = RunFolder.create(runs.folder / "one", Recipe(), pictures)
    with run.lock_file.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert not is_locked(run.lock_file), "one that looks does not see another"
        timer = threading.Timer(0.1, lambda: fcntl.flock(file, fcntl.LOCK_UN))
        timer.start()
        with run.locked():
            assert is_locked(run.lock_file)
        timer.join()
    assert not is_locked(run.lock_file)


def test_a_run_started_from_the_command_line_is_found(
    runs: Runs, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behave(monkeypatch, steps=100_000)
    process = subprocess.Popen([*FAKE, "train", str(pictures), "--run", str(runs.folder / "by hand")])
    try:
        wait(lambda: any(summary.step > 2 for summary in runs.list()))
        assert only(runs).status is Status.TRAINING
        assert only(runs).pid == process.pid
        process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        wait(lambda: only(runs).status is Status.INTERRUPTED)
    finally:
        process.kill()
        process.wait()


def test_a_finished_run_is_not_resumed(runs: Runs, pictures: Path) -> None:
    run = RunFolder.create(runs.folder / "done", Recipe(), pictures)
    run.append(RunFinished(step=5, checkpoint="", learned=True, verdict="fine"))
    with pytest.raises(RunProblem, match="is finished"):
        runs.resume(run)


def test_a_run_is_removed_to_the_trash_but_not_while_it_goes_on(
    runs: Runs, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trash = tmp_path / "trash"
    trash.mkdir()
    monkeypatch.setattr("send2trash.send2trash", lambda path: shutil.move(path, trash))
    behave(monkeypatch, steps=4000)
    run = runs.start(TrainRequest(folder=pictures))
    wait(lambda: only(runs).status is Status.TRAINING)
    with pytest.raises(RunProblem, match="Stop it first"):
        runs.remove(run)
    runs.stop(run)
    wait(lambda: not only(runs).alive)
    with run.locked(), pytest.raises(RunProblem, match="another process is training it"):
        runs.remove(run)
    runs.remove(run)
    assert runs.list() == []
    assert (trash / run.name / "recipe.toml").is_file()
    assert pictures.is_dir()


def test_a_trash_that_does_not_take_it_is_one_sentence(
    runs: Runs, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("send2trash.send2trash", refuse)
    run = runs.start(TrainRequest(folder=pictures, steps=2))
    wait(lambda: only(runs).status is Status.FINISHED)
    with pytest.raises(StorageProblem, match="could not be moved to the trash"):
        runs.remove(run)
    assert only(runs).status is Status.FINISHED


def test_damage_is_passed_over(runs: Runs, pictures: Path) -> None:
    (runs.folder / "not a run").mkdir(parents=True)
    (runs.folder / "a file").write_text("x")
    run = RunFolder.create(runs.folder / "damaged", Recipe(), pictures)
    (run.path / "process.json").write_text("{")
    (run.path / "run.json").write_text("[]")
    (run.path / "events.jsonl").write_bytes(b'\xff\xfe\nnull\n{"event": "unheard of"}\n{"event": "st')
    assert [summary.name for summary in runs.list()] == ["damaged"]
    assert only(runs).status is Status.INTERRUPTED


def test_no_folder_is_no_runs(tmp_path: Path) -> None:
    assert Runs(tmp_path / "nowhere").list() == []
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageProblem, match=r"The training runs in .*file cannot be read: Not a directory"):
        Runs(tmp_path / "file").list()


def test_a_run_that_took_the_place_of_another_is_read_anew(runs: Runs, pictures: Path) -> None:
    run = RunFolder.create(runs.folder / "one", Recipe(), pictures)
    run.append(
        RunFinished(step=500, checkpoint="", learned=True, verdict="A long sentence about how very well it went")
    )
    assert runs.summary(run).step == 500
    (run.path / "events.jsonl").unlink()
    assert runs.summary(run).step == 0


def test_the_measured_throughput_is_that_of_the_same_network_and_size(runs: Runs, pictures: Path) -> None:
    run = RunFolder.create(runs.folder / "one", Recipe(), pictures)
    assert runs.images_per_second(Recipe()) is None
    run.append(
        RunStep(
            step=9,
            steps=10,
            images_seen=576,
            loss=0.1,
            gradient_norm=1,
            learning_rate=1e-3,
            images_per_second=51.5,
            elapsed_seconds=9,
            left_seconds=1,
        )
    )
    assert runs.images_per_second(Recipe()) == 51.5
    assert runs.images_per_second(Recipe(data=DataRecipe(size=32))) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("emoji", "emoji"),
        ("a/b:c*?", "a b c"),
        ("  ..hidden. ", "hidden"),
        ("", "run"),
        ("猫の写真", "猫の写真"),
        ("x" * 300, "x" * 60),
        ("...", "run"),
        ("new\nline", "new line"),
    ],
)
def test_names_that_every_file_system_takes(name: str, expected: str) -> None:
    assert file_name(name) == expected


def started(pid: int) -> RunStarted:
    return RunStarted(
        step=0, steps=10, pid=pid, parameters=1, images=1, held_out=0, device="cpu", dtype="float32", threads=1, why=""
    )

"""A folder of which too few images can be held out: cross-validation chooses for how long its run trains."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diffstudio.cli import main
from diffstudio.errors import RunProblem
from diffstudio.models.library.records import read_checkpoint
from diffstudio.training.fold_networks import FoldNetworks
from diffstudio.training.loop import train
from diffstudio.training.recipe import Recipe, read_recipe
from diffstudio.training.run.events import (
    RunCrossValidated,
    RunEvent,
    RunFinished,
    RunHeldOut,
    RunStarted,
    RunStep,
    RunStopped,
)
from diffstudio.training.run.run_folder import Command, RunFolder
from tests.training.conftest import with_steps, write_pictures
from tests.training.test_loop import assert_same, events_of


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "tiny", count=12)


@pytest.fixture
def split_recipe(recipe: Recipe, tmp_path: Path) -> str:
    split = with_steps(replace(recipe, data=replace(recipe.data, cross_splits=3)), 16)
    split.write(tmp_path / "split.toml")
    return str(tmp_path / "split.toml")


def only(run: RunFolder, kind: type[RunEvent]) -> RunEvent:
    (event,) = events_of(run, kind)
    return event


def stop_at(run: Path, step: int, *, splits: bool) -> Callable[[RunEvent], None]:
    """An on_event that stops the run at a held-out loss of its splits, or at a step of its own."""

    def on_event(event: RunEvent) -> None:
        due = isinstance(event, RunHeldOut) if splits else isinstance(event, RunCrossValidated)
        if due and event.step >= step:
            RunFolder(run).send(Command.STOP)

    return on_event


def test_the_steps_of_the_run_are_those_of_the_lowest_pooled_loss(
    tiny: Path, split_recipe: str, tmp_path: Path
) -> None:
    run = train(tmp_path / "run", tiny, recipe=split_recipe)
    chosen = only(run, RunCrossValidated)
    assert isinstance(chosen, RunCrossValidated)
    assert chosen.splits == 3 and chosen.images == 12 and chosen.length == 16
    assert chosen.best_step == chosen.steps[chosen.losses.index(min(chosen.losses))]
    assert chosen.low < chosen.loss == min(chosen.losses) < chosen.high
    measured = [event for event in events_of(run, RunHeldOut) if isinstance(event, RunHeldOut)]
    assert [event.step for event in measured] == list(chosen.steps) == [2, 4, 6, 8, 10, 12, 14, 16]
    assert all(event.splits == 3 for event in measured)
    started, finished = only(run, RunStarted), only(run, RunFinished)
    assert isinstance(started, RunStarted) and isinstance(finished, RunFinished)
    assert (started.images, started.held_out, started.splits) == (12, 0, 3)
    assert finished.step == chosen.best_step and run.checkpoint(finished.step).is_file()
    assert any("Cross-validated over 3 folds of 12 images" in sentence for sentence in finished.evidence)
    assert not run.splits_file.exists() and run.recipe().run.end_step == chosen.best_step


@pytest.mark.parametrize(("step", "splits"), [(6, True), (0, False)])
def test_a_run_stopped_in_a_split_or_right_after_equals_an_uninterrupted_one(
    tiny: Path, split_recipe: str, tmp_path: Path, step: int, splits: bool
) -> None:
    whole = train(tmp_path / "whole", tiny, recipe=split_recipe)
    path = tmp_path / "stopped"
    run = train(path, tiny, recipe=split_recipe, on_event=stop_at(path, step, splits=splits))
    assert events_of(run, RunStopped) and not events_of(run, RunFinished)
    assert run.splits_file.exists() == splits
    train(path, resume=True)
    assert_same(whole, run)
    first, second = only(whole, RunCrossValidated), only(run, RunCrossValidated)
    assert first == second
    if splits:  # the charts forget only what is repeated
        started = events_of(run, RunStarted)
        assert [event.step for event in started] == [0, step]


def test_a_kill_between_the_choice_and_the_recipe_changes_nothing(
    tiny: Path, split_recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tmp_path / "whole", tiny, recipe=split_recipe)

    def killed(event: RunEvent) -> None:
        if isinstance(event, RunCrossValidated):
            raise KeyboardInterrupt

    path = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        train(path, tiny, recipe=split_recipe, on_event=killed)
    assert not RunFolder(path).recipe().run.end_step
    run = train(path, resume=True)
    assert_same(whole, run)
    assert len(events_of(run, RunCrossValidated)) == 1 and not run.splits_file.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9 on Windows")
def test_a_run_whose_process_is_killed_inside_a_split_gives_the_same_weights(
    tiny: Path, split_recipe: str, tmp_path: Path
) -> None:
    """Killed in the middle of a step or of a write, after states of the networks were written."""
    steps = 60
    long = with_steps(read_recipe(Path(split_recipe)), steps)
    long.write(tmp_path / "long.toml")
    killed = RunFolder(tmp_path / "killed")
    command = "import sys; from pathlib import Path; from diffstudio.training.loop import train; "
    command += "from diffstudio.training.run.clock import RunClock; RunClock.state_due = lambda self: True; "
    command += "train(Path(sys.argv[1]), Path(sys.argv[2]), recipe=sys.argv[3])"
    process = subprocess.Popen([sys.executable, "-c", command, killed.path, tiny, tmp_path / "long.toml"])
    while process.poll() is None and len(events_of(killed, RunHeldOut)) < 3:
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not events_of(killed, RunCrossValidated)
    stored = torch.load(killed.splits_file, weights_only=True)
    assert 0 < stored["networks"][0]["step"] < steps and len(stored["losses"]) >= 2
    train(killed.path, resume=True)
    whole = train(tmp_path / "whole", tiny, recipe=str(tmp_path / "long.toml"))
    assert only(whole, RunCrossValidated) == only(killed, RunCrossValidated)
    assert_same(whole, killed)


def test_its_average_of_another_length_is_not_chosen_by_a_loss(
    tiny: Path, split_recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run itself was trained on all images."""
    monkeypatch.setenv("DIFFSTUDIO_HOME", str(tmp_path / "home"))
    split = read_recipe(Path(split_recipe))
    replace(split, run=replace(split.run, ema_snapshots=4)).write(tmp_path / "averages.toml")
    run = train(tmp_path / "run", tiny, recipe=str(tmp_path / "averages.toml"))
    target = tmp_path / "out.safetensors"
    assert main(["models", "ema", str(run.path), "--best", "--out", str(target)]) == 1
    said = capsys.readouterr().err
    assert "run has no held-out images" in said and "trained on all images" in said and not target.exists()
    assert main(["models", "ema", str(run.path), "--length", "0.1", "--out", str(target)]) == 0
    assert read_checkpoint(target).json("run")["ema_length"] == 0.1


def test_the_networks_hold_out_every_image_once_and_start_alike(
    tiny: Path, split_recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[FoldNetworks] = []
    real = FoldNetworks.events

    def watched(self: FoldNetworks) -> object:
        seen.append(self)
        states = [trainer.state()["network"] for trainer in self._trainers]
        assert all(torch.equal(states[0][name], other[name]) for other in states[1:] for name in other)
        return real(self)

    monkeypatch.setattr(FoldNetworks, "events", watched)
    train(tmp_path / "run", tiny, recipe=split_recipe)
    held_out = [set(batches._dataset.held_out_indices.tolist()) for batches in seen[0]._batches]
    assert sorted(index for part in held_out for index in part) == list(range(12))
    assert all(
        not set(batches._training.tolist()) & part for batches, part in zip(seen[0]._batches, held_out, strict=True)
    )


def test_minutes_are_divided_and_the_run_ends_within_them(tiny: Path, split_recipe: str, tmp_path: Path) -> None:
    run = train(tmp_path / "run", tiny, recipe=split_recipe, minutes=0.1)
    chosen = only(run, RunCrossValidated)
    assert isinstance(chosen, RunCrossValidated) and chosen.best_step <= chosen.length
    steps = [event for event in events_of(run, RunStep) if isinstance(event, RunStep)]
    assert any(event.splits == 3 for event in steps) and steps[-1].splits == 0
    assert steps[-1].elapsed_seconds < 7


def test_a_folder_that_cannot_be_split_and_a_damaged_state_are_said(
    tiny: Path, split_recipe: str, recipe: Recipe, tmp_path: Path
) -> None:
    few = write_pictures(tmp_path / "few", count=4)
    with pytest.raises(RunProblem, match="cannot be cross-validated over 3 folds"):
        train(tmp_path / "none", few, recipe=split_recipe)
    path = tmp_path / "run"
    train(path, tiny, recipe=split_recipe, on_event=stop_at(path, 4, splits=True))
    (path / "splits.pt").write_bytes(b"nothing")
    with pytest.raises(RunProblem, match=r"splits\.pt is damaged"):
        train(path, resume=True)

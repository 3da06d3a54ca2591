from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from diffstudio import paths
from diffstudio.models.library.records import read_checkpoint
from diffstudio.studio.evaluations.noise_schedule.losses import level_losses, run_folders, run_of
from diffstudio.training.recipe import Recipe
from diffstudio.training.run.events import RunHeldOut, RunStarted
from diffstudio.training.run.run_folder import RunFolder


def started(objective: str) -> RunStarted:
    return RunStarted(0, 10, 1, 1, 1, 1, "cpu", "float32", 1, "", objective=objective)


def run(name: str, *, objective: str = "diffusion", **held_out: tuple[float, ...]) -> RunFolder:
    found = RunFolder.create(paths.runs() / name, Recipe(), paths.data())
    found.append(started(objective))
    found.append(RunHeldOut(50, 1.0, levels=(0.2, 0.8), level_losses=(9.0, 9.0)))
    found.append(RunHeldOut(100, 1.0, **held_out))
    return found


def test_the_newest_losses_at_the_log_snr_of_a_flow() -> None:
    found = run("one", levels=(0.25, 0.5, 0.75), level_losses=(1.0, 0.5, 0.4), training_level_losses=(0.9, 0.5, 0.3))
    losses = level_losses(found.path)
    assert losses is not None and (losses.run, losses.step) == ("one", 100)
    assert losses.log_snr == pytest.approx((2.1972246, 0.0, -2.1972246))  # 2 log((1 - t) / t)
    assert (losses.held_out, losses.training) == ((1.0, 0.5, 0.4), (0.9, 0.5, 0.3))
    before = level_losses(run("before", levels=(0.5,), level_losses=(1.0,)).path)  # without those of training images
    assert before is not None and before.training == ()


def test_runs_without_losses_by_noise_level() -> None:
    assert level_losses(run("vae", objective="vae", levels=(0.5,), level_losses=(1.0,)).path) is None
    assert level_losses(run("damaged", levels=(0.5, 0.6), level_losses=(1.0,)).path) is None
    assert level_losses(paths.runs() / "none") is None


def test_which_run_a_checkpoint_comes_from() -> None:
    assert run_folders() == []
    old, new = run("old").path, run("new").path
    (paths.runs() / "no run").mkdir()
    os.utime(old / "recipe.toml", (1, 1))
    assert run_folders() == [new, old]
    starter = read_checkpoint(paths.starter())
    assert run_of(starter, [new, old]) is None
    assert run_of(replace(starter, path=old / "checkpoints" / "latest.safetensors"), [new, old]) == old
    assert isinstance(new, Path)

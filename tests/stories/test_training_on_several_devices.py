"""A run on two processes: it ends as on one, is resumed by any number of them, and a killed process ends it well.

The process that leads is this one, so that a test starts one process only; the other is the program itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diffstudio.errors import RunProblem
from diffstudio.training.distributed import cluster, meeting, sharding
from diffstudio.training.distributed.cluster import Cluster
from diffstudio.training.loop import train
from diffstudio.training.recipe import Recipe
from diffstudio.training.recipe.network_recipe import NetworkName
from diffstudio.training.recipe.optimiser_recipe import OptimiserName
from diffstudio.training.run.events import RunEvent, RunFailed, RunFinished, RunStarted, RunStep, RunWaiting
from diffstudio.training.run.run_folder import RunFolder
from tests.training.conftest import folder, recipe, recipe_file, write_pictures

__all__ = ["folder", "recipe", "recipe_file", "write_pictures"]
pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9 on Windows"),
    pytest.mark.usefixtures("home"),
]
STEPS = 6


@pytest.fixture
def quick(recipe: Recipe, tmp_path: Path) -> str:
    """A recipe whose Muon computes in float32, and which samples once."""
    run = replace(recipe.run, sample_every=1000, checkpoint_every=1000, held_out_every=1000, sample_steps=1)
    made = replace(recipe, run=run, optimiser=replace(recipe.optimiser, muon_dtype="float32"))
    made.write(tmp_path / "quick.toml")
    return str(tmp_path / "quick.toml")


_ALONE: list[Tensor] = []


def alone(folder: Path, quick: str) -> Tensor:
    """What one process learns; the folder and the recipe of both tests are the same."""
    if not _ALONE:
        _ALONE.append(weights(train(folder.parent / "alone", folder, recipe=quick, steps=STEPS)))
    return _ALONE[0]


def weights(run: RunFolder) -> Tensor:
    state = torch.load(run.state_file, weights_only=True)
    parts = [state["network"], state["average"], *(each["state"] for each in state["optimisers"])]
    return torch.cat([value.flatten().float() for value in _tensors(parts)])


def _tensors(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    each = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [tensor for one in each for tensor in _tensors(one)]


def test_two_processes_end_as_one_and_a_killed_one_ends_the_run_which_is_resumed(
    tmp_path: Path, folder: Path, quick: str
) -> None:
    events: list[RunEvent] = []

    def kill_after_a_step(event: RunEvent) -> None:
        events.append(event)
        if isinstance(event, RunStep) and event.step < STEPS:
            children[0].send_signal(signal.SIGKILL)

    children: list[subprocess.Popen[bytes]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meeting, "start_processes", noting(children, meeting.start_processes))
        patch.setattr("diffstudio.training.run.training._SECONDS_BETWEEN_EVENTS", 0.0)
        with pytest.raises(RunProblem, match="one of its processes has ended: .* ended by signal 9. Resume the run"):
            train(
                tmp_path / "two",
                folder,
                recipe=quick,
                steps=STEPS,
                on_event=kill_after_a_step,
                cluster=Cluster(processes=2),
            )
    assert isinstance(events[-1], RunFailed) and not torch.distributed.is_initialized()
    two = RunFolder(tmp_path / "two")
    assert children[0].poll() is not None
    train(two.path, resume=True)  # with one process
    assert isinstance(two.events()[0][-1], RunFinished)
    torch.testing.assert_close(weights(two), alone(folder, quick), rtol=0, atol=1e-4)


def noting(children: list[subprocess.Popen[bytes]], start: Callable[..., list[subprocess.Popen[bytes]]]) -> object:
    def noted(*arguments: object) -> list[subprocess.Popen[bytes]]:
        children[:] = start(*arguments)
        return children

    return noted


def test_another_machine_joins_with_the_command_that_is_shown(tmp_path: Path, folder: Path, quick: str) -> None:
    """With its own copy of the images, and its own data folder; the state is sharded over both, as of a large network."""
    elsewhere = write_pictures(tmp_path / "elsewhere")
    shown: list[str] = []
    joined: list[subprocess.Popen[bytes]] = []

    def join(event: RunEvent) -> None:
        if isinstance(event, RunWaiting):
            shown.append(event.join_command)
            address = event.join_command.rpartition("--join ")[2]
            joined.append(
                subprocess.Popen(
                    [sys.executable, "-m", "diffstudio", "train", str(elsewhere), "--join", address],
                    stderr=subprocess.PIPE,
                    env=os.environ | {"DIFFSTUDIO_HOME": str(tmp_path / "home of the other")},
                )
            )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharding, "PARAMETERS", 1000)
        patch.setattr(cluster, "_NOWHERE", (cluster.LOCAL, 9))
        run = train(
            tmp_path / "two", folder, recipe=quick, steps=STEPS, on_event=join, cluster=Cluster(machines=2, port=29_719)
        )
    _, said = joined[0].communicate(timeout=60)
    assert joined[0].returncode == 0, said.decode()
    assert shown[0].startswith("diffstudio train ") and str(folder) in shown[0]
    assert isinstance(run.events()[0][-1], RunFinished)
    why = next(event.why for event in run.events()[0] if isinstance(event, RunStarted))
    assert why.endswith("2 processes train it together, which share the weights among them.")
    torch.testing.assert_close(weights(run), alone(folder, quick), rtol=0, atol=1e-4)


def test_a_unet_is_sharded_over_two_processes(tmp_path: Path, folder: Path, recipe: Recipe) -> None:
    run = replace(recipe.run, steps=3, sample_every=1000, checkpoint_every=1000, held_out_every=1000, sample_steps=1)
    network = replace(recipe.network, kind=NetworkName.UNET, channels=(8, 16), attention=8)
    adamw = replace(recipe.optimiser, name=OptimiserName.ADAMW)
    unet = replace(recipe, run=replace(run, sample_count=1), network=network, optimiser=adamw)
    unet.write(tmp_path / "unet.toml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharding, "PARAMETERS", 1000)
        two = train(tmp_path / "two", folder, recipe=str(tmp_path / "unet.toml"), cluster=Cluster(processes=2))
    why = next(event.why for event in two.events()[0] if isinstance(event, RunStarted))
    assert why.endswith("2 processes train it together, which share the weights among them.")
    one = train(tmp_path / "one", folder, recipe=str(tmp_path / "unet.toml"))
    torch.testing.assert_close(weights(two), weights(one), rtol=0, atol=1e-4)

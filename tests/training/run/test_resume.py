"""Resume and continue: a run works from what it stored, whatever happened to its folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diffstudio import paths
from diffstudio.errors import FolderProblem, RunProblem
from diffstudio.models.library.records import read_checkpoint
from diffstudio.training.loop import train
from diffstudio.training.preparation.stored_dataset import StoredDataset
from diffstudio.training.recipe import Recipe
from diffstudio.training.run.events import RunCheckpoint, RunEvent, RunFinished, RunStarted, RunStep
from diffstudio.training.run.run_folder import Command, RunFolder
from tests.training.test_loop import assert_same, at_step


@pytest.fixture
def stopped(folder: Path, recipe_file: str, tmp_path: Path) -> RunFolder:
    path = tmp_path / "run"
    return train(path, folder, recipe=recipe_file, on_event=at_step(4, lambda: RunFolder(path).send(Command.STOP)))


def started(run: RunFolder) -> RunStarted:
    return [event for event in run.events()[0] if isinstance(event, RunStarted)][-1]


def test_a_recaptioned_grown_and_emptied_folder_changes_nothing_and_is_said(
    stopped: RunFolder, folder: Path, recipe_file: str, tmp_path: Path
) -> None:
    whole = train(tmp_path / "whole", folder, recipe=recipe_file)
    for caption in folder.rglob("*.txt"):
        caption.write_text("other, words", encoding="utf-8")
    shutil.copyfile(folder / "disc" / "00.png", folder / "disc" / "new.png")
    (folder / "square" / "01.png").unlink()
    train(stopped.path, resume=True)
    assert "1 image of the run is no longer in the folder" in started(stopped).why
    assert "1 image added to the folder since then is not used" in started(stopped).why
    assert_same(whole, stopped)


def test_files_that_are_prepared_again_are_said(stopped: RunFolder, folder: Path) -> None:
    for prepared in paths.prepared_images().glob("*"):
        prepared.unlink()
    again = shutil.copytree(stopped.path, stopped.path.with_name("again"))
    train(again, resume=True)
    assert "no longer in the cache" not in started(RunFolder(again)).why  # the same files as ever
    for prepared in paths.prepared_images().glob("*"):
        prepared.unlink()
    shutil.copyfile(folder / "disc" / "00.png", folder / "square" / "01.png")
    train(stopped.path, resume=True)
    assert "no longer in the cache: the run continues with the files as they are now" in started(stopped).why


def test_a_lost_folder_whose_prepared_images_are_gone_can_be_named(stopped: RunFolder, folder: Path) -> None:
    for prepared in paths.prepared_images().glob("*"):
        prepared.unlink()
    moved = folder.rename(folder.with_name("moved"))
    with pytest.raises(FolderProblem, match="with the folder that the images are in now"):
        train(stopped.path, resume=True)
    assert train(stopped.path, moved, resume=True).info()["pictures"] == str(moved)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9 on Windows")
def test_a_run_whose_process_is_killed_gives_the_same_weights(folder: Path, recipe: Recipe, tmp_path: Path) -> None:
    """Killed in the middle of a step, at some time after its first states were written."""
    steps = 100
    quiet = replace(recipe.run, steps=steps, sample_every=steps, checkpoint_every=10, held_out_every=steps)
    replace(recipe, run=quiet).write(tmp_path / "long.toml")
    killed = RunFolder(tmp_path / "killed")
    command = "import sys; from pathlib import Path; from diffstudio.training.loop import train; "
    command += "train(Path(sys.argv[1]), Path(sys.argv[2]), recipe=sys.argv[3])"
    process = subprocess.Popen([sys.executable, "-c", command, killed.path, folder, tmp_path / "long.toml"])
    while process.poll() is None and sum(isinstance(event, RunCheckpoint) for event in killed.events()[0]) < 2:
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not any(isinstance(event, RunFinished) for event in killed.events()[0])
    train(killed.path, resume=True)
    assert_same(train(tmp_path / "whole", folder, recipe=str(tmp_path / "long.toml")), killed)


def test_a_moved_folder_is_found_again_and_a_lost_one_is_done_without(
    stopped: RunFolder, folder: Path, recipe_file: str, tmp_path: Path
) -> None:
    whole = train(tmp_path / "whole", folder, recipe=recipe_file)
    again = shutil.copytree(stopped.path, tmp_path / "again")
    moved = folder.rename(tmp_path / "moved")
    train(stopped.path, moved, resume=True)
    assert stopped.info()["pictures"] == str(moved) and started(stopped).folder == str(moved)
    assert_same(whole, stopped)
    shutil.rmtree(moved)
    train(again, resume=True)
    assert "no longer exists" in started(RunFolder(again)).why
    assert_same(whole, RunFolder(again))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_file_whose_name_is_not_utf_8(folder: Path, recipe_file: str, tmp_path: Path) -> None:
    """As old archives leave them."""
    (folder / "disc" / "00.png").rename(folder / "disc" / os.fsdecode(b"caf\xe9.png"))
    whole, path = train(tmp_path / "whole", folder, recipe=recipe_file), tmp_path / "run"
    train(path, folder, recipe=recipe_file, on_event=at_step(4, lambda: RunFolder(path).send(Command.STOP)))
    assert_same(whole, train(path, resume=True))


def test_prepared_images_stay_on_the_disk(stopped: RunFolder) -> None:
    stored = StoredDataset.read(stopped.dataset_file)
    assert stored is not None and (prepared := stored.open_prepared()) is not None
    assert np.shares_memory(stored.among(prepared).images, prepared.images)


def test_without_its_prepared_images_they_are_prepared_again(
    stopped: RunFolder, folder: Path, recipe_file: str, tmp_path: Path
) -> None:
    whole = train(tmp_path / "whole", folder, recipe=recipe_file)
    shutil.copyfile(folder / "disc" / "00.png", folder / "disc" / "000.png")  # before all others
    for file in (paths.prepared_images()).glob("*.npy"):
        file.unlink()
    train(stopped.path, resume=True)
    assert_same(whole, stopped)


def test_a_folder_of_other_images_is_refused(stopped: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(RunProblem, match="24 of 24 are missing"):
        train(stopped.path, tmp_path / "other", resume=True)
    with pytest.raises(FolderProblem):
        train(stopped.path, tmp_path / "nowhere", resume=True)


def test_a_changed_rate_takes_effect_and_changed_images_are_refused(stopped: RunFolder) -> None:
    recipe = stopped.recipe()
    replace(recipe, data=replace(recipe.data, fit="pad")).write(stopped.recipe_file)
    with pytest.raises(RunProblem, match="recipe.data.fit was changed"):
        train(stopped.path, resume=True)
    faster = replace(recipe, optimiser=replace(recipe.optimiser, muon_learning_rate=0.5, decay_share=0.0))
    faster.write(stopped.recipe_file)
    train(stopped.path, resume=True)
    steps = [event for event in stopped.events()[0] if isinstance(event, RunStep)]
    assert steps[-1].learning_rate == 0.5
    assert read_checkpoint(stopped.checkpoint(12)).json("recipe")["optimiser"]["muon_learning_rate"] == 0.5


def test_a_finished_run_is_trained_for_longer(folder: Path, recipe_file: str, tmp_path: Path) -> None:
    run = train(tmp_path / "run", folder, recipe=recipe_file)
    train(run.path, resume=True, steps=6)
    events = run.events()[0]
    assert started(run).step == 12 and started(run).steps == 18 and "Continued from step 12" in started(run).why
    assert isinstance(events[-1], RunFinished) and events[-1].step == 18
    steps = [event for event in events if isinstance(event, RunStep)]
    assert steps[-1].progress == 1 and steps[-1].steps == 18
    saved = [event for event in events if isinstance(event, RunCheckpoint)]
    assert saved[-1].step == 18 and read_checkpoint(run.checkpoint(18)).json("recipe")["run"]["steps"] == 18
    train(run.path, resume=True, minutes=0.001)
    assert run.events()[0][-1].step >= 19 and run.recipe().run.schedule == "time"  # at least one step more


def test_a_run_of_before_without_its_dataset_resumes_from_its_folder(
    stopped: RunFolder, folder: Path, recipe_file: str, tmp_path: Path
) -> None:
    stopped.dataset_file.unlink()
    train(stopped.path, resume=True)
    assert_same(train(tmp_path / "whole", folder, recipe=recipe_file), stopped)


def test_a_damaged_dataset_file_is_said(stopped: RunFolder) -> None:
    values = json.loads(stopped.dataset_file.read_text(encoding="utf-8"))
    for damage in ("{", json.dumps(values | {"labels": [1]}), json.dumps({"format": 1})):
        stopped.dataset_file.write_text(damage, encoding="utf-8")
        with pytest.raises(RunProblem, match="dataset.json"):
            train(stopped.path, resume=True)
    stopped.dataset_file.write_text(json.dumps(values | {"format": 99}), encoding="utf-8")
    with pytest.raises(RunProblem, match="format 99"):
        train(stopped.path, resume=True)


def test_a_full_disk_costs_what_came_after_the_last_state(
    folder: Path, recipe_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer of the second state finds no room: the first is kept, and the resumed run is the same run."""
    import errno

    import torch

    from diffstudio.errors import StorageProblem

    save, written = torch.save, [0]

    def full(state: object, file: object) -> None:
        written[0] += 1
        if written[0] == 3:  # the first is that of the start
            raise OSError(errno.ENOSPC, "No space left on device")
        save(state, file)

    path = tmp_path / "run"
    with monkeypatch.context() as disk, pytest.raises(StorageProblem, match="state of the run"):
        disk.setattr(torch, "save", full)
        train(path, folder, recipe=recipe_file)
    run = RunFolder(path)
    assert run.events()[0][-1].step == 8 and not list(path.rglob("*.part"))
    train(path, resume=True)
    assert started(run).step == 4
    assert_same(train(tmp_path / "whole", folder, recipe=recipe_file), run)


def test_a_decision_that_was_recorded_is_followed_after_a_kill(folder: Path, recipe: Recipe, tmp_path: Path) -> None:
    """Killed between the early stop and its last checkpoint: the resumed run ends at once."""
    patient = replace(recipe, run=replace(recipe.run, steps=400, patience=1, held_out_every=1, checkpoint_every=400))
    patient = replace(patient, optimiser=replace(recipe.optimiser, muon_learning_rate=1.0, learning_rate=0.3))
    patient.write(tmp_path / "patient.toml")

    class Killed(BaseException):
        pass

    def kill(event: RunEvent) -> None:
        if event.event == "early_stop":
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path / "run", folder, recipe=str(tmp_path / "patient.toml"), on_event=kill)
    run = RunFolder(tmp_path / "run")
    stop = run.events()[0][-1]
    assert stop.event == "early_stop" and stop.step < 400
    train(run.path, resume=True)
    assert isinstance(run.events()[0][-1], RunFinished) and run.events()[0][-1].step == stop.step
    assert not any(isinstance(event, RunStep) and event.step > stop.step for event in run.events()[0])

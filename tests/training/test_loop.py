"""A run as a person meets it: it learns, it can be paused, stopped, killed and gone on with, and it ends in a
checkpoint.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from diffstudio import paths
from diffstudio.diffusion.curve_points import NoiseCurve
from diffstudio.errors import Diverged, FolderProblem, RunProblem
from diffstudio.models.checkpoint import Origin
from diffstudio.models.families import pixel_file
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.memory.lease import Lease
from diffstudio.networks.cascade import CascadedTransformer
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.curves.noise_levels import TrainingLevels
from diffstudio.training.data.batches import Batches
from diffstudio.training.loop import train
from diffstudio.training.objectives.objective import FixedLosses
from diffstudio.training.recipe import OptimiserRecipe, Recipe, UpperRecipe
from diffstudio.training.recipe.objective_recipe import NoiseLevelsName
from diffstudio.training.recipe.optimiser_recipe import OptimiserName
from diffstudio.training.run import sample_sheets, training
from diffstudio.training.run.checkpoints.checkpointing import to_delete
from diffstudio.training.run.command_listener import CommandListener, training_turn
from diffstudio.training.run.events import (
    RunCheckpoint,
    RunDiversity,
    RunEvent,
    RunFailed,
    RunFinished,
    RunHeldOut,
    RunPaused,
    RunResumed,
    RunRolledBack,
    RunSamples,
    RunStarted,
    RunStep,
    RunStopped,
    RunVerdict,
    RunWaiting,
)
from diffstudio.training.run.run_folder import Command, RunFolder, RunRequest
from diffstudio.training.run.training import Training
from diffstudio.training.trainer import Trainer
from tests.training.conftest import with_steps


def events_of(run: RunFolder, kind: type[RunEvent]) -> list[RunEvent]:
    return [event for event in run.events()[0] if isinstance(event, kind)]


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["network"]


def assert_same(first: RunFolder, second: RunFolder) -> None:
    """Weights, averages and everything the optimisers remember, to the bit."""
    one, other = (torch.load(run.state_file, weights_only=True) for run in (first, second))
    for key in ("network", "average"):
        assert all(torch.equal(one[key][name], other[key][name]) for name in one[key])
    for mine, theirs in zip(one["optimisers"], other["optimisers"], strict=True):
        for index, remembered in mine["state"].items():
            for name, value in remembered.items():
                assert torch.equal(torch.as_tensor(value), torch.as_tensor(theirs["state"][index][name])), name


def at_step(step: int, do: Callable[[], None]) -> Callable[[RunEvent], None]:
    """An on_event that acts once, at the checkpoint of `step`."""

    def on_event(event: RunEvent) -> None:
        if isinstance(event, RunCheckpoint) and event.step == step:
            do()

    return on_event


def test_a_run_says_all_that_happens_and_ends_in_a_checkpoint(folder: Path, recipe_file: str, tmp_path: Path) -> None:
    run = train(tmp_path / "run", folder, recipe=recipe_file)
    (started,) = events_of(run, RunStarted)
    assert isinstance(started, RunStarted) and started.images + started.held_out == 24 and started.steps == 12
    assert [event.step for event in events_of(run, RunSamples)] == [6, 12]
    assert [event.step for event in events_of(run, RunCheckpoint)] == [4, 8, 12]
    assert [event.step for event in events_of(run, RunHeldOut)] == [4, 8, 12]
    last_step = events_of(run, RunStep)[-1]
    assert isinstance(last_step, RunStep) and last_step.images_seen == 96 and last_step.left_seconds == 0
    assert isinstance(run.events()[0][-1], RunFinished)
    sheet = events_of(run, RunSamples)[-1]
    assert isinstance(sheet, RunSamples) and (run.path / sheet.ema).is_file() and (run.path / sheet.raw).is_file()
    about = read_checkpoint(run.latest_checkpoint)
    assert (about.family, about.conditioning, about.origin, about.width) == (
        "pixel",
        Conditioning.TEXT,
        Origin.TRAINED,
        16,
    )
    assert about.json("run")["pictures_seen"] == 96 and about.json("recipe")["run"]["steps"] == 12
    assert pixel_file.load(about).network.config.image_size == 16
    assert not list(run.path.rglob("*.part"))


def test_a_finished_run_that_is_resumed_has_the_same_verdict(folder: Path, recipe: Recipe, tmp_path: Path) -> None:
    """Also without held-out images: no step is made whose loss could be judged."""
    small = replace(recipe, data=replace(recipe.data, held_out=0.0))
    small.write(tmp_path / "small.toml")
    run = train(tmp_path / "run", folder, recipe=str(tmp_path / "small.toml"))
    before = run.events()[0][-1]
    again = train(run.path, resume=True).events()[0][-1]
    assert isinstance(before, RunFinished) and isinstance(again, RunFinished)
    assert "NaN" not in again.verdict and again.step == before.step


def test_a_run_that_was_killed_before_its_last_checkpoint_writes_it(
    folder: Path, recipe_file: str, tmp_path: Path
) -> None:
    """Its state is of the last step already."""
    run = train(tmp_path / "run", folder, recipe=recipe_file)
    written = load_file(run.checkpoint(12))
    run.checkpoint(12).unlink()
    train(run.path, resume=True)
    again = load_file(run.checkpoint(12))
    assert all(torch.equal(again[name], tensor) for name, tensor in written.items())
    assert [event.step for event in events_of(run, RunCheckpoint)] == [4, 8, 12, 12]


def test_time_that_ends_between_two_questions_still_has_a_last_measurement(
    folder: Path, recipe_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the run is done is decided once a step: the clock may pass the deadline right after it was asked."""
    real = Training._after_step

    def late(training: Training, last: bool) -> Iterator[RunEvent]:
        yield from real(training, last)
        if training._trainer.step_number == 7:
            monkeypatch.setattr(Training, "_progress", lambda _: 1.0)

    monkeypatch.setattr(Training, "_after_step", late)
    run = train(tmp_path / "run", folder, recipe=recipe_file)
    finished = run.events()[0][-1]
    assert isinstance(finished, RunFinished) and finished.step == 8
    assert run.checkpoint(8).is_file() and events_of(run, RunHeldOut)[-1].step == 8  # type: ignore[attr-defined]


def test_the_held_out_loss_falls_and_the_verdict_is_recorded(folder: Path, recipe: Recipe, tmp_path: Path) -> None:
    more = replace(with_steps(recipe, 60), data=replace(recipe.data, held_out=0.3))
    more.write(tmp_path / "long.toml")
    run = train(tmp_path / "run", folder, recipe=str(tmp_path / "long.toml"))
    losses = [event for event in events_of(run, RunHeldOut) if isinstance(event, RunHeldOut)]
    assert losses[-1].loss < 0.8 * losses[0].loss
    for event in losses:
        assert len(event.levels) == len(event.level_losses) == len(event.training_level_losses) == 4
        assert event.loss == pytest.approx(sum(event.level_losses) / 4) and event.training_loss is not None
    finished, verdict = run.events()[0][-1], events_of(run, RunVerdict)[-1]
    diversity = events_of(run, RunDiversity)[-1]
    assert isinstance(diversity, RunDiversity) and diversity.spread > 0 and diversity.vendi >= 1
    assert isinstance(finished, RunFinished) and isinstance(verdict, RunVerdict)
    assert (finished.outcome, finished.verdict) == (verdict.outcome, verdict.sentence) and len(verdict.evidence) >= 3
    (sheet,) = [event for event in events_of(run, RunSamples) if event.step == 60]
    assert isinstance(sheet, RunSamples) and len(sheet.nearest) == len(sheet.ratios) == len(sheet.prompts)
    assert all((folder / path).is_file() for path in sheet.nearest)


def test_the_same_recipe_is_the_same_run(folder: Path, recipe_file: str, tmp_path: Path) -> None:
    first, second = (train(tmp_path / name, folder, recipe=recipe_file) for name in ("first", "second"))
    assert_same(first, second)


@pytest.mark.parametrize(
    ("optimiser", "curve"), [(OptimiserName.MUON, ()), (OptimiserName.ADAMW, (0.0, 9.0, 0.3, 1.0, 1.0, -7.0))]
)
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(
    optimiser: OptimiserName, curve: tuple[float, ...], folder: Path, recipe: Recipe, tmp_path: Path
) -> None:
    recipe = replace(recipe, optimiser=OptimiserRecipe(name=optimiser, warm_up_steps=5))
    if curve:
        drawn = replace(recipe.objective, noise_levels=NoiseLevelsName.CURVE, noise_curve=curve)
        recipe = replace(recipe, objective=drawn)
    recipe.write(tmp_path / "recipe.toml")
    whole = train(tmp_path / "whole", folder, recipe=str(tmp_path / "recipe.toml"))
    path = tmp_path / "halves"
    halves = train(
        path,
        folder,
        recipe=str(tmp_path / "recipe.toml"),
        on_event=at_step(4, lambda: RunFolder(path).send(Command.STOP)),
    )
    stopped = halves.events()[0][-1]
    assert isinstance(stopped, RunStopped) and 4 <= stopped.step < 12
    assert halves.latest_checkpoint.is_file()
    train(path, resume=True)
    assert isinstance(halves.events()[0][-1], RunFinished)
    assert_same(whole, halves)
    if curve:  # the checkpoint says what it was trained with
        header = read_checkpoint(halves.latest_checkpoint).json("recipe")
        assert TrainingLevels.from_recipe(header) == TrainingLevels("curve", curve=NoiseCurve.from_pairs(curve))


def test_a_run_of_two_levels_is_resumed_to_the_bit_and_its_checkpoint_has_both(
    folder: Path, recipe: Recipe, tmp_path: Path
) -> None:
    two = replace(recipe, upper=UpperRecipe(2, 8, 2, 16, 32, 1, 2, 32, sample_steps=2))
    two.write(tmp_path / "two.toml")
    whole = train(tmp_path / "whole", folder, recipe=str(tmp_path / "two.toml"))
    run = tmp_path / "run"
    stop = at_step(4, lambda: RunFolder(run).send(Command.STOP))
    train(run, folder, recipe=str(tmp_path / "two.toml"), on_event=stop)
    part = train(run, resume=True)
    assert_same(whole, part)
    measured = [event for event in events_of(part, RunHeldOut) if isinstance(event, RunHeldOut)]
    assert [event.upper_loss for event in measured] == [
        event.upper_loss for event in events_of(whole, RunHeldOut) if isinstance(event, RunHeldOut)
    ]
    assert all(event.upper_loss is not None for event in measured)
    sheet = events_of(part, RunSamples)[-1]
    assert isinstance(sheet, RunSamples) and sheet.size == 32
    with Image.open(part.path / sheet.ema) as image:
        assert image.size == (64, 32)
    about = read_checkpoint(part.latest_checkpoint)
    assert (about.width, about.upper_factor, about.json("format")) == (32, 2, 3)
    network = pixel_file.load(about).network
    assert isinstance(network, CascadedTransformer) and network.upper_config.sample_steps == 2
    replace(part.recipe(), upper=UpperRecipe()).write(part.recipe_file)
    with pytest.raises(RunProblem, match="upper.factor was changed after the run had started"):
        train(run, resume=True)


def test_a_killed_run_goes_on_from_its_last_state(folder: Path, recipe_file: str, tmp_path: Path) -> None:
    """Killed after step 4's state was written, with steps done since, as `kill -9` leaves it."""

    class Killed(BaseException):
        pass

    def kill(event: RunEvent) -> None:
        if isinstance(event, RunSamples):  # at step 6; the last state is from step 4
            raise Killed

    path = tmp_path / "killed"
    with pytest.raises(Killed):
        train(path, folder, recipe=recipe_file, on_event=kill)
    with (path / "events.jsonl").open("a") as file:
        file.write('{"event": "ste')  # and in the middle of a line
    run = train(path, resume=True)
    resumed = events_of(run, RunStarted)[-1]
    assert isinstance(resumed, RunStarted) and resumed.step == 4
    assert_same(train(tmp_path / "whole", folder, recipe=recipe_file), run)


def test_pause_gives_up_the_accelerator_and_goes_on(folder: Path, recipe_file: str, tmp_path: Path) -> None:
    path, freed = tmp_path / "run", []

    def on_event(event: RunEvent) -> None:
        match event:
            case RunCheckpoint(step=4):
                RunFolder(path).send(Command.PAUSE)
            case RunPaused():
                freed.append(Lease().holder())
                threading.Timer(0.2, lambda: RunFolder(path).send(Command.RUN)).start()

    run = train(path, folder, recipe=recipe_file, on_event=on_event)
    assert freed == [None]
    assert len(events_of(run, RunPaused)) == len(events_of(run, RunResumed)) == 1
    assert isinstance(run.events()[0][-1], RunFinished)
    assert_same(train(tmp_path / "whole", folder, recipe=recipe_file), run)


def test_a_run_stopped_while_it_is_paused_is_not_resumed(folder: Path, recipe_file: str, tmp_path: Path) -> None:
    path = tmp_path / "run"

    def on_event(event: RunEvent) -> None:
        match event:
            case RunCheckpoint(step=4):
                RunFolder(path).send(Command.PAUSE)
            case RunPaused():
                threading.Timer(0.2, lambda: RunFolder(path).send(Command.STOP)).start()

    run = train(path, folder, recipe=recipe_file, on_event=on_event)
    assert events_of(run, RunPaused) and not events_of(run, RunResumed)
    assert isinstance(run.events()[0][-1], RunStopped)


def test_steps_aside_for_pictures(folder: Path, recipe_file: str, tmp_path: Path) -> None:
    pictures = Lease()
    made, waiting = threading.Event(), threading.Event()

    def make_pictures() -> None:
        with pictures.held("pictures", priority=True):
            made.set()
            waiting.wait(10)

    maker = threading.Thread(target=make_pictures)

    def on_event(event: RunEvent) -> None:
        match event:
            case RunCheckpoint(step=4):
                maker.start()
                while not made.wait(0.001) and Lease().waits_for() != "pictures":  # named just after it is locked
                    pass
            case RunWaiting():
                threading.Thread(target=lambda: (made.wait(10), waiting.set())).start()

    run = train(tmp_path / "run", folder, recipe=recipe_file, on_event=on_event)
    maker.join(10)
    assert made.is_set() and isinstance(run.events()[0][-1], RunFinished)
    (waited,) = events_of(run, RunWaiting)
    assert waited.holder == "pictures"  # not the run itself, which still has the accelerator when it says so


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_stopped_while_it_waits_for_the_accelerator_is_stopped_not_failed(
    folder: Path, recipe_file: str, tmp_path: Path, resume: bool
) -> None:
    path = tmp_path / "run"
    if resume:
        train(path, folder, recipe=recipe_file, on_event=at_step(4, lambda: RunFolder(path).send(Command.STOP)))
    stopped_at = RunFolder(path).events()[0][-1].step if resume else 0

    def on_event(event: RunEvent) -> None:
        if isinstance(event, RunStarted):
            threading.Timer(0.2, lambda: RunFolder(path).send(Command.STOP)).start()

    with Lease().held("pictures", priority=True):
        run = train(path, None if resume else folder, recipe=recipe_file, resume=resume, on_event=on_event)
        assert Lease().holder() == "pictures"
    assert run.events()[0][-1] == RunStopped(stopped_at) and not events_of(run, RunFailed)
    resumed = train(path, resume=True)
    assert isinstance(resumed.events()[0][-1], RunFinished)
    assert_same(train(tmp_path / "whole", folder, recipe=recipe_file), resumed)


def test_a_diverging_run_goes_back_once_then_stops_and_says_so(
    folder: Path, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "MOST_ROLL_BACKS", 1)
    wild = OptimiserRecipe(name=OptimiserName.ADAM, learning_rate=10.0, warm_up_steps=0, clip_norm=1e3)
    replace(with_steps(recipe, 200), optimiser=wild).write(tmp_path / "wild.toml")
    with pytest.raises(Diverged, match="lower learning rate"):
        train(tmp_path / "run", folder, recipe=str(tmp_path / "wild.toml"))
    run = RunFolder(tmp_path / "run")
    assert isinstance(run.events()[0][-1], RunFailed)
    (back,) = events_of(run, RunRolledBack)
    assert isinstance(back, RunRolledBack) and back.rate_scale == 0.5 and back.step < back.from_step
    assert "continues from step" in back.why


def test_a_clock_that_is_set_while_it_trains_changes_nothing(
    folder: Path, recipe_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    year, now = 365 * 86_400.0, time.time
    jumps = itertools.cycle((year, -year, 0.0))
    monkeypatch.setattr(time, "time", lambda: now() + next(jumps))
    stopped = train(tmp_path / "run", folder, recipe=recipe_file, on_event=at_step(4, lambda: stop(tmp_path / "run")))
    run = train(stopped.path, None, resume=True)
    assert isinstance(run.events()[0][-1], RunFinished)
    steps = [event for event in events_of(run, RunStep) if isinstance(event, RunStep)]
    assert [event.step for event in steps] == sorted(event.step for event in steps)
    assert all(0 < event.elapsed_seconds < 3600 and 0 <= event.left_seconds < 3600 for event in steps)
    assert all(0 < event.images_per_second < 1e6 for event in steps)


def stop(path: Path) -> None:
    RunFolder(path).send(Command.STOP)


def test_minutes_are_a_deadline_also_for_a_resumed_run(folder: Path, recipe: Recipe, tmp_path: Path) -> None:
    """Stopped after a third of six seconds, and resumed: its time goes on, and its learning rate falls to nothing."""
    recipe.write(tmp_path / "recipe.toml")
    path = tmp_path / "run"

    def stop_early(event: RunEvent) -> None:
        if isinstance(event, RunStep) and event.elapsed_seconds > 2:
            RunFolder(path).send(Command.STOP)

    run = train(path, folder, recipe=str(tmp_path / "recipe.toml"), minutes=0.1, on_event=stop_early)
    resolved = run.recipe().run
    assert (resolved.schedule, resolved.minutes, resolved.dtype, resolved.device) == ("time", 0.1, "float32", "cpu")
    assert isinstance(run.events()[0][-1], RunStopped)
    time.sleep(0.5)  # does not count
    train(path, resume=True)
    steps = [event for event in events_of(run, RunStep) if isinstance(event, RunStep)]
    assert [event.elapsed_seconds for event in steps] == sorted(event.elapsed_seconds for event in steps)
    assert 3 < steps[-1].elapsed_seconds < 60 and steps[-1].step >= 20
    assert steps[-1].progress == 1 and isinstance(run.events()[0][-1], RunFinished)
    assert steps[-1].learning_rate < 0.3 * max(event.learning_rate for event in steps)
    halves = [event for event in run.events()[0] if isinstance(event, RunStarted)]
    assert halves[1].step >= 1 and halves[1].minutes == 0.1


def test_the_clock_stands_while_image_jobs_have_the_accelerator(
    folder: Path, recipe_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two calls of the network for a sample sheet, as between two steps."""
    runs: list[Training] = []
    real, gaps = Training.__init__, list[float]()

    def begin(self: Training, *args: Any) -> None:
        runs.append(self)
        real(self, *args)

    def lend(_: CommandListener) -> None:
        before = runs[0].clock.elapsed_seconds
        time.sleep(0.002)
        gaps.append(runs[0].clock.elapsed_seconds - before)

    monkeypatch.setattr(Training, "__init__", begin)
    monkeypatch.setattr(CommandListener, "check_between_calls", lend)
    train(tmp_path / "run", folder, recipe=recipe_file)
    assert len(gaps) > 4 and set(gaps) == {0.0}


def test_a_time_that_is_over_at_once_still_trains_one_step(folder: Path, recipe_file: str, tmp_path: Path) -> None:
    run = train(tmp_path / "run", folder, recipe=recipe_file, minutes=1e-6)
    last = events_of(run, RunStep)[-1]
    assert isinstance(last, RunStep) and last.step == 1 and last.learning_rate > 0


def test_classes_from_sub_folders_without_captions(folder: Path, recipe_file: str, tmp_path: Path) -> None:
    for caption in folder.rglob("*.txt"):
        caption.unlink()
    run = train(tmp_path / "run", folder, recipe=recipe_file)
    about = read_checkpoint(run.latest_checkpoint)
    assert about.conditioning is Conditioning.CLASS and about.classes == ("disc", "square")


def test_nothing_to_be_told(folder: Path, recipe_file: str, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for index, picture in enumerate(sorted(folder.rglob("*.png"))[:6]):
        picture.rename(flat / f"{index}.png")
    run = train(tmp_path / "run", flat, recipe=recipe_file)
    assert read_checkpoint(run.latest_checkpoint).conditioning is Conditioning.NONE
    finished = run.events()[0][-1]
    assert isinstance(finished, RunFinished) and not finished.learned
    assert "6 different images" in finished.verdict or "copies" in finished.verdict


def test_a_run_is_not_written_over(folder: Path, recipe_file: str, tmp_path: Path) -> None:
    train(tmp_path / "run", folder, recipe=recipe_file, steps=2)
    with pytest.raises(RunProblem, match="already"):
        train(tmp_path / "run", folder, recipe=recipe_file)


def test_no_folder_and_no_run(tmp_path: Path, recipe_file: str) -> None:
    with pytest.raises(FolderProblem):
        train(tmp_path / "run", tmp_path / "nowhere", recipe=recipe_file)
    with pytest.raises(RunProblem):
        train(tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()


def test_a_damaged_state_is_told(folder: Path, recipe_file: str, tmp_path: Path) -> None:
    run = train(tmp_path / "run", folder, recipe=recipe_file)
    run.state_file.write_bytes(b"not a state")
    with pytest.raises(RunProblem, match="cannot be read"):
        train(run.path, resume=True)


def test_the_cache_is_the_programs_own(folder: Path, recipe_file: str, tmp_path: Path) -> None:
    before = sorted(file for file in folder.rglob("*"))
    train(tmp_path / "run", folder, recipe=recipe_file, steps=2)
    assert sorted(file for file in folder.rglob("*")) == before
    assert list((paths.prepared_images()).glob("*.npy"))


def test_a_sample_sheet_is_never_too_large_to_be_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.zeros(3, 3, 8, 8)
    images[0] = 1.0
    whole = sample_sheets.image_grid(images, 2)
    assert whole.size == (16, 16) and whole.getpixel((3, 3)) == (255, 255, 255)
    monkeypatch.setattr(sample_sheets, "LARGEST_PIXELS", 150)
    small = sample_sheets.image_grid(images, 2)
    assert small.size == (12, 12) and small.getpixel((2, 2)) == (255, 255, 255) and small.getpixel((8, 2))[0] == 128
    sample_sheets.write_sheet(small, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.info["srgb"] == 0


def test_files_that_are_left_out_are_named_when_the_run_starts(folder: Path, recipe_file: str, tmp_path: Path) -> None:
    (folder / "disc" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "disc" / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Image.new("RGB", (8, 8)).save(folder / "disc" / "tiny.png")
    (folder / "disc" / "00.txt").write_bytes(b"\xff\xfe\x00")
    run = train(tmp_path / "run", folder, recipe=recipe_file, steps=1)
    (started,) = events_of(run, RunStarted)
    assert isinstance(started, RunStarted)
    assert "Left out because they cannot be read: 2 (disc/broken.png: " in started.why
    assert "Left out because they are too small: 1 (disc/tiny.png: too small to train on)." in started.why
    assert "Captions not used, or not completely: 1 (disc/00.txt: it is not text in UTF-8)." in started.why
    named = [path for found in json.loads(run.folder_file.read_text())["findings"] for path in found["paths"]]
    assert {"disc/broken.png", "disc/cut.png", "disc/tiny.png", "disc/00.txt"} <= set(named)
    train(run.path, resume=True)
    resumed = events_of(run, RunStarted)[-1]
    assert isinstance(resumed, RunStarted) and "too small: 1" in resumed.why


def test_the_best_checkpoint_is_the_latest_and_others_are_kept_evenly_spaced(
    folder: Path, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its held-out loss is lowest at step 6 of 24, and rises from there."""

    def measured(trainer: Trainer, batches: Batches) -> FixedLosses:
        loss = 0.2 + 0.01 * abs(trainer.step_number - 6)
        return FixedLosses((0.5,), (loss,), (0.1,), loss)

    monkeypatch.setattr(Trainer, "fixed_losses", measured)
    run_recipe = replace(
        recipe.run, steps=24, checkpoint_every=2, held_out_every=2, sample_every=24, keep_checkpoints=3
    )
    replace(recipe, run=run_recipe).write(tmp_path / "recipe.toml")
    run = train(tmp_path / "run", folder, recipe=str(tmp_path / "recipe.toml"))
    assert run.latest_checkpoint.read_bytes() == run.checkpoint(6).read_bytes()
    assert read_checkpoint(run.latest_checkpoint).json("run")["steps"] == 6
    kept = sorted(int(path.stem) for path in (run.path / "checkpoints").glob("0*.safetensors"))
    assert len(kept) == 5 and {6, 24} <= set(kept) and max(b - a for a, b in itertools.pairwise(kept)) <= 10
    saved = [event for event in events_of(run, RunCheckpoint) if isinstance(event, RunCheckpoint)]
    assert [event.step for event in saved if event.best] == [2, 4, 6]
    finished = run.events()[0][-1]
    assert isinstance(finished, RunFinished) and finished.best_step == 6


def test_the_spacing_of_kept_checkpoints_stays_even_however_long_a_run_is() -> None:
    files: list[Path] = []
    for step in range(10, 2001, 10):
        files.append(Path(f"{step:08d}.safetensors"))
        gone = to_delete(files, {files[-1]}, 5)
        files = [file for file in files if file not in gone]
    steps = [int(file.stem) for file in files]
    assert len(steps) == 6 and steps[-1] == 2000
    assert max(b - a for a, b in itertools.pairwise([0, *steps])) <= 3 * 2000 / 6


def test_a_second_run_waits_for_the_first_and_says_so(folder: Path, recipe_file: str, tmp_path: Path) -> None:
    first = training_turn()

    def on_event(event: RunEvent) -> None:
        if isinstance(event, RunWaiting):
            first.release()

    first.acquire("training the first")
    run = train(tmp_path / "run", folder, recipe=recipe_file, on_event=on_event)
    (waiting,) = events_of(run, RunWaiting)
    assert waiting == RunWaiting(0, "training the first") and isinstance(run.events()[0][-1], RunFinished)
    assert training_turn().holder() is None


def test_samples_with_prompts_of_ones_own_and_checkpoints_are_made_when_asked_for(
    folder: Path, recipe: Recipe, tmp_path: Path
) -> None:
    quiet = replace(recipe.run, steps=40, sample_every=40, checkpoint_every=40, held_out_every=40)
    replace(recipe, run=quiet).write(tmp_path / "recipe.toml")
    path, asked = tmp_path / "run", []

    def on_event(event: RunEvent) -> None:
        if isinstance(event, RunStarted):
            RunFolder(path).ask_for(RunRequest.SAMPLE, ["red disc", "blue square", "disc"])
        elif isinstance(event, RunSamples) and not asked:
            asked.append(event)
            RunFolder(path).ask_for(RunRequest.SAVE)

    run = train(path, folder, recipe=str(tmp_path / "recipe.toml"), on_event=on_event)
    assert [event.step for event in events_of(run, RunHeldOut)] == [40]  # type: ignore[attr-defined]
    state = torch.load(run.state_file, weights_only=True)
    assert [step for step, _ in state["held_out_losses"]] == [40], "a measurement that nobody asked for"
    sheets = [event for event in events_of(run, RunSamples) if isinstance(event, RunSamples)]
    assert [len(sheet.prompts) for sheet in sheets] == [3, 3] and sheets[0].step < 40
    saved = [event.step for event in events_of(run, RunCheckpoint)]
    assert len(saved) == 2 and saved[0] < 40 and saved[1] == 40

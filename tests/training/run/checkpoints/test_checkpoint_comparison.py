"""Which checkpoint a run keeps, once its held-out loss and its images disagree."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffstudio.diffusion.objectives.parameterisation import Prediction
from diffstudio.errors import CheckpointMissing
from diffstudio.models.families import pixel_file
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.recommended import min_timestep_of
from diffstudio.training.data.batches import Batches
from diffstudio.training.loop import train
from diffstudio.training.objectives.objective import FixedLosses
from diffstudio.training.recipe import OptimiserRecipe, Recipe, RunRecipe
from diffstudio.training.recipe.optimiser_recipe import DecayName
from diffstudio.training.recipe.recipe import MIN_TIMESTEP
from diffstudio.training.run.checkpoints import checkpoint_comparison
from diffstudio.training.run.checkpoints.checkpoint_comparison import CheckpointComparison, images_to_compare
from diffstudio.training.run.events import (
    RunCheckpointChosen,
    RunComparing,
    RunEarlyDecay,
    RunEarlyStop,
    RunEvent,
    RunFinished,
    RunPaused,
    RunStep,
    RunVerdict,
)
from diffstudio.training.run.run_folder import Command, RunFolder
from diffstudio.training.trainer import Trainer
from tests.training.conftest import with_steps, write_pictures


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "many", count=60)


@pytest.fixture
def long(recipe: Recipe) -> Recipe:
    """Enough steps to leave its noise behind, 4 of them before the first checkpoint; 24 images held out."""
    recipe = with_steps(replace(recipe, data=replace(recipe.data, held_out=0.4)), 80)
    return replace(recipe, run=replace(recipe.run, sample_min_timestep=0.0))


@pytest.fixture(autouse=True)
def lowest_at_step_4(monkeypatch: pytest.MonkeyPatch) -> None:
    """A held-out loss that only rises; and few images to compare."""
    real = Trainer.fixed_losses

    def rising(trainer: Trainer, batches: Batches) -> FixedLosses | None:
        losses = real(trainer, batches)
        return None if losses is None else replace(losses, loss=0.1 + trainer.step_number / 1000)

    monkeypatch.setattr(Trainer, "fixed_losses", rising)
    monkeypatch.setattr(checkpoint_comparison, "FEWEST_IMAGES", 8)


def trained(
    recipe: Recipe, pictures: Path, path: Path, on_event: Callable[[RunEvent], None] | None = None
) -> RunFolder:
    recipe.write(path.with_suffix(".toml"))
    return train(path, pictures, recipe=str(path.with_suffix(".toml")), on_event=on_event or (lambda _: None))


def events_of(run: RunFolder, kind: type[RunEvent]) -> list[RunEvent]:
    return [event for event in run.events()[0] if isinstance(event, kind)]


def test_the_last_checkpoint_is_kept_where_its_images_are_nearer(long: Recipe, pictures: Path, tmp_path: Path) -> None:
    run = trained(long, pictures, tmp_path / "run")
    (chosen,) = events_of(run, RunCheckpointChosen)
    assert isinstance(chosen, RunCheckpointChosen) and chosen.steps == (4, 80) and chosen.images >= 8
    assert chosen.chosen == 80 and chosen.distances[1] < chosen.distances[0]
    progress = [(event.done, event.images) for event in run.events()[0] if isinstance(event, RunComparing)]
    total = 2 * chosen.images
    assert progress[0] == (0, total) and progress[-1] == (total, total) and progress == sorted(progress)
    assert pixel_file.trained_steps(run.latest_checkpoint) == 80
    assert run.latest_checkpoint.read_bytes() == run.checkpoint(80).read_bytes() and run.checkpoint(4).is_file()
    finished, verdicts = run.events()[0][-1], events_of(run, RunVerdict)
    assert isinstance(finished, RunFinished) and finished.best_step == 80 and chosen.why in finished.evidence
    assert isinstance(verdicts[-1], RunVerdict) and verdicts[-1].best_step == 80


def test_a_finished_run_that_is_resumed_does_not_compare_again(
    long: Recipe, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained(long, pictures, tmp_path / "run")
    before = run.events()[0][-1]
    monkeypatch.setattr(CheckpointComparison, "choose", lambda *_: pytest.fail("compared again"))
    again = train(run.path, resume=True).events()[0][-1]
    assert isinstance(before, RunFinished) and isinstance(again, RunFinished) and again.best_step == 80
    assert again.verdict == before.verdict and len(events_of(run, RunCheckpointChosen)) == 1


def test_a_run_that_goes_on_compares_with_the_one_it_kept(long: Recipe, pictures: Path, tmp_path: Path) -> None:
    run = trained(long, pictures, tmp_path / "run")
    train(run.path, resume=True, steps=80)
    chosen = events_of(run, RunCheckpointChosen)[-1]
    assert isinstance(chosen, RunCheckpointChosen) and chosen.step == 160 and chosen.steps == (4, 80, 160)


def test_a_continued_run_that_compares_nothing_keeps_the_one_it_has(
    long: Recipe, pictures: Path, tmp_path: Path
) -> None:
    run = trained(long, pictures, tmp_path / "run")
    train(run.path, resume=True, steps=2)
    finished = run.events()[0][-1]
    assert isinstance(finished, RunFinished) and finished.step == 82 and finished.best_step == 80
    assert pixel_file.trained_steps(run.latest_checkpoint) == 80
    assert all(event.best_step == 80 for event in events_of(run, RunVerdict)[-2:])  # type: ignore[union-attr]


def test_without_the_feature_network_the_lowest_loss_decides_and_it_is_said(
    long: Recipe, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_: object) -> None:
        raise CheckpointMissing("The network that images are compared with is missing", "it cannot be read")

    monkeypatch.setattr(checkpoint_comparison, "imagenet_network", missing)
    run = trained(long, pictures, tmp_path / "run")
    (chosen,) = events_of(run, RunCheckpointChosen)
    assert isinstance(chosen, RunCheckpointChosen) and chosen.chosen == 4 and not chosen.steps
    assert "images could not be compared" in chosen.why and "is missing" in chosen.why
    assert pixel_file.trained_steps(run.latest_checkpoint) == 4
    assert isinstance(run.events()[0][-1], RunFinished)


@pytest.mark.parametrize("batches", [0, 1])
@pytest.mark.parametrize("command", [Command.STOP, Command.PAUSE])
def test_a_stop_while_they_are_compared_leaves_the_lowest_loss_and_a_pause_waits(
    command: Command, batches: int, long: Recipe, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, path, asked = CheckpointComparison._draw, tmp_path / "run", list[Command]()

    def interrupted(comparison: CheckpointComparison, *arguments: Any) -> Iterator[Tensor]:
        for number, images in enumerate(chain([None], real(comparison, *arguments))):
            if images is not None:
                yield images
            if number == batches and not asked:
                asked.append(command)
                RunFolder(path).send(command)
                time.sleep(0.2)  # until the control file is read again

    def go_on(event: RunEvent) -> None:
        if isinstance(event, RunPaused):
            RunFolder(path).send(Command.RUN)

    monkeypatch.setattr(CheckpointComparison, "_draw", interrupted)
    run = trained(long, pictures, path, go_on)
    finished = run.events()[0][-1]
    kept = 4 if command is Command.STOP else 80
    assert isinstance(finished, RunFinished) and finished.best_step == kept
    (chosen,) = events_of(run, RunCheckpointChosen)
    assert isinstance(chosen, RunCheckpointChosen) and chosen.chosen == kept
    assert bool(chosen.steps) == (command is Command.PAUSE) == ("was stopped" not in chosen.why)
    assert pixel_file.trained_steps(run.latest_checkpoint) == kept


def test_a_pause_while_they_are_compared_does_not_count_as_training(
    long: Recipe, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, paused_at = tmp_path / "run", list[float]()

    def elapsed() -> float:
        return float(torch.load(RunFolder(path).state_file, weights_only=True)["elapsed_seconds"])

    def paused(comparison: CheckpointComparison, *arguments: Any) -> Iterator[Tensor]:
        RunFolder(path).send(Command.PAUSE)
        time.sleep(0.2)  # until the control file is read again
        return real(comparison, *arguments)

    def stop_later(event: RunEvent) -> None:
        if isinstance(event, RunPaused):
            paused_at.append(elapsed())
            time.sleep(0.5)
            RunFolder(path).send(Command.STOP)

    real = CheckpointComparison._draw
    monkeypatch.setattr(CheckpointComparison, "_draw", paused)
    trained(long, pictures, path, stop_later)
    assert [elapsed()] == pytest.approx(paused_at, abs=0.1)


def test_the_learning_rate_falls_early_where_the_loss_no_longer_does(
    long: Recipe, pictures: Path, tmp_path: Path
) -> None:
    """Of six seconds: after two measurements that are no better, it falls over the rest of a shorter run."""
    recipe = replace(long, run=replace(long.run, minutes=0.1, schedule="time", patience=2))
    run = trained(recipe, pictures, tmp_path / "run")
    (decision,) = events_of(run, RunEarlyDecay)
    assert isinstance(decision, RunEarlyDecay) and "and the learning rate falls until then" in decision.why
    steps = [event for event in events_of(run, RunStep) if isinstance(event, RunStep)]
    assert not events_of(run, RunEarlyStop) and steps[-1].progress == 1
    rates = [event.learning_rate for event in steps]
    assert rates[-1] < 0.3 * max(rates) and steps[-1].step > decision.step
    assert "of 0.1 minutes" in decision.why and steps[-1].elapsed_seconds < 6


def test_a_constant_rate_ends_at_once(long: Recipe, pictures: Path, tmp_path: Path) -> None:
    constant = OptimiserRecipe(warm_up_steps=5, ema=0.9, decay=DecayName.CONSTANT)
    recipe = replace(long, optimiser=constant, run=replace(long.run, minutes=0.1, schedule="time", patience=2))
    run = trained(recipe, pictures, tmp_path / "run")
    (stop,) = events_of(run, RunEarlyStop)
    assert isinstance(stop, RunEarlyStop) and stop.why.startswith("Ended early: the held-out loss was lowest at step")
    assert not events_of(run, RunEarlyDecay)


@pytest.mark.parametrize(
    ("steps", "guidance", "images"), [(3_500, 3.0, 256), (800, 3.0, 96), (500, 3.0, 0), (550, 1.0, 132)]
)
def test_a_short_run_compares_fewer_images_or_none(
    steps: int, guidance: float, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A twentieth of its calculations for the images of two checkpoints."""
    monkeypatch.setattr(checkpoint_comparison, "FEWEST_IMAGES", 64)
    assert images_to_compare(RunRecipe(batch=32, sample_steps=10, sample_guidance=guidance), steps) == images


def with_last_call_early(run: RunRecipe) -> RunRecipe:
    """Three sampling steps, the last of them at hardly any noise, and time to compare three sets of images."""
    return replace(run, sample_min_timestep=-1.0, sample_steps=3, steps=120)


@pytest.mark.parametrize(("better_with", "prediction"), [(True, Prediction.X0), (False, Prediction.VELOCITY)])
def test_images_choose_the_minimum_timestep(
    better_with: bool,
    prediction: Prediction,
    long: Recipe,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, seen = CheckpointComparison._draw, list[tuple[str, float]]()

    def drawn(
        comparison: CheckpointComparison, file: Path, prompts: Any, minimum: float, before_call: Any
    ) -> Iterator[Tensor]:
        seen.append((file.stem, minimum))
        for images in real(comparison, file, prompts, minimum, before_call):
            yield images if (minimum > 0) == better_with else torch.full_like(images, -1.0)

    monkeypatch.setattr(CheckpointComparison, "_draw", drawn)
    first, other = (0.0, MIN_TIMESTEP) if prediction is Prediction.X0 else (MIN_TIMESTEP, 0.0)
    objective, settings = replace(long.objective, prediction=prediction), with_last_call_early(long.run)
    run = trained(replace(long, objective=objective, run=settings), pictures, tmp_path / "run")
    (chosen,) = events_of(run, RunCheckpointChosen)
    assert isinstance(chosen, RunCheckpointChosen) and len(chosen.steps) == 3
    assert {minimum for _, minimum in seen[:2]} == {first} and seen[2] in [(name, other) for name, _ in seen[:2]]
    assert chosen.min_timestep == (MIN_TIMESTEP if better_with else 0)
    assert f"is kept with a minimum timestep of {chosen.min_timestep:g}" in chosen.why
    for file in (run.latest_checkpoint, run.checkpoint(chosen.chosen)):
        assert min_timestep_of(read_checkpoint(file)) == chosen.min_timestep
    assert run.latest_checkpoint.read_bytes() == run.checkpoint(chosen.chosen).read_bytes()
    progress = [(event.done, event.images) for event in run.events()[0] if isinstance(event, RunComparing)]
    assert progress[0][0] == 0 and progress[-1][0] == progress[-1][1] == 3 * chosen.images
    again = train(run.path, resume=True).events()[0][-1]
    assert isinstance(again, RunFinished) and chosen.why in again.evidence and len(seen) == 3


def test_a_last_checkpoint_with_the_lowest_loss_is_compared_with_itself(
    long: Recipe, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the minimum timestep is chosen, and the verdict says of the checkpoint what the loss says."""
    real = Trainer.fixed_losses

    def falling(trainer: Trainer, batches: Batches) -> FixedLosses | None:
        losses = real(trainer, batches)
        return None if losses is None else replace(losses, loss=1 - trainer.step_number / 1000)

    monkeypatch.setattr(Trainer, "fixed_losses", falling)
    run = trained(replace(long, run=with_last_call_early(long.run)), pictures, tmp_path / "run")
    (chosen,) = events_of(run, RunCheckpointChosen)
    assert isinstance(chosen, RunCheckpointChosen) and chosen.steps == (120, 120) and chosen.chosen == 120
    assert chosen.min_timesteps == (0, MIN_TIMESTEP)
    assert min_timestep_of(read_checkpoint(run.latest_checkpoint)) == chosen.min_timestep
    assert "it is kept" not in events_of(run, RunVerdict)[-1].sentence  # type: ignore[union-attr]


def test_a_minimum_timestep_that_changes_no_image_is_not_compared(long: Recipe, pictures: Path, tmp_path: Path) -> None:
    """With so few steps every call is later than it."""
    settings = replace(
        long.run, sample_min_timestep=-1.0, sample_steps=4, sample_sampler="euler", sample_spacing="uniform", steps=160
    )
    run = trained(replace(long, run=settings), pictures, tmp_path / "run")
    (chosen,) = events_of(run, RunCheckpointChosen)
    assert isinstance(chosen, RunCheckpointChosen) and chosen.steps == (4, 160) and chosen.min_timesteps == (0, 0)


def test_a_minimum_timestep_is_stored_whatever_the_sampler(long: Recipe, pictures: Path, tmp_path: Path) -> None:
    """Those of version 0.1, whose defaults are replaced by today's, among them."""
    settings = replace(
        long.run, sample_min_timestep=0.3, sample_sampler="heun", sample_spacing="uniform", sample_steps=20, steps=2
    )
    run = trained(replace(long, run=replace(settings, sample_count=1)), pictures, tmp_path / "run")
    assert min_timestep_of(read_checkpoint(run.latest_checkpoint)) == 0.3

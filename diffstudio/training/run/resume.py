"""Resume a run with what it stored, and continue one that has finished."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from diffstudio.errors import FolderProblem, RunProblem
from diffstudio.models.memory.devices import choose_device
from diffstudio.networks.caption_tokenizer import CaptionTokenizer
from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.data.batches import Batches
from diffstudio.training.data.dataset import ImageDataset
from diffstudio.training.preparation.starting_point import starting_point
from diffstudio.training.preparation.stored_dataset import StoredDataset
from diffstudio.training.recipe import Recipe
from diffstudio.training.run.events import RunCrossValidated, RunEarlyStop, RunEvent, RunHeldOut, RunRolledBack, RunStep
from diffstudio.training.run.run_folder import RunFolder
from diffstudio.training.run.setup import (
    START_ANEW,
    RunContext,
    build_trainer,
    cross_validated,
    finish_inspection,
    left_out,
    prepare_dataset,
    train_tokenizer,
)
from diffstudio.training.run.setup_progress import SetupProgress
from diffstudio.training.trainer import Trainer


@dataclass(frozen=True, slots=True)
class Length:
    """How much longer a run is to be trained; nothing: as long as it was meant to be."""

    steps: int | None = None
    minutes: float | None = None

    @property
    def is_given(self) -> bool:
        return self.steps is not None or self.minutes is not None


def resumed_run(
    path: Path, progress: SetupProgress, length: Length = Length(), folder: Path | None = None
) -> RunContext:
    """An existing run with its last state restored. RunProblem if the folder holds no run or its state cannot be read.

    `folder` is where its images are now, if that has changed.
    """
    run = RunFolder.open(path)
    recipe = run.recipe()
    stored = StoredDataset.read(run.dataset_file)
    if folder is not None:
        if stored is not None:
            stored.check_moved(folder)
        run.move_image_folder(folder)
    images = _image_folder(run)
    dataset, sentences = _dataset(run, recipe, stored, images, progress)
    tokenizer = None
    if recipe.network.conditioning is Conditioning.TEXT:
        tokenizer = _stored_tokenizer(run) if run.tokenizer_file.exists() else train_tokenizer(recipe, dataset)
    device = choose_device(recipe.run.device)
    torch.set_num_threads(min(recipe.run.threads or torch.get_num_threads(), os.cpu_count() or 1))
    trainer = build_trainer(recipe, dataset, tokenizer, device)
    state = _restore(run, trainer, tokenizer, dataset)
    events, _ = run.events()
    ended_early = _decisions(trainer, recipe, events, "held_out_losses" not in state)
    why = ["Resumed where it stopped."]
    if length.is_given:
        recipe, ended_early = _continued(run, recipe, trainer, length), False
        trainer.recipe = recipe
        why = [f"Continued from step {trainer.step_number:,}."]
    elif stored is None and trainer.fingerprint not in (None, dataset.file.name):
        why = ["Resumed, but the folder has changed since: the result will differ from that of an uninterrupted run."]
    context = RunContext(
        run,
        recipe,
        dataset,
        tokenizer,
        trainer,
        Batches(dataset, recipe, tokenizer),
        " ".join([*why, *sentences]),
        images,
        state.get("monitor"),
        ended_early,
    )
    chosen = [event for event in events if isinstance(event, RunCrossValidated)]
    if not chosen:
        return context
    context = replace(context, chosen=chosen[-1])
    return cross_validated(context, chosen[-1]) if context.awaits_cross_validation else context


def _image_folder(run: RunFolder) -> Path:
    folder = run.info().get("pictures")
    if not isinstance(folder, str):
        raise RunProblem(run.damaged("run.json"), "the folder of images is missing", "Start a new run")
    return Path(folder)


def _dataset(
    run: RunFolder, recipe: Recipe, stored: StoredDataset | None, folder: Path, progress: SetupProgress
) -> tuple[ImageDataset, list[str]]:
    """What the run was started with, from its prepared images or else from the folder, and what to say about it."""
    if stored is not None:
        stored.check_recipe(recipe)
        progress.raise_if_stopped()
        prepared = stored.open_prepared()
        if prepared is not None:
            return prepared, [*stored.changes(folder), *stored.left_out]
    if not folder.is_dir():
        raise FolderProblem(
            f"The images of the run {run.name} cannot be found",
            f"there is no folder {folder}, and their prepared copies are no longer in the cache",
            "If the folder was moved or renamed, resume the run with the folder that the images are in now",
        )
    report = finish_inspection(folder, progress)
    dataset = prepare_dataset(report, recipe, progress)
    sentences = left_out(report, dataset.skipped, dataset.unfit)
    if stored is None:
        return dataset, sentences
    same = stored.among(dataset)
    if len(same) == len(dataset) == len(stored.paths):
        replace(stored, prepared=dataset.file.name).write(run.dataset_file)
    return same, [*stored.changes(folder, prepared_again=True), *sentences]


def _stored_tokenizer(run: RunFolder) -> CaptionTokenizer:
    try:
        return CaptionTokenizer.from_json(run.tokenizer_file.read_text(encoding="utf-8"))
    except Exception as error:  # noqa: BLE001 - tokenizers raises bare Exception
        raise RunProblem(
            f"The tokenizer of the run {run.name} cannot be read", "its file tokenizer.json is damaged", START_ANEW
        ) from error


def _restore(
    run: RunFolder, trainer: Trainer, tokenizer: CaptionTokenizer | None, dataset: ImageDataset
) -> dict[str, Any]:
    """Load the last state, or the starting weights if there is none yet; returns the state."""
    if not run.state_file.exists():
        if trainer.recipe.run.start_from:
            starting_point(trainer.recipe.run.start_from).load_into(trainer, tokenizer, dataset.classes)
        return {}
    try:
        state: dict[str, Any] = torch.load(run.state_file, map_location=trainer.device, weights_only=True)
        trainer.restore(state)
    except Exception as error:  # noqa: BLE001 - unpickling and loading raise all kinds of errors
        raise RunProblem(
            f"The state of the run {run.name} cannot be read",
            "its file state.pt is damaged or belongs to another network",
            START_ANEW,
        ) from error
    return state


def _decisions(trainer: Trainer, recipe: Recipe, events: list[RunEvent], old_state: bool) -> bool:
    """Follow what was decided before the run was interrupted, by its events; returns whether it was to end early."""
    step = trainer.step_number
    if old_state:
        trainer.held_out_losses = [(event.step, event.loss) for event in events if isinstance(event, RunHeldOut)]
        trainer.held_out_losses = [one for one in trainer.held_out_losses if one[0] <= step]
    backs = [event for event in events if isinstance(event, RunRolledBack) and event.step >= recipe.run.first_step]
    if backs and backs[-1].step <= step:
        trainer.rate_scale = min(trainer.rate_scale, backs[-1].rate_scale)
    if recipe.run.schedule == "time":  # its time is over whether or not its last steps were saved
        spent = (event.elapsed_seconds for event in events if isinstance(event, RunStep))
        trainer.elapsed_seconds = max([trainer.elapsed_seconds, *spent])
    stops = [event.step for event in events if isinstance(event, RunEarlyStop)]
    return bool(stops) and stops[-1] == step > recipe.run.first_step


def _continued(run: RunFolder, recipe: Recipe, trainer: Trainer, length: Length) -> Recipe:
    """The recipe for going on: its schedule starts again at the present step. Written before the first of them."""
    step = trainer.step_number
    settings = replace(
        recipe.run,
        first_step=step,
        first_seconds=trainer.elapsed_seconds,
        schedule="steps" if length.steps is not None else "time",
        steps=step + length.steps if length.steps is not None else recipe.run.steps,
        end_step=step + (length.steps or 0) if recipe.run.end_step else 0,
        minutes=length.minutes or 0.0,
    )
    trainer.progress, trainer.ends_after = 0.0, math.inf
    continued = replace(recipe, run=settings)
    continued.write(run.recipe_file)
    return continued

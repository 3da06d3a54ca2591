"""Setup of a run: from a folder of images and a recipe to everything that training needs.

`auto` is resolved here, once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from diffstudio import paths
from diffstudio.atomic import write_text
from diffstudio.errors import RunProblem, StorageProblem
from diffstudio.models.memory.devices import choose_device
from diffstudio.networks.caption_tokenizer import CaptionTokenizer
from diffstudio.networks.conditioning import Conditioning
from diffstudio.plurals import count_of
from diffstudio.training.data import inspect_folder as inspection
from diffstudio.training.data.batches import Batches
from diffstudio.training.data.dataset import ImageDataset, build_dataset
from diffstudio.training.data.folder_report import FolderReport, Skipped
from diffstudio.training.data.pixel_choice import choose_pixels
from diffstudio.training.data.split import FEWEST_IN_FOLD
from diffstudio.training.few_steps import for_run
from diffstudio.training.preparation.caption_length import fit_text_tokens
from diffstudio.training.preparation.disk_use import check_room
from diffstudio.training.preparation.machine_speed import resolve_dtypes
from diffstudio.training.preparation.starting_point import StartingPoint, starting_point
from diffstudio.training.preparation.stored_dataset import StoredDataset
from diffstudio.training.recipe import Recipe, RunRecipe
from diffstudio.training.recipe_choice import RecipeChoice, check_recipe_name, choose_recipe, without_cross_validation
from diffstudio.training.recipe_from_checkpoint import FROM_SCRATCH, starting_checkpoint
from diffstudio.training.run.events import RunCrossValidated
from diffstudio.training.run.run_folder import RunFolder, already_a_run
from diffstudio.training.run.setup_progress import SetupProgress
from diffstudio.training.trainer import Trainer

START_ANEW = "Start a new run; the checkpoints of this one can still be used"


@dataclass(frozen=True, slots=True)
class RunContext:
    """The objects that a run works with."""

    run: RunFolder
    recipe: Recipe
    dataset: ImageDataset
    tokenizer: CaptionTokenizer | None
    trainer: Trainer
    batches: Batches
    why: str  # the choices made, in a sentence
    folder: Path  # of the images
    monitor: Mapping[str, Any] | None = None  # the state of the monitor of a resumed run
    ended_early: bool = False  # a run that was killed after it had decided so
    chosen: RunCrossValidated | None = None  # the choice of a cross-validation, once it is made

    @property
    def awaits_cross_validation(self) -> bool:
        """Whether a cross-validation has still to choose the steps of the run."""
        return self.recipe.data.cross_splits > 0 and not self.recipe.run.end_step


def new_run(
    path: Path,
    folder: Path,
    recipe_name: str,
    *,
    steps: int | None,
    minutes: float | None,
    start_from: str | None = None,
    alone: bool = True,
    progress: SetupProgress,
) -> RunContext:
    """Inspect `folder`, choose the recipe, measure the speed, and create the run folder at `path`.

    `alone`: one process trains it. Others cannot help with a cross-validation.

    FolderProblem, RunProblem, StorageProblem on failure; Interrupted when it was stopped.
    """
    _check_arguments(path, folder, recipe_name, start_from)
    report = finish_inspection(folder, progress)
    choice = _choice(report, recipe_name, minutes, start_from, alone=alone, cross_validate=alone and steps is None)
    recipe = _with_pixels(_with_length(choice.recipe, steps, minutes), report)
    start = starting_point(recipe.run.start_from) if recipe.run.start_from else None
    if recipe.few_steps.enabled:
        recipe = for_run(recipe, starting_checkpoint(recipe.run.start_from))
    device = choose_device(recipe.run.device)
    dataset = prepare_dataset(report, recipe, progress)
    _check_folds(dataset, recipe)
    tokenizer = _new_tokenizer(recipe, dataset, start)
    if tokenizer is not None and start is not None:  # its words and the folder's
        most = max(recipe.network.vocabulary, tokenizer.vocabulary)
        recipe = replace(recipe, network=replace(recipe.network, vocabulary=most))
    recipe, cut = fit_text_tokens(
        recipe, dataset, tokenizer, fixed=not choice.fits_captions or recipe.few_steps.enabled
    )
    threads = min(recipe.run.threads or torch.get_num_threads(), os.cpu_count() or 1)
    torch.set_num_threads(threads)
    recipe = replace(recipe, run=replace(recipe.run, device=device.type, threads=threads))
    recipe, measured = resolve_dtypes(
        recipe,
        lambda candidate: build_trainer(candidate, dataset, tokenizer, device),
        dataset,
        tokenizer,
        progress.raise_if_stopped,
    )
    trainer = build_trainer(recipe, dataset, tokenizer, device)
    trainer.fingerprint = dataset.file.name
    new = start.load_into(trainer, tokenizer, dataset.classes) if start is not None else ""
    check_room(path, trainer, recipe)
    run = RunFolder.create(path, recipe, folder)
    unused = left_out(report, dataset.skipped, dataset.unfit)
    StoredDataset.of(dataset, recipe, folder, unused).write(run.dataset_file)
    write_text(run.folder_file, json.dumps(report.to_json(dataset.unfit, dataset.skipped), indent=1))
    if tokenizer is not None:
        write_text(run.tokenizer_file, tokenizer.to_json())
    batches = Batches(dataset, recipe, tokenizer)
    found = (f"{of_type.sentence()}." for of_type in report.ranges)
    why = " ".join(filter(None, [choice.why, new, measured, cut, *found, *unused]))
    return RunContext(run, recipe, dataset, tokenizer, trainer, batches, why, folder.resolve())


def _check_arguments(path: Path, folder: Path, recipe_name: str, start_from: str | None) -> None:
    """Say mistakes before the images are inspected."""
    if (path / "recipe.toml").exists():
        raise RunProblem(already_a_run(path), remedy="Resume it, or choose another folder for the run")
    _check_run_path(path, folder)
    check_recipe_name(recipe_name)
    if start_from not in (None, FROM_SCRATCH):
        starting_checkpoint(start_from)


def _choice(
    report: FolderReport,
    recipe_name: str,
    minutes: float | None,
    start_from: str | None,
    *,
    alone: bool,
    cross_validate: bool,
) -> RecipeChoice:
    choice = choose_recipe(
        recipe_name,
        report,
        accelerator=choose_device("auto").type != "cpu",
        minutes=minutes,
        start_from=start_from,
        cross_validate=cross_validate,
    )
    if choice.recipe.data.cross_splits and not alone:
        choice = without_cross_validation(choice, "It is not cross-validated, because several processes train it.")
    return choice


def _new_tokenizer(recipe: Recipe, dataset: ImageDataset, start: StartingPoint | None) -> CaptionTokenizer | None:
    if recipe.network.conditioning is Conditioning.TEXT and start is not None:
        if recipe.few_steps.enabled:
            return start.loaded.tokenizer
        joined = start.tokenizer(dataset.all_captions())
        if joined is not None:
            return joined
    return train_tokenizer(recipe, dataset)


def left_out(report: FolderReport, lost: Sequence[Skipped], unfit: Sequence[Skipped]) -> list[str]:
    """How the subfolders were understood, and a sentence for each kind of file that is not used, or not completely.

    `lost` could not be decoded again; `unfit` have other channels or shapes.
    """
    sentences = [unused.sentence() for unused in report.unused(lost, unfit) if unused.files]
    return [*(f"{note}." for note in report.layout_notes), *sentences]


def _with_pixels(recipe: Recipe, report: FolderReport) -> Recipe:
    """The recipe with the channels, shapes and ranges of the folder's images, so that files added later change nothing."""
    data, _ = choose_pixels(recipe.data, report, recipe.network.multiple, squares=recipe.upper.factor > 0)
    return replace(recipe, data=data)


def _check_run_path(path: Path, folder: Path) -> None:
    """Check the run folder before the images are inspected, which can take minutes."""
    what, remedy = f"The run folder cannot be {str(path)[:200]}", "Choose another folder for the run"
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
        existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    except (OSError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise StorageProblem(what, why, remedy) from error
    if inside and folder.is_dir():
        raise RunProblem(
            what, "it is inside the folder of images, and its samples would be used as training images", remedy
        )
    if not existing.is_dir():
        raise StorageProblem(what, f"{existing} is a file, not a folder", remedy)
    if not os.access(existing, os.W_OK):
        raise StorageProblem(what, f"{existing} is not writable", remedy)


def finish_inspection(folder: Path, progress: SetupProgress) -> FolderReport:
    """The report of `inspect_folder`. Interrupted when the setup is stopped meanwhile."""
    report = inspection.finish_inspection(folder, lambda _: progress.raise_if_stopped())
    progress.raise_if_stopped()
    return report


def prepare_dataset(report: FolderReport, recipe: Recipe, progress: SetupProgress) -> ImageDataset:
    return build_dataset(
        report,
        recipe.prepared,
        paths.prepared_images(),
        on_progress=progress.decoded,
        cancelled=progress.stop_requested,
    )


def train_tokenizer(recipe: Recipe, dataset: ImageDataset) -> CaptionTokenizer | None:
    """A tokenizer for the captions of the dataset; None for a network that reads no text."""
    if recipe.network.conditioning is not Conditioning.TEXT:
        return None
    return CaptionTokenizer.learn(dataset.all_captions(), recipe.network.vocabulary)


def build_trainer(
    recipe: Recipe, dataset: ImageDataset, tokenizer: CaptionTokenizer | None, device: torch.device
) -> Trainer:
    vocabulary = tokenizer.vocabulary if tokenizer is not None else 0
    try:
        return Trainer(recipe, classes=len(dataset.classes), device=device, vocabulary=vocabulary)
    except ValueError as error:
        raise RunProblem("The recipe's network cannot be built", str(error), "Change its sizes") from error


def _check_folds(dataset: ImageDataset, recipe: Recipe) -> None:
    """RunProblem where a fold of the cross-validation would hold out too few images."""
    folds = recipe.data.cross_splits
    held_out = [dataset.folds.count(fold) for fold in range(folds)]
    if folds and min(held_out) < FEWEST_IN_FOLD:
        raise RunProblem(
            f"The images cannot be cross-validated over {folds} folds",
            f"with near-duplicates together, one of them would hold out {count_of(min(held_out), 'image')}",
            "Set data.cross_splits to a smaller number or to 0, or add images",
        )


def cross_validated(context: RunContext, chosen: RunCrossValidated, elapsed_seconds: float = 0.0) -> RunContext:
    """The run with the steps that a cross-validation chose: the first ones of the schedule of its networks."""
    run = with_steps(context.recipe.run, chosen.best_step)
    run = replace(run, schedule="steps", steps=chosen.length, end_step=chosen.best_step)
    recipe = replace(context.recipe, run=run)
    recipe.write(context.run.recipe_file)
    context.run.splits_file.unlink(missing_ok=True)  # last: without it the cross-validation would begin again
    context.trainer.recipe = recipe
    context.trainer.elapsed_seconds = max(context.trainer.elapsed_seconds, elapsed_seconds)
    return replace(context, recipe=recipe, chosen=chosen)


def with_steps(run: RunRecipe, steps: int) -> RunRecipe:
    """The same with this many steps; a short run still gets a few samples, checkpoints and held-out losses."""
    third, sixth = -(-steps // 3), -(-steps // 6)
    return replace(
        run,
        steps=steps,
        sample_every=min(run.sample_every, third),
        checkpoint_every=min(run.checkpoint_every, third),
        held_out_every=min(run.held_out_every, sixth),
    )


def _with_length(recipe: Recipe, steps: int | None, minutes: float | None) -> Recipe:
    """The recipe with the requested length, its own by default."""
    run = recipe.run
    if steps is not None:
        run = replace(with_steps(run, steps), minutes=0.0)
    elif minutes is not None:
        run = replace(run, minutes=minutes)
    run = replace(run, schedule="time" if run.minutes > 0 else "steps", first_step=0, first_seconds=0.0, end_step=0)
    return replace(recipe, run=run)

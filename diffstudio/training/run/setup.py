"""Setup of a run: from a folder of images and a recipe to everything that training needs.

`auto` is resolved here, once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from diffstudio import paths
from diffstudio.atomic import write_text
from diffstudio.errors import RunProblem, StorageProblem
from diffstudio.models.memory.devices import choose_device
from diffstudio.networks.caption_tokenizer import CaptionTokenizer
from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.data.batches import Batches
from diffstudio.training.data.dataset import ImageDataset, build_dataset
from diffstudio.training.data.folder_report import FolderReport, InspectionProgress, Skipped
from diffstudio.training.data.inspect_folder import MIN_SIDE, inspect_folder
from diffstudio.training.data.pixel_choice import choose_pixels
from diffstudio.training.recipe import Recipe, RunRecipe
from diffstudio.training.recipe_choice import check_recipe_name, choose_recipe
from diffstudio.training.run.caption_length import fit_text_tokens
from diffstudio.training.run.run_folder import RunFolder, already_a_run
from diffstudio.training.run.setup_progress import SetupProgress
from diffstudio.training.trainer import Trainer, seconds_per_step

MIN_STEPS = 20
_START_ANEW = "Start a new run; the checkpoints of this one can still be used"


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


def new_run(
    path: Path, folder: Path, recipe_name: str, *, steps: int | None, minutes: float | None, progress: SetupProgress
) -> RunContext:
    """Inspect `folder`, choose the recipe, measure the speed, and create the run folder at `path`.

    FolderProblem, RunProblem, StorageProblem on failure; Interrupted when it was stopped.
    """
    if (path / "recipe.toml").exists():
        raise RunProblem(already_a_run(path), remedy="Resume it with --resume, or choose another folder")
    _check_run_path(path, folder)
    check_recipe_name(recipe_name)
    report = finish_inspection(folder, progress)
    accelerator = choose_device("auto").type != "cpu"
    choice = choose_recipe(recipe_name, report, accelerator=accelerator, minutes=minutes)
    recipe = _with_pixels(_with_length(choice.recipe, steps, minutes), report)
    device = choose_device(recipe.run.device)
    dataset = _build_dataset(report, recipe, progress)
    tokenizer = train_tokenizer(recipe, dataset)
    recipe, cut = fit_text_tokens(recipe, dataset, tokenizer, fixed=not choice.fits_captions)
    threads = min(recipe.run.threads or torch.get_num_threads(), os.cpu_count() or 1)
    torch.set_num_threads(threads)
    recipe = replace(recipe, run=replace(recipe.run, device=device.type, threads=threads))
    recipe, trainer, measured = _resolve_dtype_and_steps(recipe, dataset, tokenizer, device, progress)
    run = RunFolder.create(path, recipe, folder)
    if tokenizer is not None:
        write_text(run.tokenizer_file, tokenizer.to_json())
    batches = Batches(dataset, recipe, tokenizer)
    found = (f"{of_type.sentence()}." for of_type in report.ranges)
    why = " ".join(filter(None, [choice.why, measured, cut, *found, *left_out(report, dataset.skipped, dataset.unfit)]))
    return RunContext(run, recipe, dataset, tokenizer, trainer, batches, why)


def resumed_run(path: Path, progress: SetupProgress) -> RunContext:
    """An existing run with its last state restored. RunProblem if the folder holds no run or its state cannot be read."""
    run = RunFolder.open(path)
    recipe = run.recipe()
    folder = run.info().get("pictures")
    if not isinstance(folder, str):
        raise RunProblem(run.damaged("run.json"), "the folder of images is missing", "Start a new run")
    report = finish_inspection(Path(folder), progress)
    dataset = _build_dataset(report, recipe, progress)
    tokenizer = None
    if recipe.network.conditioning is Conditioning.TEXT:
        tokenizer = _stored_tokenizer(run) if run.tokenizer_file.exists() else train_tokenizer(recipe, dataset)
    device = choose_device(recipe.run.device)
    torch.set_num_threads(recipe.run.threads or torch.get_num_threads())
    trainer = _build_trainer(recipe, dataset, tokenizer, device)
    if run.state_file.exists():
        try:
            trainer.restore(torch.load(run.state_file, map_location=device, weights_only=True))
        except Exception as error:  # noqa: BLE001 - unpickling and loading raise all kinds of errors
            raise RunProblem(
                f"The state of the run {run.name} cannot be read",
                "its file state.pt is damaged or belongs to another network",
                _START_ANEW,
            ) from error
    why = "Resumed where it stopped."
    if trainer.fingerprint not in (None, dataset.file.name):
        why = "Resumed, but the folder has changed since: the result will differ from that of an uninterrupted run."
    why = " ".join([why, *left_out(report, dataset.skipped, dataset.unfit)])
    return RunContext(run, recipe, dataset, tokenizer, trainer, Batches(dataset, recipe, tokenizer), why)


def left_out(report: FolderReport, lost: Sequence[Skipped], unfit: Sequence[Skipped]) -> list[str]:
    """A sentence for each kind of file that is not used, or not completely.

    `lost` could not be decoded again; `unfit` have other channels or shapes.
    """
    small = [Skipped(path, f"below {MIN_SIDE} px") for path in report.too_small]
    kinds = (
        ("Left out because they cannot be read", [*report.skipped, *lost]),
        ("Left out because they are too small", small),
        ("Left out because of their channels or shape", list(unfit)),
        ("Captions not used, or not completely", report.caption_problems),
        ("Used with limits", report.notes),
    )
    return [
        f"{what}: {len(files):,} ({files[0].path}: {files[0].why}{', …' if files[1:] else ''})."
        for what, files in kinds
        if files
    ]


def _with_pixels(recipe: Recipe, report: FolderReport) -> Recipe:
    """The recipe with the channels, shapes and ranges of the folder's images, so that files added later change nothing."""
    data, _ = choose_pixels(recipe.data, report, recipe.network.patch)
    return replace(recipe, data=data)


def _check_run_path(path: Path, folder: Path) -> None:
    """Check the run folder before the images are inspected, which can take minutes."""
    what, remedy = f"The run folder cannot be {str(path)[:200]}", "Choose another folder with --run"
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
    for item in inspect_folder(folder):
        progress.raise_if_stopped()
        if not isinstance(item, InspectionProgress):
            return item
    raise AssertionError("an inspection ends with a report")


def _build_dataset(report: FolderReport, recipe: Recipe, progress: SetupProgress) -> ImageDataset:
    return build_dataset(
        report, recipe.data, paths.cache() / "pictures", on_progress=progress.decoded, cancelled=progress.stop_requested
    )


def train_tokenizer(recipe: Recipe, dataset: ImageDataset) -> CaptionTokenizer | None:
    """A tokenizer for the captions of the dataset; None for a network that reads no text."""
    if recipe.network.conditioning is not Conditioning.TEXT:
        return None
    return CaptionTokenizer.learn(dataset.all_captions(), recipe.network.vocabulary)


def _stored_tokenizer(run: RunFolder) -> CaptionTokenizer:
    try:
        return CaptionTokenizer.from_json(run.tokenizer_file.read_text(encoding="utf-8"))
    except Exception as error:  # noqa: BLE001 - tokenizers raises bare Exception
        raise RunProblem(
            f"The tokenizer of the run {run.name} cannot be read", "its file tokenizer.json is damaged", _START_ANEW
        ) from error


def _build_trainer(
    recipe: Recipe, dataset: ImageDataset, tokenizer: CaptionTokenizer | None, device: torch.device
) -> Trainer:
    vocabulary = tokenizer.vocabulary if tokenizer is not None else 0
    try:
        return Trainer(recipe, classes=len(dataset.classes), device=device, vocabulary=vocabulary)
    except ValueError as error:
        raise RunProblem("The recipe's network cannot be built", str(error), "Change its sizes") from error


def _resolve_dtype_and_steps(
    recipe: Recipe,
    dataset: ImageDataset,
    tokenizer: CaptionTokenizer | None,
    device: torch.device,
    progress: SetupProgress,
) -> tuple[Recipe, Trainer, str]:
    """Resolve `auto` and minutes by timing a few steps: the recipe, its trainer, and the findings in a sentence."""
    candidates = ("float32", "bfloat16") if recipe.run.dtype == "auto" else (recipe.run.dtype,)
    if device.type == "mps":
        candidates = candidates[:1]
    needs_timing = len(candidates) > 1 or recipe.run.minutes > 0
    timed: dict[str, tuple[float, Recipe, Trainer]] = {}
    for dtype in candidates:
        candidate = replace(recipe, run=replace(recipe.run, dtype=dtype))
        trainer = _build_trainer(candidate, dataset, tokenizer, device)
        seconds = 0.0
        if needs_timing:
            seconds = seconds_per_step(trainer, Batches(dataset, candidate, tokenizer), progress.raise_if_stopped)
        timed[dtype] = seconds, candidate, trainer
    seconds, chosen, trainer = min(timed.values(), key=lambda one: one[0])
    sentences = []
    if len(candidates) > 1:
        times = " and ".join(f"{timed[dtype][0]:.2f} s in {dtype}" for dtype in candidates)
        sentences.append(f"{chosen.run.dtype} because a step takes {times}.")
    if chosen.run.minutes > 0:
        steps = max(MIN_STEPS, round(60 * chosen.run.minutes / seconds))
        minutes = f"{chosen.run.minutes:g} minute{'s are' if chosen.run.minutes != 1 else ' is'}"
        sentences.append(f"{minutes} {steps:,} steps.")
        chosen = replace(chosen, run=with_steps(chosen.run, steps))
        trainer = _build_trainer(chosen, dataset, tokenizer, device)
    trainer.fingerprint = dataset.file.name
    return chosen, trainer, " ".join(sentences)


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
        run = replace(run, steps=steps, minutes=0.0)
    elif minutes is not None:
        run = replace(run, minutes=minutes)
    return replace(recipe, run=run)

"""From a folder and a recipe's name to a run folder with everything decided: what is `auto` is resolved here, once."""

from __future__ import annotations

import os
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
from diffstudio.training.data.inspect_folder import FolderReport, InspectionProgress, inspect_folder
from diffstudio.training.recipe import Recipe, RunRecipe
from diffstudio.training.recipe_choice import check_recipe_name, choose_recipe
from diffstudio.training.run.run_folder import RunFolder
from diffstudio.training.run.setup_progress import SetupProgress
from diffstudio.training.trainer import Trainer, seconds_per_step

FEWEST_STEPS = 20


@dataclass(frozen=True, slots=True)
class RunContext:
    """All that a run works with."""

    run: RunFolder
    recipe: Recipe
    dataset: ImageDataset
    tokenizer: CaptionTokenizer | None
    trainer: Trainer
    batches: Batches
    why: str  # the choices made, in a sentence


def new_run(
    path: Path, folder: Path, recipe_name: str, *, steps: int | None, minutes: float | None, preparation: SetupProgress
) -> RunContext:
    """Inspect `folder`, choose_recipe, measure, and write the run folder at `path`.

    FolderProblem, RunProblem, StorageProblem say what is in the way; Interrupted when a stop is asked for meanwhile.
    """
    if (path / "recipe.toml").exists():
        raise RunProblem(
            f"There is a run in {path} already", remedy="Resume it with --resume, or choose another folder"
        )
    _check_place(path, folder)
    check_recipe_name(recipe_name)
    report = inspected(folder, preparation)
    device = choose_device("auto")
    choice = choose_recipe(recipe_name, report, accelerator=device.type != "cpu", minutes=minutes)
    recipe = _sized(choice.recipe, steps, minutes)
    device = choose_device(recipe.run.device)
    dataset = _prepared(report, recipe, preparation)
    tokenizer = train_tokenizer(recipe, dataset)
    threads = min(recipe.run.threads or torch.get_num_threads(), os.cpu_count() or 1)
    torch.set_num_threads(threads)
    recipe = replace(recipe, run=replace(recipe.run, device=device.type, threads=threads))
    recipe, trainer, measured = _measured(recipe, dataset, tokenizer, device, preparation)
    run = RunFolder.create(path, recipe, folder)
    if tokenizer is not None:
        write_text(run.tokenizer_file, tokenizer.to_json())
    return RunContext(
        run, recipe, dataset, tokenizer, trainer, Batches(dataset, recipe, tokenizer), f"{choice.why} {measured}"
    )


def resumed_run(path: Path, preparation: SetupProgress) -> RunContext:
    """A run as it was left, its last state restored. RunProblem when there is none, or its state cannot be read."""
    run = RunFolder.open(path)
    recipe = run.recipe()
    folder = run.info().get("pictures")
    if not isinstance(folder, str):
        raise RunProblem(
            f"run.json of the run {run.name} is damaged", "it does not name the folder of pictures", "Start a new run"
        )
    report = inspected(Path(folder), preparation)
    dataset = _prepared(report, recipe, preparation)
    tokenizer = None
    if recipe.network.conditioning is Conditioning.TEXT:
        tokenizer = _stored_tokenizer(run) if run.tokenizer_file.exists() else train_tokenizer(recipe, dataset)
    device = choose_device(recipe.run.device)
    torch.set_num_threads(recipe.run.threads or torch.get_num_threads())
    trainer = _trainer(recipe, dataset, tokenizer, device)
    if run.state_file.exists():
        try:
            trainer.restore(torch.load(run.state_file, map_location=device, weights_only=True))
        except Exception as error:  # noqa: BLE001 - unpickling and loading raise whatever they meet
            raise RunProblem(
                f"The state of the run {run.name} cannot be read",
                "its file state.pt is damaged, or belongs to another network",
                "Start a new run; its checkpoints are still good",
            ) from error
    why = "Resumed where it was left."
    if trainer.fingerprint not in (None, dataset.file.name):
        why = "Resumed, but the folder has changed since, so it is not quite the same run from here on."
    return RunContext(run, recipe, dataset, tokenizer, trainer, Batches(dataset, recipe, tokenizer), why)


def _check_place(path: Path, folder: Path) -> None:
    """Before the pictures are looked at, which can take minutes."""
    what = f"The run cannot be kept in {str(path)[:200]}"
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
        there = next(place for place in (path, *path.absolute().parents) if place.exists())
    except (OSError, RuntimeError) as error:
        raise StorageProblem(
            what, getattr(error, "strerror", None) or str(error), "Choose another place with --run"
        ) from error
    if inside and folder.is_dir():
        raise RunProblem(
            what,
            "it lies in the folder of images, and its samples would be taken for more of them",
            "Choose another place with --run",
        )
    if not there.is_dir():
        raise StorageProblem(what, f"{there} is a file, not a folder", "Choose another place with --run")
    if not os.access(there, os.W_OK):
        raise StorageProblem(what, f"{there} may not be written to", "Choose another place with --run")


def inspected(folder: Path, preparation: SetupProgress) -> FolderReport:
    for seen in inspect_folder(folder):
        preparation.check()
        if not isinstance(seen, InspectionProgress):
            return seen
    raise AssertionError("an inspection ends in a report")


def _prepared(report: FolderReport, recipe: Recipe, preparation: SetupProgress) -> ImageDataset:
    return build_dataset(
        report,
        recipe.data,
        paths.cache() / "pictures",
        on_progress=preparation.decoded,
        cancelled=preparation.stop_asked,
    )


def train_tokenizer(recipe: Recipe, dataset: ImageDataset) -> CaptionTokenizer | None:
    if recipe.network.conditioning is not Conditioning.TEXT:
        return None
    return CaptionTokenizer.learn(dataset.captions, recipe.network.vocabulary)


def _stored_tokenizer(run: RunFolder) -> CaptionTokenizer:
    try:
        return CaptionTokenizer.from_json(run.tokenizer_file.read_text(encoding="utf-8"))
    except Exception as error:  # noqa: BLE001 - tokenizers raises bare Exception
        raise RunProblem(
            f"The words of the run {run.name} cannot be read",
            "its file tokenizer.json is damaged",
            "Start a new run; its checkpoints are still good",
        ) from error


def _trainer(
    recipe: Recipe, dataset: ImageDataset, tokenizer: CaptionTokenizer | None, device: torch.device
) -> Trainer:
    try:
        trainer = Trainer(
            recipe,
            classes=len(dataset.classes),
            device=device,
            vocabulary=tokenizer.vocabulary if tokenizer is not None else 0,
        )
    except ValueError as error:
        raise RunProblem("The recipe's network cannot be built", str(error), "Change its sizes") from error
    return trainer


def _measured(
    recipe: Recipe,
    dataset: ImageDataset,
    tokenizer: CaptionTokenizer | None,
    device: torch.device,
    preparation: SetupProgress,
) -> tuple[Recipe, Trainer, str]:
    """dtype and minutes resolved by trying: the recipe, its trainer, and what was found in a sentence."""
    candidates = ("float32", "bfloat16") if recipe.run.dtype == "auto" else (recipe.run.dtype,)
    if device.type == "mps":
        candidates = candidates[:1]
    tries: dict[str, tuple[float, Recipe, Trainer]] = {}
    needs_timing = len(candidates) > 1 or recipe.run.minutes > 0
    for dtype in candidates:
        tried = replace(recipe, run=replace(recipe.run, dtype=dtype))
        trainer = _trainer(tried, dataset, tokenizer, device)
        seconds = (
            seconds_per_step(trainer, Batches(dataset, tried, tokenizer), preparation.check) if needs_timing else 0.0
        )
        tries[dtype] = seconds, tried, trainer
    seconds, chosen, trainer = min(tries.values(), key=lambda tried: tried[0])
    said = (
        ""
        if len(candidates) < 2
        else (
            f"{chosen.run.dtype} because a step takes "
            + " and ".join(f"{tries[dtype][0]:.2f} s in {dtype}" for dtype in candidates)
            + ". "
        )
    )
    if chosen.run.minutes > 0:
        steps = max(FEWEST_STEPS, round(60 * chosen.run.minutes / seconds))
        minutes = f"{chosen.run.minutes:g} minute{'s are' if chosen.run.minutes != 1 else ' is'}"
        said += f"{minutes} {steps:,} steps."
        chosen = replace(chosen, run=with_steps(chosen.run, steps))
        trainer = _trainer(chosen, dataset, tokenizer, device)
    trainer.fingerprint = dataset.file.name
    return chosen, trainer, said.strip()


def with_steps(run: RunRecipe, steps: int) -> RunRecipe:
    """So many steps; where they are few, something is to be seen on the way all the same."""
    third, sixth = -(-steps // 3), -(-steps // 6)
    return replace(
        run,
        steps=steps,
        sample_every=min(run.sample_every, third),
        checkpoint_every=min(run.checkpoint_every, third),
        held_out_every=min(run.held_out_every, sixth),
    )


def _sized(recipe: Recipe, steps: int | None, minutes: float | None) -> Recipe:
    """The recipe with the length asked for."""
    run = recipe.run
    if steps is not None:
        run = replace(run, steps=steps, minutes=0.0)
    elif minutes is not None:
        run = replace(run, minutes=minutes)
    return replace(recipe, run=run)

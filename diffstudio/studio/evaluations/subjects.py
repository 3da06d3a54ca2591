"""What is evaluated: checkpoints trained here, and folders of generated images. No torch is imported here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from diffstudio import paths
from diffstudio.errors import (
    BadRequest,
    CheckpointDamaged,
    CheckpointMissing,
    CheckpointUnknown,
    DiffstudioError,
    RunProblem,
)
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import FAMILIES, is_trained_here
from diffstudio.models.detection.types import Role
from diffstudio.models.files.formats import INDEX
from diffstudio.models.library.library import Library
from diffstudio.training.recipe import DataRecipe, Recipe
from diffstudio.training.run.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class CheckpointSubject:
    """A checkpoint trained here, with the recipe of its run."""

    name: str
    checkpoint: Checkpoint
    recipe: Recipe


@dataclass(frozen=True, slots=True)
class FolderSubject:
    """A folder of generated images."""

    name: str
    folder: Path


Subject: TypeAlias = CheckpointSubject | FolderSubject

CHOSEN_BY_HELD_OUT = (
    "The held-out images were also used to choose the checkpoint: the latest of a run is the one with the lowest held-out "
    "measure, or the last if its images are nearer to them. Results on the same images may be slightly better than on new ones."
)


def find_subjects(names: tuple[str, ...], library: Library) -> list[Subject]:
    """A checkpoint or a folder for each name, under names that differ.

    CheckpointMissing, CheckpointDamaged; CheckpointUnknown for what was not trained here, and BadRequest for one that is
    named twice, and for checkpoints whose runs read their folders in different ways.
    """
    subjects: list[Subject] = []
    for name in names:
        found = _found(name, library)
        if any(_path_of(found) == _path_of(other) for other in subjects):
            raise BadRequest(f"{found.name} was given twice", remedy="Name each checkpoint and each folder once")
        if any(found.name == other.name for other in subjects):
            found = _renamed(found, f"{found.name} ({len(subjects) + 1})")
        subjects.append(found)
    checkpoints = [subject for subject in subjects if isinstance(subject, CheckpointSubject)]
    for other in checkpoints[1:]:
        first = checkpoints[0]
        check_same_reading(first.name, first.recipe.prepared, other.name, other.recipe.prepared)
    return subjects


def find_checkpoint(name: str, library: Library) -> Checkpoint:
    """A checkpoint of any family by its name or path, or the latest of a run. CheckpointMissing, CheckpointDamaged."""
    folder = _as_folder(name)
    if folder is not None and not (folder / INDEX).is_file() and RunFolder(folder).latest_checkpoint.is_file():
        return library.find(RunFolder(folder).latest_checkpoint)
    return library.find(name)


def image_folders(names: Iterable[str]) -> list[Path]:
    """The names that are folders of generated images."""
    folders = map(_as_folder, names)
    return [folder for folder in folders if folder is not None and _has_images(folder)]


def was_chosen_by_held_out(subject: Subject) -> bool:
    """Whether CHOSEN_BY_HELD_OUT applies, as it does to all checkpoints except those of a named step of a run."""
    if not isinstance(subject, CheckpointSubject):
        return False
    path = subject.checkpoint.path
    return path.parent.name != "checkpoints" or not path.stem.isdecimal()


def data_recipe(subjects: list[Subject]) -> DataRecipe | None:
    """How the folder is to be read: as the runs of the checkpoints read it. None where there is no checkpoint.

    Of their augmentations, under which copies are looked for, it has the strongest.
    """
    found = [subject.recipe.prepared for subject in subjects if isinstance(subject, CheckpointSubject)]
    if not found:
        return None
    return replace(
        found[0],
        flips=max(data.flips for data in found),
        rotation_degrees=max(data.rotation_degrees for data in found),
        translation=max(data.translation for data in found),
    )


def _found(name: str, library: Library) -> Subject:
    folder = _as_folder(name)
    if folder is not None and _has_images(folder):
        return FolderSubject(folder.resolve().name or str(folder), folder)
    if folder is not None and RunFolder(folder).latest_checkpoint.is_file():
        return _checkpoint(library.find(RunFolder(folder).latest_checkpoint))
    if _is_missing(name):
        raise CheckpointMissing(
            f"There is neither a checkpoint nor a folder of images at {name}",
            "it may have been moved, renamed or deleted",
            "Choose it again",
        )
    return _checkpoint(library.find(name))


def _has_images(folder: Path) -> bool:
    """Whether a folder holds images, rather than a run or a checkpoint in several files."""
    others = (folder / INDEX).is_file(), RunFolder(folder).latest_checkpoint.is_file(), paths.is_run(folder)
    return not any(others)


def _as_folder(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        return path if path.is_dir() else None
    except (OSError, ValueError, RuntimeError):  # no possible path: too long, or the home of an unknown user
        return None


def _is_missing(name: str) -> bool:
    """Whether a name is a path from the root of the disk at which nothing is."""
    try:
        return Path(name).is_absolute() and not Path(name).exists()
    except (OSError, ValueError):
        return False


def _checkpoint(checkpoint: Checkpoint) -> CheckpointSubject:
    if not checkpoint.can_generate:
        known = checkpoint.role is not Role.UNKNOWN
        raise CheckpointUnknown(
            f"{checkpoint.name} does not generate images",
            f"its type is {checkpoint.role.replace('_', ' ')}" if known else checkpoint.reason.rstrip("."),
            "Choose a checkpoint that was trained here",
        )
    if not is_trained_here(checkpoint.family):
        family = FAMILIES[checkpoint.family].title if checkpoint.family in FAMILIES else "another program"
        raise CheckpointUnknown(
            f"{checkpoint.name} was not trained here",
            f"it is of the family {family}, and which images it was trained on is not known",
            "Generate a folder of images with it, and evaluate that",
        )
    try:
        values = checkpoint.json("recipe")
        if not values:
            raise RunProblem("There is no recipe in its header")
        recipe = Recipe.from_run(values)
    except (RunProblem, CheckpointDamaged) as error:
        raise CheckpointDamaged(
            f"How {checkpoint.name} was trained is not known",
            error.what[:1].lower() + error.what[1:],
            "Generate a folder of images with it, and evaluate that folder",
        ) from error
    return CheckpointSubject(_name_of(checkpoint), checkpoint, recipe)


def _name_of(checkpoint: Checkpoint) -> str:
    """Its name in the library; that of its run, and its step, where the run is elsewhere."""
    if checkpoint.name != checkpoint.path.stem or checkpoint.path.parent.name != "checkpoints":
        return checkpoint.name
    run = checkpoint.path.parent.parent.name
    return run if checkpoint.path.stem == "latest" else f"{run}, {checkpoint.path.stem.lstrip('0')}"


def _path_of(subject: Subject) -> Path:
    return (subject.folder if isinstance(subject, FolderSubject) else subject.checkpoint.path).resolve()


def _renamed(subject: Subject, name: str) -> Subject:
    if isinstance(subject, CheckpointSubject):
        return CheckpointSubject(name, subject.checkpoint, subject.recipe)
    return FolderSubject(name, subject.folder)


def check_same_reading(first: str, one: DataRecipe, other: str, two: DataRecipe) -> None:
    """BadRequest if two runs with these names read their folders in different ways."""
    differences = [
        f"{what} ({a} and {b})"
        for what, a, b in (
            ("image size", one.size, two.size),
            ("background", one.background, two.background),
            ("fit", one.fit, two.fit),
            ("held-out fraction", one.held_out, two.held_out),
            ("excluded folders", ", ".join(one.exclude) or "none", ", ".join(two.exclude) or "none"),
            ("ranges of values", one.ranges, two.ranges),
            ("channels", one.channels, two.channels),
            ("bits", one.bits, two.bits),
            ("alpha", one.alpha, two.alpha),
            ("ranges of channels", one.channel_ranges, two.channel_ranges),
            ("classes", one.classes, two.classes),
        )
        if a != b
    ]
    if differences:
        raise BadRequest(
            f"{first} and {other} cannot be compared in one table",
            f"their runs read their folders with another {', '.join(differences)}",
            "Evaluate them one at a time",
        )


def run_of(subject: Subject) -> RunFolder | None:
    """The run whose folder a checkpoint lies in."""
    if not isinstance(subject, CheckpointSubject):
        return None
    try:
        return RunFolder.open(subject.checkpoint.path.parent.parent)
    except DiffstudioError:
        return None


def unknown_split(subject: Subject) -> str:
    """A note on a checkpoint whose run is unknown, such as a copied file, and with it the held-out images."""
    if not isinstance(subject, CheckpointSubject) or run_of(subject) is not None:
        return ""
    return (
        f"{subject.name} is not in the folder of its run, so the images are split by its recipe. It may have been trained on "
        "some of those that are held out here."
    )


def folder_of(run: RunFolder) -> Path | None:
    folder = run.info().get("pictures")
    return Path(folder).resolve() if isinstance(folder, str) else None

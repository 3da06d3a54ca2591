"""Which images of an inspected folder a recipe trains on. No torch."""

from __future__ import annotations

from pathlib import Path

from diffstudio.errors import FolderProblem
from diffstudio.training.data.folder_report import FolderReport, ImageRecord, Skipped, nothing_to_train_on
from diffstudio.training.data.pixel_choice import why_unfit
from diffstudio.training.recipe import DataRecipe


def usable_images(report: FolderReport, data: DataRecipe) -> tuple[list[ImageRecord], list[Skipped]]:
    """The images whose channels and shape fit the recipe, and those that do not fit; without excluded subfolders."""
    usable: list[ImageRecord] = []
    unfit: list[Skipped] = []
    for record in report.images:
        if _excluded(record.path, data.exclude):
            continue
        if why := why_unfit(record, data):
            unfit.append(Skipped(record.path, why))
        else:
            usable.append(record)
    return usable, unfit


def no_usable_images(report: FolderReport, unfit: list[Skipped]) -> FolderProblem:
    """The error for a folder none of whose images the recipe can use."""
    what = nothing_to_train_on(report.folder)
    if not unfit:
        return FolderProblem(what, "every subfolder is excluded", "Exclude fewer subfolders")
    return FolderProblem(what, f"{unfit[0].path}: {unfit[0].why}", "Change the recipe's channels or fit")


def _excluded(path: Path, exclude: tuple[str, ...]) -> bool:
    folders = path.parent.parts
    return any(folders[: len(parts)] == parts for name in exclude if (parts := Path(name).parts))

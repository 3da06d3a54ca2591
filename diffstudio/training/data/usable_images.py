"""Which images of an inspected folder a recipe trains on. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from diffstudio.errors import FolderProblem
from diffstudio.training.data.folder_report import FolderReport, ImageRecord, Skipped, nothing_to_train_on
from diffstudio.training.data.pixel_choice import why_other_channels, why_unfit
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


def is_usable(record: ImageRecord, data: DataRecipe) -> bool:
    return not _excluded(record.path, data.exclude) and not why_unfit(record, data)


def no_usable_images(report: FolderReport, unfit: Sequence[Skipped], data: DataRecipe) -> FolderProblem:
    """The error for a folder none of whose images the recipe can use."""
    what = nothing_to_train_on(report.folder)
    if not unfit:
        return FolderProblem(what, "every subfolder is excluded", "Exclude fewer subfolders")
    first = next(record for record in report.images if record.path == unfit[0].path)
    if why_other_channels(first, data):
        remedy = "Change the recipe's channels"
    else:
        remedy = "Set the recipe's fit to pad, which keeps whole images, or cut the images into less extreme shapes"
    which = "its only image" if len(unfit) == 1 else f"none of its {len(unfit):,} images"
    verb = "cannot be used" if len(unfit) == 1 else "can be used"
    return FolderProblem(what, f"{which} {verb} ({unfit[0].path}: {unfit[0].why})", remedy)


def _excluded(path: Path, exclude: tuple[str, ...]) -> bool:
    folders = path.parent.parts
    return any(folders[: len(parts)] == parts for name in exclude if (parts := Path(name).parts))

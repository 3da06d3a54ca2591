"""Folders of images inspected and decoded: real ones as their run reads them, generated ones like the real ones. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from diffstudio import paths
from diffstudio.errors import FolderProblem
from diffstudio.studio.evaluations.folders.real_folder import GeneratedFolder, RealFolder
from diffstudio.studio.evaluations.folders.value_ranges import ranges_of_generated
from diffstudio.studio.evaluations.progress import OnProgress
from diffstudio.training.data.dataset import ImageDataset, build_dataset
from diffstudio.training.data.folder_report import FolderReport, InspectionProgress
from diffstudio.training.data.inspect_folder import MIN_SIDE, finish_inspection
from diffstudio.training.data.pixel_choice import choose_pixels, with_ranges
from diffstudio.training.recipe import DataRecipe

LARGEST_SIDE = 224  # px, at which images are read where no checkpoint says how
_HELD_OUT_WITHOUT_RUN = 0.5


def read_real(folder: Path, data: DataRecipe | None, report: OnProgress, check: Callable[[], None]) -> RealFolder:
    """Inspect and decode a folder, split by its recipe; without one in halves, at the size of its images up to 224 px.

    FolderProblem, StorageProblem, RunProblem.
    """
    found = inspected(folder, report, check)
    if data is None:
        side = max(MIN_SIDE, min(LARGEST_SIDE, found.sides[1]))
        data = DataRecipe(size=side, fit="crop", held_out=_HELD_OUT_WITHOUT_RUN, flips=0.0)
        data, _ = choose_pixels(data, found, 1)
    data = with_ranges(data, found)  # which runs of before did not store
    return RealFolder(found, _decoded(found, data, report, check), data)


def read_generated(
    folder: Path,
    real: RealFolder,
    report: OnProgress,
    check: Callable[[], None],
    *,
    name: str = "",
    same_units: bool = False,
) -> GeneratedFolder:
    """Generated images, decoded as the real ones were; none is held out or excluded. Ranges: see `ranges_of_generated`.

    `name`: what sentences call the folder, if not by its own name.
    """
    found = inspected(folder, report, check)
    ranges, notes = ranges_of_generated(name or folder.name, found, real, same_units=same_units)
    data = replace(real.data, held_out=0.0, exclude=(), ranges=ranges)
    dataset = _decoded(found, data, report, check, "Give images of the same kind as the real ones")
    return GeneratedFolder(name or folder.name, found, dataset, tuple(notes))


def inspected(folder: Path, report: OnProgress, check: Callable[[], None]) -> FolderReport:
    """The report on the folder's images. FolderProblem."""

    def on_progress(item: InspectionProgress) -> None:
        check()
        report(f"Reading {folder.name}", item.done, item.total)

    with _nothing_to_measure(folder):
        return finish_inspection(folder, on_progress)


@contextmanager
def _nothing_to_measure(folder: Path, remedy: str = "") -> Iterator[None]:
    """Turns the error that there is nothing to train on into one that there is nothing to measure, with its own remedy."""
    try:
        yield
    except FolderProblem as error:
        raise FolderProblem(f"There is nothing to measure in {folder}", error.why, remedy or error.remedy) from error


def _decoded(
    found: FolderReport, data: DataRecipe, report: OnProgress, check: Callable[[], None], remedy: str = ""
) -> ImageDataset:
    def on_progress(done: int, images: int) -> None:
        check()
        report(f"Decoding {found.folder.name}", done, images)

    with _nothing_to_measure(found.folder, remedy):
        return build_dataset(found, data, paths.prepared_images(), on_progress=on_progress)

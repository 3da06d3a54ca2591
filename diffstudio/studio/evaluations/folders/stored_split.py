"""A folder with the split, the captions and the classes that a run stored. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from diffstudio.studio.evaluations.folders.changes_since_run import changes
from diffstudio.studio.evaluations.folders.real_folder import RealFolder
from diffstudio.studio.evaluations.progress import OnProgress
from diffstudio.studio.evaluations.subjects import Subject, folder_of, run_of
from diffstudio.training.preparation.stored_dataset import StoredDataset
from diffstudio.training.run.run_folder import RunFolder


def with_split_of_run(
    real: RealFolder, subjects: Sequence[Subject], report: OnProgress, check: Callable[[], None]
) -> tuple[RealFolder, str]:
    """By the run of the first checkpoint that lies in one; another folder than the run's is read by the recipe alone."""
    for run in filter(None, map(run_of, subjects)):
        trained_on = folder_of(run)
        if trained_on == real.report.folder.resolve() or trained_on is not None and not trained_on.exists():
            return with_stored_dataset(real, run, report, check)
    return real, ""


def with_stored_dataset(
    real: RealFolder, run: RunFolder, report: OnProgress, check: Callable[[], None]
) -> tuple[RealFolder, str]:
    """The folder with the split, the captions and the classes that its run stored, and what has changed in it since.

    Unchanged if the run did not store them, or most of its images are not in the folder.
    RunProblem where what it stored is damaged.
    """
    stored = StoredDataset.read(run.dataset_file)
    known = {path.as_posix() for path in real.dataset.paths}
    if stored is None or 2 * sum(path in known for path in stored.paths) < len(stored.paths):
        return real, ""
    dataset = stored.among(real.dataset)
    return replace(real, dataset=dataset), " ".join(changes(real, stored, dataset, run.name, report, check))

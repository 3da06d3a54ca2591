"""What has changed in a folder since a run read it: images added, removed, or with other pixels. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from diffstudio.plurals import count_of
from diffstudio.studio.evaluations.folders.equal_images import digest, pixels_of
from diffstudio.studio.evaluations.folders.real_folder import RealFolder
from diffstudio.studio.evaluations.progress import OnProgress, each
from diffstudio.training.data.dataset import ImageDataset
from diffstudio.training.preparation.stored_dataset import StoredDataset, state_of_folder


def changes(
    real: RealFolder,
    stored: StoredDataset,
    dataset: ImageDataset,
    run: str,
    report: OnProgress,
    check: Callable[[], None],
) -> Iterator[str]:
    """What has changed in a folder since a run started, in sentences. `dataset` are the run's images as they are now."""
    folder = real.report.folder
    if added := len(real.dataset) - len(dataset):
        yield f"{count_of(added, 'image')} added to {folder.name} after {run} started: not used."
    if gone := len(stored.paths) - len(dataset):
        yield f"{count_of(gone, 'image')} of {run} {'is' if gone == 1 else 'are'} no longer in {folder.name}: not measured."
    if dataset.file.name == stored.prepared:
        return
    before = stored.open_prepared()
    if before is not None:
        if other := count_changed(before, dataset, f"Looking for changed images in {folder.name}", report, check):
            yield (
                f"{count_of(other, 'image')} of {folder.name} {'is' if other == 1 else 'are'} not as {run} was trained on: "
                "what is measured on them is not about what it learnt."
            )
    elif not added and not gone and state_of_folder(folder) != stored.state_of_folder:
        yield f"Files of {folder.name} have changed since {run} started: some images may not be those it was trained on."


def count_changed(
    before: ImageDataset, now: ImageDataset, what: str, report: OnProgress, check: Callable[[], None]
) -> int:
    """How many images have other pixels than they had before; none if they are read in another form or at another size."""
    number_of = {path: number for number, path in enumerate(before.paths)}
    numbers = [number_of[path] for path in now.paths]
    same_sizes = np.array_equal(before.sizes[numbers], now.sizes)
    if not same_sizes or (before.channels, before.masked) != (now.channels, now.masked):
        return 0
    pairs = zip(pixels_of(before, numbers), pixels_of(now, range(len(now))), strict=True)
    return sum(digest(one) != digest(other) for one, other in each(pairs, len(now), what, report, check))

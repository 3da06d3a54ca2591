"""The numbers of images in a comparison: equal for all rows, because the measures depend on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass

from diffstudio.errors import DiffstudioError
from diffstudio.evaluation.report import FEWEST
from diffstudio.studio.evaluations.folders.checks import check_conditioning
from diffstudio.studio.evaluations.folders.real_folder import RealFolder
from diffstudio.studio.evaluations.subjects import FolderSubject, Subject

_MOST_BY_DEFAULT = 1000  # images generated with a checkpoint


@dataclass(frozen=True)
class Counts:
    """The numbers of images of one comparison."""

    compared: int  # in each row of the table
    classified: int  # that the classifier of each row is trained on
    to_generate: int | None  # with each checkpoint, as requested


def images_to_generate(requested: int | None, available: int) -> int:
    """The number of images to generate with a checkpoint, given the `available` held-out images."""
    return requested or min(max(available, FEWEST), _MOST_BY_DEFAULT)


def counts_of(
    subjects: Iterable[Subject], folders: Mapping[str, Sized], real: RealFolder, requested: int | None
) -> Counts:
    """The counts: the smallest number of images of any row that has enough for the table."""
    found = [images_to_generate(requested, len(real.held_out))]
    for subject in subjects:
        if isinstance(subject, FolderSubject):
            found.append(len(folders[subject.name]))
            continue
        try:
            found.append(images_to_generate(requested, len(check_conditioning(subject, real)[0])))
        except DiffstudioError:
            continue  # it is not measured, and its row says why
    fewest = min(count for count in found if count >= FEWEST)
    return Counts(min(fewest, len(real.training), len(real.held_out)), min(fewest, len(real.training)), requested)

"""What would make a figure wrong, and is refused: unknown classes, equal images, real images among generated ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from diffstudio.errors import BadRequest, FolderProblem
from diffstudio.networks.conditioning import Conditioning
from diffstudio.plurals import by_number
from diffstudio.studio.evaluations.folders.equal_images import digests, shared_images
from diffstudio.studio.evaluations.folders.real_folder import GeneratedFolder, RealFolder
from diffstudio.studio.evaluations.progress import OnProgress
from diffstudio.studio.evaluations.subjects import CheckpointSubject

_NAMED = 3  # files that a message names


def check_conditioning(subject: CheckpointSubject, real: RealFolder) -> tuple[NDArray[np.int64], str]:
    """The held-out images whose captions or classes the checkpoint can be asked for, and a note on the others.

    BadRequest where there are none.
    """
    kind = subject.checkpoint.conditioning
    held_out = real.held_out
    if kind is Conditioning.NONE:
        return held_out, ""
    labels = real.labels(kind, held_out)
    if kind is Conditioning.TEXT:
        known = [bool(label.strip()) for label in labels]
        needed, lacking = "captions", "no caption"
    else:
        classes = {name.casefold() for name in subject.checkpoint.classes}
        known = [label.casefold() in classes for label in labels]
        needed = f"the classes {', '.join(subject.checkpoint.classes[:_NAMED])}"
        needed += ", …" if len(subject.checkpoint.classes) > _NAMED else ""
        lacking = "a class that it does not know"
    if not any(known):
        raise BadRequest(
            f"{subject.name} cannot be evaluated on {real.report.folder.name}",
            f"it generates from {needed}, and the held-out images have none of them",
            "Evaluate it on the folder that it was trained on",
        )
    left = len(known) - sum(known)
    note = f"{left:,} of {len(known):,} held-out images have {lacking}: {subject.name} was not asked for them."
    return held_out[np.array(known)], note if left else ""


def check_varied(real: RealFolder, report: OnProgress, check: Callable[[], None], *, held_out: bool = True) -> None:
    """BadRequest for a folder in which one part holds a single image, however often. `held_out`: check that part too."""
    for what, indices in (("training", real.training), ("held-out", real.held_out)):
        if what == "held-out" and not held_out:
            continue
        name = real.report.folder.name
        if len(indices) and len(set(digests(real.dataset, indices, name, report, check))) == 1:
            raise BadRequest(
                f"The {what} images of {name} cannot be compared with",
                f"all {len(indices):,} are equal" if len(indices) > 1 else "there is only one",
                "Use a folder of different images",
            )


def check_no_real_images(
    generated: GeneratedFolder, real: RealFolder, report: OnProgress, check: Callable[[], None]
) -> None:
    """FolderProblem where a folder of generated images has images of the real folder, which would measure themselves."""
    found = shared_images(generated.name, generated.dataset, real, report, check)
    if found:
        held_out = {real.dataset.paths[index] for index in real.held_out}
        training = sum(other not in held_out for _, other in found)
        shown = ", ".join(f"{path} is {other}" for path, other in found[:_NAMED]) + (", …" if found[_NAMED:] else "")
        raise FolderProblem(
            f"{len(found):,} of {len(generated):,} images in {generated.name} "
            f"{by_number(len(found), 'is a real image', 'are real images')} of {real.report.folder.name}",
            f"{training:,} of its training part and {len(found) - training:,} of its held-out part: {shown}",
            "Give a folder that holds generated images alone",
        )

"""Anomalies among the normal images themselves, which hide similar ones. Said in sentences. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from diffstudio.errors import listed
from diffstudio.evaluation.anomalies.groups import apart
from diffstudio.studio.evaluations.folders.real_folder import RealFolder

if TYPE_CHECKING:
    from diffstudio.studio.evaluations.anomalies.detectors import Detectors

Indices = NDArray[np.int64]  # of images of the folder of normal images
_NAMED = 3


def notes_on_normals(
    real: RealFolder, training: Indices, held_out: Indices, detectors: Detectors, suspicious: Sequence[str]
) -> list[str]:
    """Sentences on normal images that are probably none: those that are unlike the others, alone or in small groups, and
    the `suspicious` held-out ones, which score far above the others.
    """
    notes = []
    images, points = _points(training, held_out, detectors)
    paths = [real.dataset.paths[int(index)].as_posix() for index in images[apart(points)]]
    if found := [path for path in paths if path not in suspicious]:
        are = "are" if len(found) > 1 else "is"
        notes.append(
            f"{len(found):,} of {len(images):,} normal images {are} unlike the others, alone or in small groups: "
            f"{listed(found, _NAMED)}. If they are anomalies, remove them: similar anomalies are near to them, and "
            "are not found."
        )
    if suspicious:
        notes.append(
            f"{len(suspicious):,} of {len(held_out):,} held-out normal images score far above the others, such as "
            f"{suspicious[0]}. If they are anomalies, remove them from the normal images: they hide similar anomalies."
        )
    return notes


def _points(training: Indices, held_out: Indices, detectors: Detectors) -> tuple[Indices, NDArray[np.float32]]:
    """Images of both parts, and points [N,D] whose distances say how alike they are: summaries of their features.

    The training images are those that the bank of patches is drawn from. Images that are neither grey nor RGB have no
    features; of these the pixels of the training part are compared.
    """
    if detectors.patches is None:
        return training, detectors.pixels.normals.flatten(1).numpy()
    images = np.concatenate([training[detectors.patches.used], held_out])
    return images, np.concatenate([detectors.patches.summaries, detectors.held_out_summaries])
